"""The tester's side of an RTMP connection: handshake, connect, play and pings, as bytes in and bytes out.

The caller sends ``hello`` first, then whatever ``receive`` and the calls return, and reads the results from
the attributes. Nothing is published, and no media is kept.
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from gateway.protocols.port_test.measuring import BLOCK_BYTES, MEASURE
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command, stream_number
from gateway.protocols.rtmp.handshake import ClientHandshake
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    acknowledgement,
    read_ping_request,
    read_ping_response,
    set_chunk_size,
    user_control,
)

_CONNECT, _CREATE_STREAM, _PLAY, _MEASURE = 1.0, 2.0, 3.0, 4.0
# FFmpeg's player; servers choose codecs and refuse clients by the version.
_FLASH_VERSION: Final = "LNX 9,0,124,2"
_MEDIA: Final = frozenset({MessageType.AUDIO, MessageType.VIDEO, MessageType.AGGREGATE})
# Not the end of a play's answer: the server says this first.
_PRELIMINARY: Final = frozenset({"NetStream.Play.Reset", "NetStream.Play.PublishNotify"})


class Dialogue:
    """One connection. ``random`` fills the handshake (``handshake.RANDOM_BYTES``).

    ``code``: of the answer to connect, and ``description`` its text. ``stream_code``: of that to play.
    ``media``: messages of media received, and ``media_ms`` the timestamp of the last one. ``pongs``: the
    times in answered pings. ``begun``: whether the server has sent anything. ``permitted``: whether the
    last measurement is; None before the answer. ``limit_bytes_per_s``: of measurements.
    """

    __slots__ = (
        *("_handshake", "_pings", "_reader", "_stream", "_writer"),
        *("begun", "code", "description", "media", "media_ms", "pongs", "stream_code"),
        *("limit_bytes_per_s", "permitted"),
    )

    def __init__(self, random: bytes) -> None:
        self._handshake = ClientHandshake(0, random)
        self._reader = ChunkReader()
        self._writer = ChunkWriter()
        self._stream = ""
        self.code = self.description = self.stream_code = ""
        self.media = self.media_ms = 0
        # The times in pings without an answer.
        self._pings: set[int] = set()
        self.pongs: set[int] = set()
        self.begun = False
        self.permitted: bool | None = None
        self.limit_bytes_per_s: float | None = None

    @property
    def hello(self) -> bytes:
        return self._handshake.hello

    @property
    def shaken(self) -> bool:
        """Whether the handshake is complete."""
        return self._handshake.done

    @property
    def accepted(self) -> bool:
        """Whether the application has accepted the connection."""
        return self.code == "NetConnection.Connect.Success"

    def connect(self, application: str, url: str) -> bytes:
        """Connect to an application; ``url`` is that of the application, with the protocol used."""
        asked: dict[str, Value] = {
            "app": application,
            "flashVer": _FLASH_VERSION,
            "tcUrl": url,
            "fpad": False,
            "capabilities": 15.0,
            "audioCodecs": 4071.0,
            "videoCodecs": 252.0,
            "videoFunction": 1.0,
        }
        return self._write(Command("connect", _CONNECT, asked))

    def play(self, stream: str) -> bytes:
        """Create a message stream; ``receive`` plays ``stream`` on it."""
        self._stream = stream
        return self._write(Command("createStream", _CREATE_STREAM))

    def ping(self, time_ms: int) -> bytes:
        """Ask for an answer with the same time, which is then in ``pongs``."""
        self._pings.add(time_ms)
        return self._writer.write(user_control(UserControl.PING_REQUEST, time_ms))

    def measure(self, direction: str) -> bytes:
        """Ask a gateway's loopback for a measurement; its answer is in ``permitted``."""
        self.permitted = None
        return self._write(Command(MEASURE, _MEASURE, None, (direction,)))

    def grow_chunks(self) -> bytes:
        """From now on, each of ``block`` is one chunk."""
        return self._writer.write(set_chunk_size(BLOCK_BYTES))

    def block(self, noise: bytes) -> bytes:
        """A message of ``BLOCK_BYTES`` that the loopback ignores."""
        return self._writer.write(Message(MessageType.AUDIO, noise))

    def receive(self, data: bytes) -> bytes:
        """Process bytes of the server; the returned ones must be sent to it. Raises RTMPError."""
        out = b""
        self.begun = True
        if not self._handshake.done:
            out = self._handshake.receive(data)
            data = self._handshake.rest
        for message in self._reader.feed(data):
            out += self._take(message)
        received = self._reader.acknowledgement_due()
        if received is not None:
            out += self._writer.write(acknowledgement(received))
        return out

    def _take(self, message: Message) -> bytes:
        if message.type in _MEDIA:
            self.media += 1
            self.media_ms = message.timestamp
            return b""
        asked = read_ping_request(message)
        if asked is not None:
            return self._writer.write(user_control(UserControl.PING_RESPONSE, asked))
        answered = read_ping_response(message)
        if answered in self._pings:
            self._pings.remove(answered)
            self.pongs.add(answered)
        command = read_command(message)
        return b"" if command is None else self._obey(command)

    def _obey(self, command: Command) -> bytes:
        if command.name == "onStatus":
            self._note_status(command)
        elif command.transaction == _CONNECT and not self.code:
            information = _information(command)
            self.code = _text(information.get("code")) or command.name
            self.description = _text(information.get("description"))
        elif command.transaction == _MEASURE:
            self._note_permission(command)
        elif command.transaction == _CREATE_STREAM and self._stream:
            return self._begin(command)
        return b""

    def _note_permission(self, answer: Command) -> None:
        self.permitted = answer.name == "_result"
        limit = _information(answer).get("bytes_per_s")
        if isinstance(limit, float) and isfinite(limit):
            self.limit_bytes_per_s = limit

    def _begin(self, created: Command) -> bytes:
        stream, self._stream = self._stream, ""
        number = stream_number(created.argument(0))
        if created.name != "_result" or not number:
            self.stream_code = _text(_information(created).get("code")) or created.name
            return b""
        return self._write(Command("play", _PLAY, None, (stream, -2000.0), number))

    def _note_status(self, command: Command) -> None:
        code = _text(_information(command).get("code"))
        if code not in _PRELIMINARY and not self.stream_code:
            self.stream_code = code

    def _write(self, command: Command) -> bytes:
        return self._writer.write(command.message())


def _information(command: Command) -> dict[str, Value]:
    """The information object of an answer; servers send it as the first or second argument."""
    given = [each for each in command.arguments if isinstance(each, dict)]
    return given[-1] if given else {}


def _text(value: Value) -> str:
    """A string of the server, in one line and short, since it is shown on terminals."""
    text = value if isinstance(value, str) else ""
    return "".join(c if c.isprintable() else " " for c in text[:200])
