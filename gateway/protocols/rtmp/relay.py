"""Live streams: one publisher, any number of players, and what a late one is given first.

Rules:

- A stream is known by its path, and exists while someone publishes or plays it. A player may come
  before the publisher and stay between two of them.
- A player is *in step* or not. In step, it gets every message as the publisher sent it: payload to
  the byte, timestamp to the millisecond. It comes into step at a keyframe, or at any audio of a stream
  without video, and is given the metadata and the codec headers first.
- A player that was there when publishing began is in step from the first message.
- A player whose queue is full falls out of step, and comes in again at a later keyframe.
- No player gets an inter frame before its first keyframe.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve

from gateway.errors import RTMPError
from gateway.protocols.rtmp.answers import status
from gateway.protocols.rtmp.media import Kind, Packet, classify, player_metadata
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.messages import Message, MessageType, UserControl, user_control
from gateway.protocols.rtmp.outbox import Outbox

# A stream whose video is silent for this long counts as one without: a camera switched off must not
# keep listeners waiting, and keyframes further apart than this are not seen on live streams.
VIDEO_GONE_MS: Final = 10_000
# Codec headers and metadata of one stream. An Enhanced RTMP stream of ten tracks keeps about thirty.
KEPT_HEADERS: Final = 64
KEPT_BYTES: Final = 256 * 1024
STREAMS: Final = 1_000
_HALF_TIME: Final = 1 << 31


class Player:
    """One playing message stream of a connection."""

    __slots__ = ("_had_keyframe", "_in_step", "_outbox", "paused", "stream_id")

    def __init__(self, outbox: Outbox, stream_id: int) -> None:
        self._outbox = outbox
        self._in_step = False
        self._had_keyframe = False
        self.stream_id = stream_id
        self.paused = False

    def notify_publish(self, path: str) -> None:
        """Publishing begins: nothing is missing yet."""
        self._in_step = not self.paused
        self._had_keyframe = False
        self._outbox.send(
            user_control(UserControl.STREAM_BEGIN, self.stream_id),
            status(self.stream_id, "NetStream.Play.PublishNotify", f"{path} is now published"),
        )

    def notify_unpublish(self, path: str) -> None:
        """Publishing is over. FFmpeg and rtmpdump end at the first status, Flash at end of stream."""
        self._in_step = False
        self._outbox.send(
            status(self.stream_id, "NetStream.Play.UnpublishNotify", f"{path} is now unpublished"),
            user_control(UserControl.STREAM_EOF, self.stream_id),
            status(self.stream_id, "NetStream.Play.Stop", f"Stopped playing {path}"),
        )

    def pause(self) -> None:
        """Send no media until ``resume``."""
        self.paused = True
        self._in_step = False

    def resume(self) -> None:
        """Come into step again when the stream allows it."""
        self.paused = False

    def deliver(self, packet: Packet, message: Message, stream: LiveStream) -> None:
        """Pass one message of the publisher on, if this player is to have it."""
        preamble: list[Message] = []
        if not self._in_step:
            if self.paused or not stream.can_join_at(packet, message.timestamp):
                return
            self._had_keyframe = False
            preamble = stream.preamble(message.timestamp)
        if packet.kind is Kind.INTER_FRAME and not self._had_keyframe:
            return
        self._in_step = self._outbox.offer([self._own(each) for each in (*preamble, message)])
        self._had_keyframe |= packet.kind is Kind.KEYFRAME

    def _own(self, message: Message) -> Message:
        if message.stream_id == self.stream_id:
            return message
        return evolve(message, stream_id=self.stream_id)


class LiveStream:
    """One path: its publisher if there is one, its players, and what late players are given."""

    __slots__ = ("_headers", "_metadata", "_video_timestamp", "path", "players", "publisher")

    def __init__(self, path: str) -> None:
        self.path = path
        self.publisher: object | None = None
        # A dict for its order and its quick removal.
        self.players: dict[Player, None] = {}
        self._forget_media()

    def _forget_media(self) -> None:
        self._metadata: Message | None = None
        self._headers: dict[tuple[int, ...], Message] = {}
        self._video_timestamp: int | None = None

    def publish(self, publisher: object) -> bool:
        """Make ``publisher`` the one of this stream; False, and nothing changes, if it has one."""
        if self.publisher is not None:
            return False
        self.publisher = publisher
        for player in self.players:
            player.notify_publish(self.path)
        return True

    def unpublish(self) -> None:
        """The publisher is gone, and what it left for late players with it."""
        self.publisher = None
        self._forget_media()
        for player in self.players:
            player.notify_unpublish(self.path)

    def relay(self, message: Message) -> None:
        """Pass a message of the publisher on, and keep it if late players need it."""
        packet = classify(message)
        if packet.kind is Kind.METADATA:
            message = player_metadata(message)
        self._keep(packet, message)
        if packet.kind is Kind.CLEAR_METADATA:
            return
        for player in self.players:
            player.deliver(packet, message, self)

    def preamble(self, timestamp: int) -> list[Message]:
        """What a player needs before its first frame, which has this timestamp.

        The metadata have 0: FFmpeg takes any that come later for one more stream to play.
        """
        headers = [evolve(header, timestamp=timestamp) for header in self._headers.values()]
        return [evolve(self._metadata, timestamp=0), *headers] if self._metadata else headers

    def can_join_at(self, packet: Packet, timestamp: int) -> bool:
        """Whether a player can come into step at this packet."""
        if packet.kind is Kind.KEYFRAME:
            return True
        return packet.kind is Kind.AUDIO and not self._has_video(timestamp)

    def _has_video(self, timestamp: int) -> bool:
        if self._video_timestamp is None:
            return False
        since_ms = (timestamp - self._video_timestamp) & 0xFFFFFFFF
        return since_ms < VIDEO_GONE_MS or since_ms > _HALF_TIME

    def _keep(self, packet: Packet, message: Message) -> None:
        match packet.kind:
            case Kind.METADATA:
                self._metadata = message
            case Kind.CLEAR_METADATA:
                self._metadata = None
            case Kind.HEADER:
                self._headers[packet.slot] = message
                if message.type == MessageType.VIDEO:
                    self._video_timestamp = message.timestamp
            case Kind.KEYFRAME | Kind.INTER_FRAME:
                self._video_timestamp = message.timestamp
                return
            case _:
                return
        self._check_kept()

    def _check_kept(self) -> None:
        kept = self.preamble(0)
        if len(kept) > KEPT_HEADERS or sum(len(each.payload) for each in kept) > KEPT_BYTES:
            raise RTMPError("more codec headers and metadata than a stream can have")


class StreamTable:
    """The live streams of one server, by path, and the ``memory`` of all its connections.

    It ``replaces`` a publisher by a newer one of the path.
    """

    __slots__ = ("_limit", "_streams", "memory", "replaces")

    def __init__(
        self, limit: int = STREAMS, replaces: bool = False, memory: ServerMemory | None = None
    ) -> None:
        self._limit = limit
        self.memory = memory or ServerMemory()
        self.replaces = replaces
        self._streams: dict[str, LiveStream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def stream(self, path: str) -> LiveStream:
        """The stream of that path, new if need be; give it back with ``drop`` when done with it."""
        found = self._streams.get(path)
        if found is None:
            if len(self._streams) >= self._limit:
                raise RTMPError(f"more than {self._limit} streams")
            found = self._streams[path] = LiveStream(path)
        return found

    def drop(self, stream: LiveStream) -> None:
        """Forget ``stream`` if nobody publishes or plays it."""
        if stream.publisher is None and not stream.players:
            self._streams.pop(stream.path, None)
