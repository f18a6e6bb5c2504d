"""The gateway's side toward a client, from the first byte to the end of the connect command.

    client  C0 C1          C2  other messages, connect, and whatever follows
    gateway       S0 S1 S2     nothing more

The handshake is the client's kind, with digests or without. Then nothing is sent to the client, so
everything that it learns after that, such as windows and chunk sizes, comes from its server. All bytes that
follow C2 are kept for the server as they are. Acknowledgements count bytes; the handshakes of both sides
have the same size.

Rules:

- A first byte other than 3 (RTMPE is 6 or 8) makes the stream ``opaque``: nothing is answered, and the
  bytes are for a server as they are.
- The first command must be connect, and must be complete within ``MOST_BYTES`` after the handshake.
  Otherwise RTMPError is raised. The number of chunks is limited too (``ChunkLimits``).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunk_scanner import ChunkHeader, ChunkScanner
from gateway.protocols.rtmp.connect_command import ConnectCommand, read_connect_command
from gateway.protocols.rtmp.connect_rewriting import ConnectRewriting, ReadChunk
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake, PlayerBlock
from gateway.protocols.rtmp.handshake import VERSION
from gateway.protocols.rtmp.messages import Message, MessageType

# A connect with signed URLs has up to 8 kB.
MOST_BYTES: Final = 64 * 1024
_COMMANDS: Final = frozenset({MessageType.COMMAND, MessageType.COMMAND_AMF3})


@final
class ConnectReader:
    """``opaque`` or ``connect`` is set once it is known. After that, ``hold`` takes further bytes.

    ``received`` are the bytes for a server: all after the handshake, or all of an opaque stream.
    """

    __slots__ = (
        *("_chunks", "_connect_chunks", "_connect_end", "_handshake", "_scanner", "_unread"),
        *("connect", "opaque", "received"),
    )

    def __init__(self, handshake: DigestServerHandshake) -> None:
        self._handshake = handshake
        self._scanner = ChunkScanner()
        # The chunks of the message that is being received on each chunk stream.
        self._chunks: dict[int, list[ReadChunk]] = {}
        # The end of ``received`` that the scanner needs more bytes for.
        self._unread = b""
        self._connect_chunks: list[ReadChunk] = []
        self._connect_end = 0
        self.opaque = False
        self.connect: ConnectCommand | None = None
        self.received = bytearray()

    @property
    def player(self) -> PlayerBlock | None:
        """What a client with a digest has in its C1; None for one without."""
        return self._handshake.player

    def receive(self, data: bytes, now: float) -> bytes:
        """Process bytes from the client. The returned bytes must be sent to it. Raises RTMPError."""
        handshake, answer = self._handshake, b""
        if not handshake.begun and data[:1] not in (b"", bytes([VERSION])):
            self.opaque = True
            self.received += data
            return b""
        if not handshake.done:
            answer = handshake.receive(data)
            data = handshake.rest
        self._read(data, now)
        return answer

    def hold(self, data: bytes) -> None:
        """Add further bytes to those for a server, unread."""
        self.received += data

    def rewriting(self, texts: Mapping[str, str]) -> ConnectRewriting:
        """A rewriting of ``connect`` with other values of these properties.

        Its first bytes are ``behind_connect``, and its stream takes the place of ``received``.
        """
        if self.connect is None:
            raise ValueError("the connect is not complete")
        return ConnectRewriting(
            deepcopy(self._scanner),
            bytes(self.received[: self._connect_end]),
            self._connect_chunks,
            self.connect.with_texts(texts),
        )

    @property
    def behind_connect(self) -> bytes:
        """The received bytes that follow the connect."""
        return bytes(self.received[self._connect_end :])

    def _read(self, data: bytes, now: float) -> None:
        scanner = self._scanner
        scanner.begin(len(data), now)
        begin = len(self.received) - len(self._unread)
        self.received += data
        data = self._unread + data
        at = 0
        while (end := scanner.step(data, at)) is not None:
            if scanner.header is not None:
                self._note_chunk(scanner.header, begin + at, begin + end)
            at = end
            if scanner.message is not None and scanner.message.type in _COMMANDS:
                self._take(scanner.message, begin + at)
                return
        self._unread = data[at:]
        if len(self.received) > MOST_BYTES:
            raise RTMPError(f"no connect within {MOST_BYTES} bytes")

    def _note_chunk(self, header: ChunkHeader, begin: int, body_at: int) -> None:
        chunk = ReadChunk(header, begin, body_at, body_at + header.payload_bytes)
        if header.begins:
            self._chunks[header.chunk_stream_id] = []
        self._chunks[header.chunk_stream_id].append(chunk)

    def _take(self, message: Message, end: int) -> None:
        """``message`` ends at ``end``, which is the end of a chunk."""
        self.connect = read_connect_command(message)
        self._connect_end = end
        self._connect_chunks = next(
            chunks for chunks in self._chunks.values() if chunks[-1].end == end
        )
