"""The loopback's side of an RTMP connection: the handshake, answers to pings, and measurements.

It takes the place of a media server, but has no applications and no streams: commands other than
``measuring.MEASURE`` are ignored. A client that exceeds its limits is disconnected (RTMPError). The time,
the random bytes and the permission for a measurement are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.port_test.measuring import (
    BLOCK_BYTES,
    BYTES_PER_S,
    DOWN,
    MEASURE,
    MEASURED_BYTES,
    MEASURED_S,
    UP,
)
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkLimits, ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, ServerHandshake
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    read_ping_request,
    set_chunk_size,
    user_control,
)

# The longest session. The page's takes up to 20 s, the tester's two measurements and the steps before.
SESSION_S: Final = 30.0
# Beside the handshake and measurements: a hundred pings, or more commands than any client sends.
_UNMEASURED_BYTES: Final = 16 * 1024
_LIMITS: Final = ChunkLimits(message_bytes=64 * 1024, assembling_bytes=128 * 1024, chunk_streams=8)
# A measurement may be ahead of its rate by this, and sends no more at once, even after a client has not
# accepted data for a while: what the rate needs if ``due`` is called every 50 ms.
_AHEAD_BYTES: Final = 8 * BLOCK_BYTES
_SKIPPED: Final = frozenset({MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA})


@final
class LoopbackServer:
    """``handshake``: its server's side. ``noise``: ``BLOCK_BYTES`` that nothing on the way can compress.
    ``may_measure``: asked before each measurement.
    """

    def __init__(
        self, handshake: ServerHandshake, noise: bytes, may_measure: Callable[[], bool]
    ) -> None:
        self._handshake = handshake
        self._reader = ChunkReader(_LIMITS, _SKIPPED)
        self._writer = ChunkWriter()
        self._block = Message(MessageType.AUDIO, noise)
        self._may_measure = may_measure
        self._left_bytes = HANDSHAKE_BYTES + _UNMEASURED_BYTES
        # Of the measurement in progress: its direction, beginning, and the bytes that have passed.
        self._direction = ""
        self._began = 0.0
        self._measured_bytes = 0

    @property
    def is_measuring(self) -> bool:
        return bool(self._direction)

    def receive(self, data: bytes, now: float) -> bytes:
        """Process bytes of the client; the returned ones must be sent to it. Raises RTMPError."""
        self._count(len(data))
        out = b""
        if not self._handshake.done:
            out = self._handshake.receive(data)
            data = self._handshake.rest
            if not self._handshake.done:
                return out
        for message in self._reader.feed(data, now):
            out += self._answer(message, now)
        return out

    def is_ahead(self, now: float) -> bool:
        """Whether the client is faster than the rate of a measurement, and must wait."""
        return self._direction == UP and self._room(now) <= 0

    def end_overdue(self, now: float) -> None:
        """End a measurement whose time is over. Must be called while the client accepts no data."""
        if self._direction and now - self._began >= MEASURED_S:
            self._direction = ""

    def due(self, now: float) -> bytes:
        """Bytes of a measurement down that must be sent now. Ends measurements that are over."""
        self.end_overdue(now)
        if self._direction != DOWN:
            return b""
        blocks = []
        room = min(self._room(now), _AHEAD_BYTES, MEASURED_BYTES - self._measured_bytes)
        for _ in range(int(room // BLOCK_BYTES)):
            blocks.append(self._writer.write(self._block))
            self._measured_bytes += BLOCK_BYTES
        return b"".join(blocks)

    def _room(self, now: float) -> float:
        return (now - self._began) * BYTES_PER_S + _AHEAD_BYTES - self._measured_bytes

    def _count(self, received_bytes: int) -> None:
        if self._direction == UP:
            self._measured_bytes += received_bytes
            over = self._measured_bytes > MEASURED_BYTES
        else:
            self._left_bytes -= received_bytes
            over = self._left_bytes < 0
        if over:
            raise RTMPError("more bytes than the loopback accepts")

    def _answer(self, message: Message, now: float) -> bytes:
        time = read_ping_request(message)
        if time is not None:
            return self._writer.write(user_control(UserControl.PING_RESPONSE, time))
        command = read_command(message)
        if command is None or command.name != MEASURE:
            return b""
        return self._begin(command, now)

    def _begin(self, command: Command, now: float) -> bytes:
        """Begin a measurement, and end the one before."""
        direction = command.argument(0)
        if direction not in (UP, DOWN) or not self._may_measure():
            return self._writer.write(Command("_error", command.transaction).message())
        self._direction = str(direction)
        self._began = now
        self._measured_bytes = 0
        granted: dict[str, Value] = {
            "bytes": float(MEASURED_BYTES),
            "bytes_per_s": float(BYTES_PER_S),
        }
        answer = Command("_result", command.transaction, None, (granted,))
        return self._writer.write(answer.message()) + self._writer.write(
            set_chunk_size(BLOCK_BYTES)
        )
