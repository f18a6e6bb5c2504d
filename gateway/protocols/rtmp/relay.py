"""Live streams: relays the messages of one publisher to any number of players.

Rules:

- A stream is identified by its path, and exists while it has a publisher or players. A player can join
  before the publisher, and stay when the publisher changes.
- A player is *in step* or not. A player in step gets every message as the publisher sent it, with the same
  payload and timestamp. It gets in step at a keyframe, or at any audio of a stream without video, after the
  metadata and the codec headers.
- A player that is present when publishing begins is in step from the first message.
- A player whose queue is full is no longer in step, and gets in step again at a later keyframe.
- A player never gets an inter frame before its first keyframe.
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

# After this long without video, a stream counts as one without video: players must not wait for a camera
# that was switched off. Live streams have shorter keyframe intervals.
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
    """FFmpeg and rtmpdump stop at the first status, Flash at the end of stream."""
    text = f"{path} is now unpublished"
    return (
        status(stream_id, "NetStream.Play.UnpublishNotify", text),
        user_control(UserControl.STREAM_EOF, stream_id),
        status(stream_id, "NetStream.Play.Stop", f"Stopped playing {path}"),
    )


class Player:
    """A message stream of a connection that plays a live stream. ``left_out``: how many of the publisher's
    messages were not sent to it.
    """

    __slots__ = ("_had_keyframe", "_in_step", "_outbox", "left_out", "paused", "stream_id")

    def __init__(self, outbox: Outbox, stream_id: int) -> None:
        self._outbox = outbox
        self._in_step = False
        self._had_keyframe = False
        self.stream_id = stream_id
        self.paused = False
        self.left_out = 0

    def notify_publish(self, notices: Notices) -> None:
        """Publishing has begun: the player is in step."""
        self._in_step = not self.paused
        self._had_keyframe = False
        self._outbox.send(*notices)

    def notify_unpublish(self, notices: Notices) -> None:
        """Publishing has ended."""
        self._in_step = False
        self._outbox.send(*notices)

    def pause(self) -> None:
        """Send no media until ``resume``."""
        self.paused = True
        self._in_step = False

    def resume(self) -> None:
        """Get in step again when the stream allows it."""
        self.paused = False

    def deliver(self, packet: Packet, message: Message, stream: LiveStream) -> None:
        """Send a message of the publisher, if the player is in step or can be now."""
        if not self._send(packet, message, stream):
            self.left_out += 1

    def _send(self, packet: Packet, message: Message, stream: LiveStream) -> bool:
        preamble: list[Message] = []
        if not self._in_step:
            if self.paused or not stream.can_join_at(packet, message.timestamp):
                return False
            # Checked before the preamble is created, so that it is not created for each message refused.
            if not self._outbox.has_room(message, stream.kept_messages, stream.kept_bytes):
                return False
            self._had_keyframe = False
            preamble = stream.preamble(message.timestamp)
        if packet.kind is Kind.INTER_FRAME and not self._had_keyframe:
            return False
        self._in_step = self._outbox.offer([self._own(each) for each in (*preamble, message)])
        self._had_keyframe |= packet.kind is Kind.KEYFRAME
        return self._in_step

    def _own(self, message: Message) -> Message:
        if message.stream_id == self.stream_id:
            return message
        return evolve(message, stream_id=self.stream_id)


class LiveStream:
    """The stream of one path: its publisher, its players, and the preamble for late players."""

    __slots__ = (
        *("_headers", "_metadata", "_video_timestamp", "kept_bytes", "path", "players"),
        "publisher",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.publisher: object | None = None
        # A dict: ordered, and with fast removal.
        self.players: dict[Player, None] = {}
        self._forget_media()

    def _forget_media(self) -> None:
        self._metadata: Message | None = None
        self._headers: dict[tuple[int, ...], Message] = {}
        self._video_timestamp: int | None = None
        # The total size of the stored headers and metadata.
        self.kept_bytes = 0

    @property
    def kept_messages(self) -> int:
        """The number of messages in the preamble."""
        return len(self._headers) + (self._metadata is not None)

    def publish(self, publisher: object) -> bool:
        """Set the publisher. Returns False, without effect, if the stream has one."""
        if self.publisher is not None:
            return False
        self.publisher = publisher
        notices = self._notices(_publish_notices)
        for player in self.players:
            player.notify_publish(notices(player.stream_id))
        return True

    def unpublish(self) -> None:
        """Remove the publisher and the preamble."""
        self.publisher = None
        self._forget_media()
        notices = self._notices(_unpublish_notices)
        for player in self.players:
            player.notify_unpublish(notices(player.stream_id))

    def _notices(self, make: Callable[[str, int], Notices]) -> Callable[[int], Notices]:
        """Create the notices for a message stream id, once for all players with the same one."""
        return cache(partial(make, self.path))

    def relay(self, message: Message) -> None:
        """Relay a message of the publisher, and store it if late players need it."""
        packet = classify(message)
        if packet.kind is Kind.METADATA:
            message = player_metadata(message)
        self._keep(packet, message)
        if packet.kind is Kind.CLEAR_METADATA:
            return
        for player in self.players:
            player.deliver(packet, message, self)

    def preamble(self, timestamp: int) -> list[Message]:
        """The messages that a player needs before its first frame, which has this timestamp.

        The metadata has timestamp 0: FFmpeg treats later metadata as a further stream.
        """
        headers = [evolve(header, timestamp=timestamp) for header in self._headers.values()]
        return [evolve(self._metadata, timestamp=0), *headers] if self._metadata else headers

    def can_join_at(self, packet: Packet, timestamp: int) -> bool:
        """Whether a player can get in step at this packet."""
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

    ``replaces``: whether a new publisher of a path replaces the present one.
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
        """The stream of that path, created if necessary. The caller must call ``drop`` after use."""
        found = self._streams.get(path)
        if found is None:
            if len(self._streams) >= self._limit:
                raise RTMPError(f"more than {self._limit} streams")
            found = self._streams[path] = LiveStream(path)
        return found

    def drop(self, stream: LiveStream) -> None:
        """Remove ``stream`` if it has neither publisher nor players."""
        if stream.publisher is None and not stream.players:
            self._streams.pop(stream.path, None)
