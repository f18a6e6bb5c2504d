"""The server side of an RTMP connection: handshake, commands, and media to and from live streams.

Commands are processed by a table (at the end). Unknown commands get an empty result, because FFmpeg treats
an error for a call that it does not track as the end. The following is required by FFmpeg, OBS, librtmp and
Flash, as captured:

- The result of connect follows window, bandwidth and chunk size. FFmpeg sends chunks of 128 bytes until it
  receives a chunk size, and then uses the same size itself.
- A play is answered with reset and start immediately, whether or not the stream is published.
- A second publisher of a path gets ``NetStream.Publish.BadName`` and must close its connection; if the
  stream table ``replaces`` publishers, the first one gets it.
- FMLE waits for ``onFCPublish``.

The transport and the log are not known here. Malformed input raises RTMPError; the owner of the connection
must then call ``end``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define

from gateway.errors import RTMPError
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.answers import connect_result, notice, result, status
from gateway.protocols.rtmp.chunks import WINDOW_BYTES, ChunkReader
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES_A_CHUNK,
    Command,
    read_command,
    read_connect,
    stream_name,
    stream_number,
)
from gateway.protocols.rtmp.handshake import ServerHandshake
from gateway.protocols.rtmp.messages import (
    MEDIA_TYPES,
    BandwidthLimit,
    Message,
    MessageType,
    UserControl,
    acknowledgement,
    read_ping_request,
    set_chunk_size,
    set_peer_bandwidth,
    user_control,
    window_acknowledgement_size,
)
from gateway.protocols.rtmp.outbox import Outbox, Wire
from gateway.protocols.rtmp.relay import LiveStream, Player, StreamTable

# Nearly every message fits into one chunk. Flash Player reads chunks of at most 65,536 bytes.
CHUNK_SIZE: Final = 60_000
# Players open one or two message streams, conference clients a few.
NET_STREAMS: Final = 16
# Application and stream name together, without the query of signed URLs.
PATH_CHARACTERS: Final = 1_024
# The cost of an answer in chunks read (3 us each): a command takes about 15 us, and 8 us for each player if
# it begins or ends a stream; a ping takes 7. Clients send up to about 50 commands at once, when they start;
# without further bytes, 20 commands a second pass.
COMMAND_CHUNKS: Final = 8
PING_CHUNKS: Final = 2
_COMMANDS_OF_CLIENTS: Final = {MessageType.COMMAND, MessageType.COMMAND_AMF3}


@define
class _NetStream:
    """A message stream of the connection: it publishes, plays, or neither."""

    id: int
    connection: ServerConnection
    stream: LiveStream | None = None
    player: Player | None = None

    @property
    def published(self) -> LiveStream | None:
        return self.stream if self.player is None else None

    @property
    def published_path(self) -> str | None:
        return self.published.path if self.published else None


class ServerConnection:
    """A client's connection. Its owner calls ``receive``, ``hold`` and ``release``, and ``end`` once."""

    __slots__ = (
        *("_app", "_handshake", "_net_streams", "_outbox", "_reader", "_streams", "_wire"),
        "unfinished_bytes",
    )

    def __init__(self, wire: Wire, streams: StreamTable, handshake: ServerHandshake) -> None:
        self._wire = wire
        self._streams = streams
        self._handshake = handshake
        self._reader = ChunkReader(unfinished=self._count_unfinished)
        self._outbox = Outbox(wire, streams.memory)
        self.unfinished_bytes = 0
        self._app: str | None = None
        self._net_streams: dict[int, _NetStream] = {}

    @property
    def connected(self) -> bool:
        """Whether handshake and connect are complete."""
        return self._app is not None

    def receive(self, data: bytes, now: float) -> None:
        """Process bytes from the client. Raises RTMPError if they are malformed or exceed a limit."""
        if not self._handshake.done:
            answer = self._handshake.receive(data)
            if answer:
                self._wire.write(answer)
            data = self._handshake.rest
        for message in self._reader.feed(data, now):
            self._take(message)
        received_bytes = self._reader.acknowledgement_due()
        if received_bytes is not None:
            self._outbox.send(acknowledgement(received_bytes))

    def hold(self) -> None:
        """The transport's buffer is full: queue messages, within limits."""
        self._outbox.hold()

    def release(self) -> None:
        """The transport's buffer has drained."""
        self._outbox.release()

    def evict(self, cause: str) -> None:
        """Close the connection to release its unfinished messages (``memory.Keeper``)."""
        self._reader = ChunkReader()
        self._streams.memory.unfinished(self, -self.unfinished_bytes)
        self._outbox.close(cause)

    def _count_unfinished(self, change_bytes: int) -> None:
        self._streams.memory.unfinished(self, change_bytes)

    def replace(self, net_stream: _NetStream) -> None:
        """Another connection has replaced ``net_stream`` as publisher."""
        text = f"{net_stream.published_path} is published by another client now"
        self._outbox.send(status(net_stream.id, "NetStream.Publish.BadName", text, "error"))
        self._stop(net_stream)

    def end(self) -> None:
        """The connection has ended: stop publishing and playing."""
        self._outbox.clear()
        self._streams.memory.unfinished(self, -self.unfinished_bytes)
        for net_stream in self._net_streams.values():
            self._stop(net_stream)
        self._net_streams.clear()

    def _take(self, message: Message) -> None:
        if message.type in MEDIA_TYPES:
            self._relay(message)
            return
        ping_time = read_ping_request(message)
        if ping_time is not None:
            self._reader.charge(PING_CHUNKS)
            self._outbox.send(user_control(UserControl.PING_RESPONSE, ping_time))
            return
        if message.type in _COMMANDS_OF_CLIENTS:
            self._reader.charge(COMMAND_CHUNKS + len(message.payload) // COMMAND_BYTES_A_CHUNK)
        command = read_command(message)
        if command is not None:
            self._obey(command)

    def _relay(self, message: Message) -> None:
        net_stream = self._net_streams.get(message.stream_id)
        stream = net_stream.published if net_stream else None
        if stream is not None:
            stream.relay(message)

    def _obey(self, command: Command) -> None:
        if (command.name == "connect") == self.connected:
            raise RTMPError(f"{command.name[:40]!r} out of turn")
        _COMMANDS.get(command.name, ServerConnection._accept)(self, command)

    def _accept(self, command: Command, *values: Value) -> None:
        """Answer a call with an empty result."""
        if command.transaction:
            self._outbox.send(result(command, None, *values))

    def _connect(self, command: Command) -> None:
        request = read_connect(command)
        app = request.app.partition("?")[0].strip("/")
        _check_path(app)
        self._app = app
        self._outbox.send(
            window_acknowledgement_size(WINDOW_BYTES),
            set_peer_bandwidth(WINDOW_BYTES, BandwidthLimit.DYNAMIC),
            set_chunk_size(CHUNK_SIZE),
            connect_result(command, request),
        )

    def _create_stream(self, command: Command) -> None:
        free = (number for number in range(1, NET_STREAMS + 1) if number not in self._net_streams)
        number = next(free, None)
        if number is None:
            raise RTMPError(f"more than {NET_STREAMS} message streams")
        self._net_streams[number] = _NetStream(number, self)
        self._outbox.send(result(command, None, float(number)))

    def _stream_length(self, command: Command) -> None:
        self._accept(command, 0.0)

    def _announce(self, command: Command) -> None:
        self._accept(command)
        name, code = _ANNOUNCEMENTS[command.name]
        self._outbox.send(notice(name, 0, code, stream_name(command)))

    def _publish(self, command: Command) -> None:
        net_stream = self._net_stream(command)
        self._stop(net_stream)
        stream = self._streams.stream(self._path(command))
        if self._streams.replaces and isinstance(stream.publisher, _NetStream):
            stream.publisher.connection.replace(stream.publisher)
            # It is removed once it has no players.
            stream = self._streams.stream(stream.path)
        if not stream.publish(net_stream):
            text = f"{stream.path} is already published"
            self._outbox.send(status(net_stream.id, "NetStream.Publish.BadName", text, "error"))
            return
        net_stream.stream = stream
        text = f"{stream.path} is now published"
        self._outbox.send(status(net_stream.id, "NetStream.Publish.Start", text))

    def _play(self, command: Command) -> None:
        net_stream = self._net_stream(command)
        self._stop(net_stream)
        stream = self._streams.stream(self._path(command))
        player = Player(self._outbox, net_stream.id)
        net_stream.stream, net_stream.player = stream, player
        stream.players[player] = None
        self._outbox.send(
            user_control(UserControl.STREAM_BEGIN, net_stream.id),
            status(net_stream.id, "NetStream.Play.Reset", f"Playing and resetting {stream.path}"),
            status(net_stream.id, "NetStream.Play.Start", f"Started playing {stream.path}"),
        )

    def _pause(self, command: Command) -> None:
        player = self._net_stream(command).player
        if player is None:
            return
        if command.argument(0) is True:
            player.pause()
            self._outbox.send(status(player.stream_id, "NetStream.Pause.Notify", "Paused"))
        else:
            player.resume()
            self._outbox.send(status(player.stream_id, "NetStream.Unpause.Notify", "Unpaused"))

    def _unpublish(self, command: Command) -> None:
        path = self._path(command)
        for net_stream in self._net_streams.values():
            if net_stream.published_path == path:
                self._stop(net_stream)
        self._announce(command)

    def _close_stream(self, command: Command) -> None:
        self._stop(self._net_stream(command))

    def _delete_stream(self, command: Command) -> None:
        net_stream = self._net_streams.pop(stream_number(command.argument(0)), None)
        if net_stream is not None:
            self._stop(net_stream)

    def _net_stream(self, command: Command) -> _NetStream:
        net_stream = self._net_streams.get(command.stream_id)
        if net_stream is None:
            raise RTMPError(f"{command.name} on message stream {command.stream_id}, never created")
        return net_stream

    def _path(self, command: Command) -> str:
        name = stream_name(command).partition("?")[0].strip("/")
        path = f"{self._app}/{name}"
        _check_path(path)
        return path

    def _stop(self, net_stream: _NetStream) -> None:
        stream = net_stream.stream
        if stream is None:
            return
        if net_stream.player is None:
            stream.unpublish()
        else:
            del stream.players[net_stream.player]
        net_stream.stream = net_stream.player = None
        self._streams.drop(stream)


def _check_path(path: str) -> None:
    if len(path) > PATH_CHARACTERS:
        raise RTMPError(f"a stream path of {len(path)} characters")


_ANNOUNCEMENTS: Final = {
    "FCPublish": ("onFCPublish", "NetStream.Publish.Start"),
    "FCUnpublish": ("onFCUnpublish", "NetStream.Unpublish.Success"),
    "FCSubscribe": ("onFCSubscribe", "NetStream.Play.Start"),
}

_COMMANDS: Final[dict[str, Callable[[ServerConnection, Command], None]]] = {
    "connect": ServerConnection._connect,
    "createStream": ServerConnection._create_stream,
    "getStreamLength": ServerConnection._stream_length,
    "FCPublish": ServerConnection._announce,
    "FCSubscribe": ServerConnection._announce,
    "FCUnpublish": ServerConnection._unpublish,
    "publish": ServerConnection._publish,
    "play": ServerConnection._play,
    "pause": ServerConnection._pause,
    "pauseRaw": ServerConnection._pause,
    "closeStream": ServerConnection._close_stream,
    "deleteStream": ServerConnection._delete_stream,
}
