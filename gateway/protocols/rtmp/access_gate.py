"""Gate on a client's connect, publish and play, in an RTMP connection that passes through the gateway.

    up     the handshake passes; then each command waits for its verdict, and everything else passes
    down   everything passes; it is read until the first publish or play is allowed, to know where a refusal
           can be inserted

Whatever servers understand differently is an error, because a client could hide a request in it:

- RTMPE, a command before connect, and a second connect.
- A command name with other characters than letters, digits and underscores: some servers read it up to a
  zero byte. Names are compared without case, as nginx-rtmp does.
- A stream name with control characters, a connect with two applications, and one whose URL has another
  application: SRS takes that.
- A data message with the name of a command: nginx-rtmp and SRS process it.
- A ``releaseStream`` or ``FCPublish`` with another name than the publish: SRS publishes under that name.

A refused connect is answered with ``_error``, and a refused publish or play with ``onStatus``; then the
session has to end. There is no answer on a connection that already publishes or plays: its media is not
read here, so the end of a chunk is not known.
"""

from __future__ import annotations

import re
from typing import Final, final

import attrs

from gateway.errors import RTMPError
from gateway.protocols.access import AccessRequest, Action
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.answers import request_refused
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkLimits, ChunkReader
from gateway.protocols.rtmp.command_filter import CommandFilter
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES,
    Command,
    application_of,
    read_command,
    stream_name,
)
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, VERSION
from gateway.protocols.rtmp.messages import Message, MessageType

_COMMAND_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
# Any name that servers cannot cut short; the names of handlers of NetStream.send are arbitrary.
_DATA_NAME: Final = re.compile(r"[ -~]{1,255}")
_DATA: Final = frozenset({MessageType.DATA, MessageType.DATA_AMF3})
_ACTIONS: Final = {
    "connect": Action.CONNECT,
    "publish": Action.PUBLISH,
    "play": Action.PLAY,
    "play2": Action.PLAY,
}
_NO_DATA: Final = frozenset(
    {
        *("connect", "createstream", "publish", "play", "play2", "releasestream"),
        *("fcpublish", "fcsubscribe"),
    }
)
_ANNOUNCEMENTS: Final = frozenset({"releasestream", "fcpublish"})
# The cost of a request in chunks, because a callback may have to be called: a client can make a hundred at
# once, and five a second.
_REQUEST_CHUNKS: Final = 50
# The key of the application in a connect's object.
_APPLICATION_KEY: Final = b"\x00\x03app"
_URL_KEY: Final = b"\x00\x05tcUrl"
_REPLACEMENT_CHARACTER: Final = "\ufffd"
# No server uses it, so an answer on it does not depend on the server's headers.
_OWN_CHUNK_STREAM: Final = 60
_DOWN_LIMITS: Final = ChunkLimits(message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES)
_DOWN_SKIPPED: Final = frozenset(range(256)) - {
    *(MessageType.SET_CHUNK_SIZE, MessageType.ABORT, MessageType.WINDOW_ACKNOWLEDGEMENT_SIZE)
}


@final
class AccessGate:
    """While ``request`` is set, it waits for ``allow`` or ``refuse``; what is passed to ``up`` is stored
    meanwhile, within a limit.

    ``up`` and ``allow`` return the bytes for the server, and raise RTMPError; the connection must end then.
    """

    __slots__ = (
        "_announced",
        "_command",
        "_connect",
        "_down",
        "_down_left",
        "_filter",
        "_up_left",
        "request",
    )

    def __init__(self) -> None:
        self.request: AccessRequest | None = None
        self._filter = CommandFilter()
        self._up_left = self._down_left = HANDSHAKE_BYTES
        # None if no answer can be inserted any more.
        self._down: ChunkReader | None = ChunkReader(_DOWN_LIMITS, _DOWN_SKIPPED)
        # The request of the allowed or waiting connect; None before it.
        self._connect: AccessRequest | None = None
        # The command of ``request``.
        self._command: Command | None = None
        # The name that releaseStream or FCPublish has had, and no publish yet; None if there is none.
        self._announced: str | None = None

    def up(self, data: bytes, now: float) -> bytes:
        """Process bytes from the client."""
        if not self._up_left:
            return self._until_request(self._filter.receive(data, now))
        if self._up_left == HANDSHAKE_BYTES and data and data[0] != VERSION:
            raise RTMPError(f"handshake version {data[0]}, which cannot be checked")
        handshake, rest = data[: self._up_left], data[self._up_left :]
        self._up_left -= len(handshake)
        return handshake + self._until_request(self._filter.receive(rest, now))

    def down(self, data: bytes) -> None:
        """Process bytes from the server, which pass unchanged."""
        skipped = min(self._down_left, len(data))
        self._down_left -= skipped
        if self._down is None or skipped == len(data):
            return
        try:
            self._down.feed(data[skipped:])
        except RTMPError:
            # The client decides what to do about it.
            self._down = None

    def allow(self, stream: str = "") -> bytes:
        """Pass the command of ``request``, with another stream name if ``stream`` is not empty."""
        request, command, message = self.request, self._command, self._filter.command
        if request is None or command is None or message is None:
            raise ValueError("no request waits")
        if request.action is not Action.CONNECT:
            self._down = None
        self.request = self._command = None
        replacement = _renamed(command, message, stream) if stream else None
        return self._until_request(self._filter.resume(replacement))

    def refuse(self, description: str) -> bytes:
        """The answer with the refusal for the client; empty if it cannot be inserted."""
        request, command, down = self.request, self._command, self._down
        if request is None or command is None or down is None:
            return b""
        if self._down_left or not down.is_between_chunks:
            return b""
        writer = ChunkWriter(down.chunk_size)
        return writer.write(_refusal(request.action, command, description), _OWN_CHUNK_STREAM)

    def _until_request(self, out: bytes) -> bytes:
        """Pass all commands up to the next one that needs a verdict. Returns ``out`` and their bytes."""
        pieces = [out]
        while self.request is None and (message := self._filter.command) is not None:
            if message.type in _DATA:
                _check_data(message)
                pieces.append(self._filter.resume())
                continue
            command = read_command(message)
            if command is None or not _COMMAND_NAME.fullmatch(command.name):
                raise RTMPError("a command name that servers may read in different ways")
            self.request = self._request(command, message.payload)
            if self.request is not None:
                self._filter.charge(_REQUEST_CHUNKS)
                self._command = command
            else:
                pieces.append(self._filter.resume())
        return b"".join(pieces) if len(pieces) > 1 else out

    def _request(self, command: Command, payload: bytes) -> AccessRequest | None:
        """What ``command`` asks for, if it needs a verdict."""
        name = command.name.lower()
        if (name == "connect") == (self._connect is not None):
            raise RTMPError(f"{command.name!r} out of turn")
        if name == "connect":
            self._connect = _read_connect(command, payload)
            return self._connect
        if name in _ANNOUNCEMENTS:
            self._announce(_checked(stream_name(command)))
        action = _ACTIONS.get(name)
        if action is None or self._connect is None:
            return None
        return self._stream_request(action, command, self._connect)

    def _stream_request(
        self, action: Action, command: Command, connect: AccessRequest
    ) -> AccessRequest | None:
        stream = command.argument(0)
        if isinstance(stream, dict):
            stream = stream.get("streamName")
        if stream is False:
            # The client stops.
            return None
        if not isinstance(stream, str):
            raise RTMPError(f"{command.name} without a stream name")
        _checked(stream)
        if action is Action.PUBLISH:
            self._announce(stream)
            self._announced = None
        return attrs.evolve(connect, action=action, stream=stream)

    def _announce(self, stream: str) -> None:
        name = stream.partition("?")[0]
        if self._announced not in (None, name):
            raise RTMPError("publish with another name than before")
        self._announced = name


def _read_connect(command: Command, payload: bytes) -> AccessRequest:
    given = command.object
    if not isinstance(given, dict) or payload.count(_APPLICATION_KEY) != 1:
        raise RTMPError("connect without one application")
    application = application_of(_checked(_text(given.get("app"))))
    tc_url = _checked(_text(given.get("tcUrl")))
    if payload.count(_URL_KEY) > 1 or (tc_url and application != _application_in(tc_url)):
        raise RTMPError("connect with another application in its URL")
    return AccessRequest(
        Action.CONNECT,
        application,
        tc_url=tc_url,
        page_url=_text(given.get("pageUrl")),
        swf_url=_text(given.get("swfUrl")),
        flash_version=_text(given.get("flashVer")),
    )


def _application_in(tc_url: str) -> str:
    """The application in a URL."""
    return application_of(tc_url.partition("://")[2].partition("/")[2])


def _check_data(message: Message) -> None:
    """Raise RTMPError if servers may process a data message as a command."""
    is_amf3 = message.type == MessageType.DATA_AMF3
    if is_amf3 and not message.payload.startswith(b"\0"):
        raise RTMPError("data without a format")
    name = amf0.Decoder(message.payload, int(is_amf3)).value()
    if not isinstance(name, str) or not _DATA_NAME.fullmatch(name) or name.lower() in _NO_DATA:
        raise RTMPError("data with a name that servers may take for a command")


def _checked(name: str) -> str:
    if not name.isprintable() or _REPLACEMENT_CHARACTER in name:
        raise RTMPError("a name that servers may read in different ways")
    return name


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""


def _refusal(action: Action, command: Command, description: str) -> Message:
    if action is not Action.CONNECT:
        return request_refused(action, command.stream_id, description)
    information: Value = {
        "level": "error",
        "code": "NetConnection.Connect.Rejected",
        "description": description,
    }
    return Command("_error", command.transaction, None, (information,)).message()


def _renamed(command: Command, message: Message, stream: str) -> Message:
    """``message`` with another stream name."""
    first = command.argument(0)
    renamed: Value = stream
    if isinstance(first, dict):
        renamed = {**first, "streamName": stream}
    values = (command.name, command.transaction, command.object, renamed, *command.arguments[1:])
    prefix = message.payload[:1] if message.type == MessageType.COMMAND_AMF3 else b""
    return attrs.evolve(message, payload=prefix + amf0.encode(*values))
