"""The connect command as its bytes: the properties of its object are read and replaced in place.

A connect has a name, a transaction number, the command object, and any arguments. Everything that is not
replaced keeps its bytes and its place: unknown properties, the order, AMF3 values, and all that follows the
object. What cannot be decoded ends the reading, not the connection: the server judges it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.amf0 import Decoder
from gateway.protocols.rtmp.messages import Message, MessageType

# The host in a tcUrl, without its port.
_HOST: Final = re.compile(r"[a-z]{1,8}://(?P<name>\[[0-9A-Fa-f:.]+\]|[^/:?\[\]]+)", re.IGNORECASE)
_NAME: Final = "connect"
_OBJECT: Final = 0x03
_AMF3: Final = 0x11
_END_OF_OBJECT_BYTES: Final = 3


@frozen
class _Property:
    """A property of the command object. ``begin`` and ``end``: the extent of its value in the payload."""

    name: str
    value: Value
    begin: int
    end: int


@frozen
class ConnectCommand:
    """A connect. ``object_end``: where properties can be added in ``payload``; None if the object cannot be
    read to its end.
    """

    payload: bytes
    transaction: float
    properties: tuple[_Property, ...]
    object_end: int | None

    def text(self, name: str) -> str:
        """The string property of that name, or empty. Of several, servers use the last one."""
        values = [each.value for each in self.properties if each.name == name]
        return values[-1] if values and isinstance(values[-1], str) else ""

    def with_texts(self, texts: Mapping[str, str]) -> bytes:
        """The payload with other values of these properties. Those that are missing are added.

        A value in AMF3 stays, because later ones can refer to it.
        """
        pieces, at = [], 0
        for each in self.properties:
            if each.name in texts and self.payload[each.begin] != _AMF3:
                pieces += [self.payload[at : each.begin], amf0.encode(texts[each.name])]
                at = each.end
        known = {each.name for each in self.properties}
        if self.object_end is not None:
            pieces.append(self.payload[at : self.object_end])
            pieces += [_property(name, texts[name]) for name in texts if name not in known]
            at = self.object_end
        return b"".join([*pieces, self.payload[at:]])

    def template_values(self, server: str) -> dict[str, str]:
        """The values of the names in ``protocols/templates``, for a client of this server."""
        url = self.text("tcUrl")
        host = _HOST.match(url)
        return {
            "app": self.text("app"),
            "host": host["name"] if host else "",
            "page_url": self.text("pageUrl"),
            # Without the scheme of a server that is not reached by plain RTMP.
            "server": server.rpartition("/")[2],
            "swf_url": self.text("swfUrl"),
            "tc_url": url,
        }


def read_connect_command(message: Message) -> ConnectCommand:
    """The connect in ``message``. Raises RTMPError if it is another command, or none."""
    payload = message.payload
    decoder = Decoder(payload, 1 if message.type == MessageType.COMMAND_AMF3 else 0)
    name, transaction = decoder.value(), decoder.value()
    if name != _NAME or not isinstance(transaction, float):
        raise RTMPError("the first command is not a connect")
    if payload[decoder.at : decoder.at + 1] != bytes([_OBJECT]):
        return ConnectCommand(payload, transaction, (), None)
    decoder.at += 1
    properties: list[_Property] = []
    object_end = _read_properties(decoder, properties)
    return ConnectCommand(payload, transaction, tuple(properties), object_end)


def _read_properties(decoder: Decoder, properties: list[_Property]) -> int | None:
    """Read the properties of the object at the decoder. Returns where it ends, before its end marker."""
    try:
        for name in decoder.names():
            begin = decoder.at
            properties.append(_Property(name, decoder.value(), begin, decoder.at))
    except RTMPError:
        return None
    return decoder.at - _END_OF_OBJECT_BYTES


def _property(name: str, text: str) -> bytes:
    encoded = name.encode()
    return len(encoded).to_bytes(2, "big") + encoded + amf0.encode(text)
