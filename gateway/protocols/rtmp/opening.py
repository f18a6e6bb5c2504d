"""What a client sends until its server is selected: its handshake, its connect, and the commands up to its
publish or play if the stream must be known.

The gateway answers what a client waits for (``connect_reader``, ``stream_reader``). All bytes after the
handshake are kept for the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

from attrs import frozen

from gateway.protocols.rtmp.answers import connect_failed, request_refused, status
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.commands import application_of
from gateway.protocols.rtmp.connect_command import ConnectCommand
from gateway.protocols.rtmp.connect_reader import ConnectReader
from gateway.protocols.rtmp.connect_rewriting import ConnectRewriting
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake, PlayerBlock
from gateway.protocols.rtmp.opening_replay import OpeningReplay
from gateway.protocols.rtmp.stream_reader import StreamReader, StreamRequest
from gateway.protocols.rtmp.translations import Translation


@frozen
class Passage:
    """How a session continues with its server. ``held``: the first bytes for the server. ``rest``: those
    for the client. ``up`` and ``down`` translate all further bytes; None if they pass unchanged.
    """

    held: bytes
    up: Translation | None = None
    rest: bytes = b""
    down: Translation | None = None


@final
class Opening:
    """``needs_stream(application)``: whether the stream must be known too.

    ``is_complete``: all that is needed is known. After that, ``hold`` takes further bytes.
    """

    __slots__ = ("_connect_reader", "_needs_stream", "_stream_reader", "is_complete")

    def __init__(
        self, handshake: DigestServerHandshake, needs_stream: Callable[[str], bool]
    ) -> None:
        self._connect_reader = ConnectReader(handshake)
        self._needs_stream = needs_stream
        # None unless the stream must be known.
        self._stream_reader: StreamReader | None = None
        self.is_complete = False

    @property
    def received(self) -> bytearray:
        """The bytes for a server."""
        return self._connect_reader.received

    @property
    def is_opaque(self) -> bool:
        """Whether the stream is not plain RTMP. Nothing is answered then."""
        return self._connect_reader.opaque

    @property
    def player(self) -> PlayerBlock | None:
        """What a client with a digest has in its C1; None for one without."""
        return self._connect_reader.player

    @property
    def connect(self) -> ConnectCommand | None:
        """The client's connect, once it is complete."""
        return self._connect_reader.connect

    @property
    def request(self) -> StreamRequest | None:
        """The command that needs a server, if the stream had to be known."""
        return None if self._stream_reader is None else self._stream_reader.request

    @property
    def application(self) -> str | None:
        """None if it cannot be read."""
        return None if self.connect is None else application_of(self.connect.text("app"))

    @property
    def stream(self) -> str | None:
        """None if it cannot be read, or is not needed."""
        request = self.request
        return None if request is None or request.action is None else request.stream

    def receive(self, data: bytes, now: float) -> bytes:
        """Process bytes from the client. The returned bytes must be sent to it. Raises RTMPError."""
        if self._stream_reader is not None:
            self._connect_reader.hold(data)
            return self._read_stream(self._stream_reader, data, now)
        answer = self._connect_reader.receive(data, now)
        if self.application is not None and self._needs_stream(self.application):
            self._stream_reader = StreamReader()
            return answer + self._read_stream(self._stream_reader, bytes(self.received), now)
        self.is_complete = self.is_opaque or self.connect is not None
        return answer

    def hold(self, data: bytes) -> None:
        """Add further bytes to those for a server, unread."""
        self._connect_reader.hold(data)

    def answer_silence(self) -> bytes:
        """The client has sent nothing for a while. Returns bytes that must be sent to it."""
        return b"" if self._stream_reader is None else self._stream_reader.answer_silence()

    def rewriting(self, texts: Mapping[str, str]) -> ConnectRewriting:
        """A rewriting of the connect, as ``ConnectReader.rewriting``."""
        return self._connect_reader.rewriting(texts)

    def replay(self, rewriting: ConnectRewriting | None) -> OpeningReplay | None:
        """The commands to repeat to a server first; None if the client has got no answers to commands."""
        if self._stream_reader is None or not self._stream_reader.answered:
            return None
        return OpeningReplay(self._stream_reader.answered, self.received, rewriting)

    def passage(
        self, replay: OpeningReplay | None, rewriting: ConnectRewriting | None, now: float
    ) -> Passage:
        """What follows the handshake with a server, and the replay if there is one. Raises RTMPError."""
        if replay is not None and self.request is not None:
            held = replay.finish(self.request.transaction, now)
            return Passage(held, _unless_done(replay.up), replay.rest, _unless_done(replay.down))
        if rewriting is not None:
            held = rewriting.translate(self._connect_reader.behind_connect, now)
            return Passage(held, _unless_done(rewriting))
        return Passage(bytes(self.received))

    def refusal(self, description: str) -> bytes:
        """The error for a client that gets no server, in the place of the answer that it waits for."""
        reader, connect = self._stream_reader, self.connect
        if reader is None or reader.request is None:
            if connect is None:
                return b""
            return ChunkWriter().write(connect_failed(connect.transaction, description))
        request = reader.request
        if request.action is None:
            code = "NetConnection.Connect.Failed"
            return reader.written(status(0, code, description, "error"))
        return reader.written(request_refused(request.action, request.stream_id, description))

    def _read_stream(self, reader: StreamReader, data: bytes, now: float) -> bytes:
        answers = reader.receive(data, now)
        self.is_complete = reader.request is not None
        return answers


def _unless_done(translation: Translation) -> Translation | None:
    return None if translation.done else translation
