"""RTMP commands: the AMF0 calls and results that set up a connection and its streams.

A command has a name, a transaction number (0 if no result is expected), a command object, and arguments.
``read_command`` parses a message; ``ConnectRequest`` and ``stream_name`` interpret a command, for servers
and for the passive reader.

Flash Player with object encoding 3 sends commands as message type 17: a format byte, zero for AMF0, and
AMF0 whose arguments can be AMF3. It accepts results as type 20.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import frozen

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.messages import Message, MessageType

# The largest command observed is a connect with signed URLs, of about 8 kB. Decoding costs time per byte.
COMMAND_BYTES: Final = 64 * 1024
# Decoding 8 bytes of a command costs as much as reading a chunk, because every byte can be a value.
COMMAND_BYTES_A_CHUNK: Final = 8
_FORMAT_AMF0: Final = b"\0"
# The length of a description in a log line or in the gateway's own error.
_SHOWN_CHARACTERS: Final = 200


# The name that Flash Media Server and Wowza have for an application's default instance.
_DEFAULT_INSTANCE: Final = "/_definst_"


@frozen
class Command:
    """A call or result. ``stream_id``: the message stream of its message."""

    name: str
    transaction: float
    object: Value = None
    arguments: tuple[Value, ...] = ()
    stream_id: int = 0

    def argument(self, index: int) -> Value:
        """The argument at ``index``, or None if there are fewer."""
        return self.arguments[index] if index < len(self.arguments) else None

    def message(self) -> Message:
        """This command as a message to send."""
        payload = amf0.encode(self.name, self.transaction, self.object, *self.arguments)
        return Message(MessageType.COMMAND, payload, self.stream_id)


@frozen
class ConnectRequest:
    """The parameters of a connect. ``app`` is as the client sent it, with its query."""

    app: str
    tc_url: str
    flash_version: str
    object_encoding: float
    enhanced: bool


def read_command(message: Message) -> Command | None:
    """The command in ``message``, or None if it is of another type; ``RTMPError`` if malformed."""
    if message.type not in (MessageType.COMMAND, MessageType.COMMAND_AMF3):
        return None
    if len(message.payload) > COMMAND_BYTES:
        raise RTMPError(f"command of {len(message.payload)} bytes")
    values = amf0.decode(_without_format(message))
    if len(values) < 2 or not isinstance(values[0], str) or not isinstance(values[1], float):
        raise RTMPError("a command without name and transaction")
    command_object = values[2] if len(values) > 2 else None
    return Command(values[0], values[1], command_object, tuple(values[3:]), message.stream_id)


def _without_format(message: Message) -> bytes:
    if message.type == MessageType.COMMAND:
        return message.payload
    if not message.payload.startswith(_FORMAT_AMF0):
        raise RTMPError("a command of type 17 in an unknown format")
    return message.payload[len(_FORMAT_AMF0) :]


def read_connect(command: Command) -> ConnectRequest:
    """The connect that ``command`` is; what a client left out is empty."""
    given = command.object if isinstance(command.object, dict) else {}
    encoding = given.get("objectEncoding")
    return ConnectRequest(
        app=_text(given.get("app")),
        tc_url=_text(given.get("tcUrl")),
        flash_version=_text(given.get("flashVer")),
        object_encoding=encoding if isinstance(encoding, float) else 0.0,
        enhanced="fourCcList" in given,
    )


def application_of(app: str) -> str:
    """The application in a connect's ``app``, as servers understand it: without query, outer slashes, and
    the default instance's name.
    """
    return app.partition("?")[0].strip("/").removesuffix(_DEFAULT_INSTANCE)


def stream_name(command: Command) -> str:
    """The name a publish, play, releaseStream, FCPublish or the like is about; empty if none."""
    return _text(command.argument(0))


def description_of(command: Command) -> str:
    """The description in the information object of a status or error, or its code, in one line."""
    information = command.argument(0)
    given = information if isinstance(information, dict) else {}
    text = given.get("description") or given.get("code") or command.name
    return " ".join(str(text).split())[:_SHOWN_CHARACTERS]


def stream_number(value: Value) -> int:
    """A message stream id given as an AMF0 number; 0, which is never one, if it is none."""
    if isinstance(value, float) and math.isfinite(value) and 0 < value < 1 << 32:
        return int(value)
    return 0


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""
