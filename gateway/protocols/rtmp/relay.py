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

from collections.abc import Callable
from functools import cache, partial
from typing import Final, TypeAlias

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
Notices: TypeAlias = tuple[Message, ...]


def _publish_notices(path: str, stream_id: int) -> Notices:
    text = f"{path} is now published"
    return (
        user_control(UserControl.STREAM_BEGIN, stream_id),
        status(stream_id, "NetStream.Play.PublishNotify", text),
    )


def _unpublish_notices(path: str, stream_id: int) -> Notices:
    """FFmpeg and rtmpdump end at the first status, Flash at end of stream."""
    text = f"{path} is now unpublished"
    return (
        status(stream_id, "NetStream.Play.UnpublishNotify", text),
        user_control(UserControl.STREAM_EOF, stream_id),
        status(stream_id, "NetStream.Play.Stop", f"Stopped playing {path}"),
    )


class Player:
    """One playing message stream of a connection."""

    __slots__ = ("_had_keyframe", "_in_step", "_outbox", "paused", "stream_id")

    def __init__(self, outbox: Outbox, stream_id: int) -> None:
        self._outbox = outbox
        self._in_step = False
        self._had_keyframe = False
        self.stream_id = stream_id
        self.paused = False

    def notify_publish(self, notices: Notices) -> None:
        """Publishing begins: nothing is missing yet."""
        self._in_step = not self.paused
        self._had_keyframe = False
        self._outbox.send(*notices)

    def notify_unpublish(self, notices: Notices) -> None:
        """Publishing is over."""
        self._in_step = False
        self._outbox.send(*notices)

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
            # Before the preamble is made: it is not made for each message that a full queue refuses.
            if not self._outbox.has_room(message, stream.kept_messages, stream.kept_bytes):
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

    __slots__ = (
        *("_headers", "_metadata", "_video_timestamp", "kept_bytes", "path", "players"),
        "publisher",
    )

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
        # The payloads of the headers and the metadata.
        self.kept_bytes = 0

    @property
    def kept_messages(self) -> int:
        """The number of messages in the preamble."""
        return len(self._headers) + (self._metadata is not None)

    def publish(self, publisher: object) -> bool:
        """Make ``publisher`` the one of this stream; False, and nothing changes, if it has one."""
        if self.publisher is not None:
            return False
        self.publisher = publisher
        notices = self._notices(_publish_notices)
        for player in self.players:
            player.notify_publish(notices(player.stream_id))
        return True

    def unpublish(self) -> None:
        """The publisher is gone, and what it left for late players with it."""
        self.publisher = None
        self._forget_media()
        notices = self._notices(_unpublish_notices)
        for player in self.players:
            player.notify_unpublish(notices(player.stream_id))

    def _notices(self, make: Callable[[str, int], Notices]) -> Callable[[int], Notices]:
        """Notices by message stream id, encoded once for all players that have the same one."""
        return cache(partial(make, self.path))

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
                self._count_kept(self._metadata, message)
                self._metadata = message
            case Kind.CLEAR_METADATA:
                self._count_kept(self._metadata, None)
                self._metadata = None
            case Kind.HEADER:
                self._count_kept(self._headers.get(packet.slot), message)
                self._headers[packet.slot] = message
                if message.type == MessageType.VIDEO:
                    self._video_timestamp = message.timestamp
            case Kind.KEYFRAME | Kind.INTER_FRAME:
                self._video_timestamp = message.timestamp
                return
            case _:
                return
        self._check_kept()

    def _count_kept(self, old: Message | None, new: Message | None) -> None:
        self.kept_bytes += (len(new.payload) if new else 0) - (len(old.payload) if old else 0)

    def _check_kept(self) -> None:
        if self.kept_messages > KEPT_HEADERS or self.kept_bytes > KEPT_BYTES:
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
