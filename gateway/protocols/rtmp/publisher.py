"""A publisher's side of an RTMP connection: publishes one stream to a server, as encoders do.

    handshake   the server's blocks are awaited
    connecting  connect was sent
    creating    createStream was sent
    asking      publish was sent
    publishing  the server has accepted the publish; ``player`` gets the stream's messages

An error status of the server, or its answer ``_error``, raises RTMPError with the server's description. All
other messages are ignored, but for pings, which are answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import frozen

from gateway.errors import RTMPError
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunks import ChunkLimits, ChunkReader
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES,
    COMMAND_BYTES_A_CHUNK,
    Command,
    description_of,
    read_command,
    stream_number,
)
from gateway.protocols.rtmp.handshake import ClientHandshake
from gateway.protocols.rtmp.media import encoder_metadata
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    acknowledgement,
    read_ping_request,
    set_chunk_size,
    user_control,
)
from gateway.protocols.rtmp.outbox import Outbox, Wire
from gateway.protocols.rtmp.relay import Notices, Player

# The chunk size of the embedded origin: nearly every message fits into one chunk.
_CHUNK_SIZE: Final = 60_000
_LIMITS: Final = ChunkLimits(message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES)
_SKIPPED: Final = frozenset(
    {
        *(MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA, MessageType.DATA_AMF3),
        MessageType.AGGREGATE,
    }
)
# Some platforms accept encoders that they know only.
_FLASH_VERSION: Final = "FMLE/3.0 (compatible; FMSc/1.0)"
_CONNECT, _RELEASE, _ANNOUNCE, _CREATE, _PUBLISH = 1.0, 2.0, 3.0, 4.0, 5.0


@frozen
class Destination:
    """Where a stream is published. ``tc_url``: the URL of the application. ``stream`` can be a key, which
    must not be logged.
    """

    tc_url: str
    application: str
    stream: str


class MirrorPlayer(Player):
    """Gets a live stream's messages, and sends them to the server as an encoder does."""

    __slots__ = ("_stop",)

    def __init__(self, outbox: Outbox, stream_id: int, stop: Callable[[], None]) -> None:
        super().__init__(outbox, stream_id)
        self._stop = stop

    def notify_publish(self, notices: Notices) -> None:
        """Publishing has begun. Nothing is sent, because the server is no player."""

    def notify_unpublish(self, notices: Notices) -> None:
        """Publishing has ended."""
        self._stop()

    def _own(self, message: Message) -> Message:
        return super()._own(encoder_metadata(message))


class Publisher:
    """Publishes to ``destination``. The owner calls ``begin``, ``receive``, ``hold``, ``release``, ``end``.

    ``accepted(player)`` is called when the server has accepted the publish.
    """

    def __init__(
        self,
        wire: Wire,
        memory: ServerMemory,
        destination: Destination,
        handshake: ClientHandshake,
        accepted: Callable[[Player], None],
    ) -> None:
        self._wire = wire
        self._destination = destination
        self._handshake = handshake
        self._accepted = accepted
        self._reader = ChunkReader(_LIMITS, _SKIPPED)
        self._outbox = Outbox(wire, memory)
        self._stream_id = 0
        # None before the server has accepted the publish.
        self.player: MirrorPlayer | None = None

    def begin(self) -> None:
        """The connection is established."""
        self._wire.write(self._handshake.hello)

    def receive(self, data: bytes, now: float) -> None:
        """Process bytes from the server. Raises RTMPError if they are malformed, or if it refuses."""
        if not self._handshake.done:
            answer = self._handshake.receive(data)
            if answer:
                self._wire.write(answer)
            if not self._has_connected():
                return
            data = self._handshake.rest
        for message in self._reader.feed(data, now):
            self._take(message)
        received_bytes = self._reader.acknowledgement_due()
        if received_bytes is not None:
            self._outbox.send(acknowledgement(received_bytes))

    def hold(self) -> None:
        """The transport's buffer is full."""
        self._outbox.hold()

    def release(self) -> None:
        """The transport's buffer has drained."""
        self._outbox.release()

    @property
    def is_waiting(self) -> bool:
        """Whether messages wait for room in the transport."""
        return self._outbox.is_waiting

    @property
    def queued_bytes(self) -> int:
        """The size of these messages."""
        return self._outbox.queued_bytes

    def unpublish(self) -> None:
        """Tell the server that the stream has ended."""
        if self.player is not None:
            name = self._destination.stream
            self._call("FCUnpublish", 0.0, name)
            self._call("deleteStream", 0.0, float(self._stream_id))

    def end(self) -> None:
        """The connection has ended."""
        self._outbox.clear()

    def _take(self, message: Message) -> None:
        ping_time = read_ping_request(message)
        if ping_time is not None:
            self._outbox.send(user_control(UserControl.PING_RESPONSE, ping_time))
            return
        self._reader.charge(len(message.payload) // COMMAND_BYTES_A_CHUNK)
        command = read_command(message)
        if command is None:
            return
        if command.name == "_result":
            self._take_result(command)
        elif command.name == "_error" and command.transaction in (_CONNECT, _CREATE):
            raise RTMPError(description_of(command))
        elif command.name == "onStatus":
            self._take_status(command)

    def _take_result(self, command: Command) -> None:
        if command.transaction == _CONNECT:
            name = self._destination.stream
            self._outbox.send(set_chunk_size(_CHUNK_SIZE))
            self._call("releaseStream", _RELEASE, name)
            self._call("FCPublish", _ANNOUNCE, name)
            self._call("createStream", _CREATE)
        elif command.transaction == _CREATE and not self._stream_id:
            self._stream_id = stream_number(command.argument(0))
            if not self._stream_id:
                raise RTMPError("createStream without a stream")
            self._call("publish", _PUBLISH, self._destination.stream, "live")

    def _take_status(self, command: Command) -> None:
        information = command.argument(0)
        code = information.get("code") if isinstance(information, dict) else None
        if isinstance(information, dict) and information.get("level") == "error":
            raise RTMPError(description_of(command))
        if code == "NetStream.Publish.Start" and self._stream_id and self.player is None:
            self.player = MirrorPlayer(self._outbox, self._stream_id, self.unpublish)
            self._accepted(self.player)

    def _has_connected(self) -> bool:
        """Send connect if the handshake is complete. Returns whether it is."""
        if self._handshake.done:
            self._connect()
        return self._handshake.done

    def _connect(self) -> None:
        request: Value = {
            "app": self._destination.application,
            "type": "nonprivate",
            "flashVer": _FLASH_VERSION,
            "tcUrl": self._destination.tc_url,
            "fourCcList": ["*"],
        }
        self._outbox.send(Command("connect", _CONNECT, request).message())

    def _call(self, name: str, transaction: float, *arguments: Value) -> None:
        stream_id = self._stream_id if name == "publish" else 0
        self._outbox.send(Command(name, transaction, None, arguments, stream_id).message())
