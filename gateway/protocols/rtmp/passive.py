"""Passive reader of a relayed RTMP connection: finds its application and stream, and measures its media.

Rules:

- It reads copies of the bytes, and changes, delays and stores none, except for an incomplete chunk header
  or command, within ``_LIMITS``. Audio, video and data payloads are skipped.
- It stops after the first publish or play, unless media is measured: then it reads the pings of both sides
  and the media's timestamps until the end.
- It stops permanently, without an error, on RTMPE, on data that is not RTMP, and at a limit. Facts found
  before remain. One limit is on the bytes of a client that has neither published nor played; the other, if
  media is measured, on the chunks of either side (``ChunkLimits``).
- Names are truncated at the first ``?`` and at a length, because tokens and keys follow the ``?``.

Media lateness: the timestamps of audio and video determine when each message is due, relative to the
message of the last minute that came earliest by its timestamp. The lateness of a message is how much later
it came. Drift is the change of this reference since the first message. It is positive if the sender's clock
is slow, or if the delay on the path grows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunks import ChunkLimits, ChunkReader
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES,
    COMMAND_BYTES_A_CHUNK,
    Command,
    read_command,
    read_connect,
    stream_name,
)
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, after_handshake
from gateway.protocols.rtmp.messages import (
    MEDIA_TYPES,
    Message,
    MessageType,
    read_ping_request,
    read_ping_response,
)

# The saved chunks allow a burst of 100 s of small frames from a server's cache.
_LIMITS: Final = ChunkLimits(
    message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES, chunks_saved=5000
)
# Limit on the bytes of a client before its publish or play, which comes within a few kilobytes, even with
# long tokens. A message can have one byte and takes microseconds to read: this many take 0.05 s.
_UNKNOWN_BYTES: Final = 16 * 1024
_MEDIA: Final = frozenset({MessageType.AUDIO, MessageType.VIDEO})
# Longer than any name observed on a server. A name is chosen by the client and stored for each session.
_NAME_CHARACTERS: Final = 128
_STREAM_COMMANDS: Final = {"publish": "publish", "play": "play", "play2": "play"}
_HALF_TIME: Final = 1 << 31
# A timestamp this far from the expected one starts a new reference: another clip, or a seek.
_JUMP_S: Final = 10.0
_SLICE_S: Final = 30.0


class Figures(Protocol):
    """Observer of measured times, in seconds."""

    def client_pinged(self, seconds: float) -> None: ...

    def upstream_pinged(self, seconds: float) -> None: ...

    def media_came(self, late_s: float) -> None: ...


@final
class Facts:
    """The facts found so far. ``action`` is "publish", "play", or "" if neither is known.

    ``noticed``, if set, is called once: when the action is known, or when ``unreadable`` is set.
    """

    __slots__ = (
        *("action", "application", "drift_s", "flash_version"),
        *("noticed", "stream", "unreadable"),
    )

    def __init__(self) -> None:
        self.noticed: Callable[[], None] | None = None
        self.unreadable = False
        self.application = self.stream = self.action = self.flash_version = ""
        self.drift_s: float | None = None

    def give_up(self) -> None:
        """No more can be read: set ``unreadable``."""
        self.unreadable = not self.action
        self.notice()

    def notice(self) -> None:
        """Call ``noticed`` once."""
        noticed, self.noticed = self.noticed, None
        if noticed is not None:
            noticed()


@final
class PassiveReader:
    """The reader of both directions of a connection. ``figures`` is set if media is measured.

    ``up`` and ``down`` process the next bytes. They return the reader, or None if it has finished and must
    be discarded.
    """

    __slots__ = (
        "_down",
        "_down_skip",
        "_figures",
        "_from_client",
        "_from_upstream",
        "_media",
        "_unknown_left",
        "_up",
        "_up_skip",
        "facts",
    )

    def __init__(self, facts: Facts, figures: Figures | None = None) -> None:
        self.facts = facts
        self._figures = figures
        self._up_skip = self._down_skip = HANDSHAKE_BYTES
        self._up = ChunkReader(_LIMITS, MEDIA_TYPES)
        self._down = ChunkReader(_LIMITS, MEDIA_TYPES) if figures else None
        # The last ping of each side that has no response yet.
        self._from_client = self._from_upstream = _NO_PING
        self._media = _Reckoning() if figures else None
        self._unknown_left = _UNKNOWN_BYTES

    def up(self, data: bytes, now: float) -> PassiveReader | None:
        """Process bytes from the client."""
        try:
            self._up_skip, rest = after_handshake(self._up_skip, data)
            if not self.facts.action:
                rest = self._within_bound(rest)
            for message in self._up.feed(rest, now) if rest else ():
                if message.type in _MEDIA:
                    self._take_media(message, now, "publish")
                else:
                    self._take_client_message(message, now)
            self._check_bound()
        except RTMPError:
            self.facts.give_up()
            return None
        return None if self.facts.action and self._figures is None else self

    def _within_bound(self, rest: bytes) -> bytes:
        """The part of ``rest`` that is within the limit for a client that has neither published nor
        played."""
        rest = rest[: self._unknown_left]
        self._unknown_left -= len(rest)
        return rest

    def _check_bound(self) -> None:
        if not self._unknown_left and not self.facts.action:
            raise RTMPError("neither publish nor play within the bound")

    def down(self, data: bytes, now: float) -> PassiveReader | None:
        """Process bytes from the upstream."""
        if self._down is None:
            return self
        try:
            self._down_skip, rest = after_handshake(self._down_skip, data)
            for message in self._down.feed(rest, now) if rest else ():
                if message.type in _MEDIA:
                    self._take_media(message, now, "play")
                else:
                    self._take_upstream_message(message, now)
        except RTMPError:
            self.facts.give_up()
            return None
        return self

    def _take_client_message(self, message: Message, now: float) -> None:
        if message.type == MessageType.USER_CONTROL:
            if self._figures is not None:
                self._take_client_ping(message, now, self._figures)
            return
        self._up.charge(len(message.payload) // COMMAND_BYTES_A_CHUNK)
        command = read_command(message)
        if command is not None:
            self._take_command(command)

    def _take_command(self, command: Command) -> None:
        facts = self.facts
        if command.name == "connect":
            request = read_connect(command)
            facts.application = _name(request.app)
            facts.flash_version = request.flash_version[:_NAME_CHARACTERS]
        elif command.name in _STREAM_COMMANDS:
            facts.action = _STREAM_COMMANDS[command.name]
            facts.stream = _name(stream_name(command))
            facts.notice()

    def _take_client_ping(self, message: Message, now: float, figures: Figures) -> None:
        request, response = read_ping_request(message), read_ping_response(message)
        if request is not None:
            self._from_client = request, now
        elif response is not None and response == self._from_upstream[0]:
            figures.client_pinged(now - self._from_upstream[1])
            self._from_upstream = _NO_PING

    def _take_upstream_message(self, message: Message, now: float) -> None:
        request, response = read_ping_request(message), read_ping_response(message)
        if request is not None:
            self._from_upstream = request, now
        elif response is not None and response == self._from_client[0] and self._figures:
            self._figures.upstream_pinged(now - self._from_client[1])
            self._from_client = _NO_PING

    def _take_media(self, message: Message, now: float, action: str) -> None:
        figures, media = self._figures, self._media
        if figures is not None and media is not None and self.facts.action == action:
            figures.media_came(media.late_s(message.timestamp, now))
            self.facts.drift_s = media.drift_s


_NO_PING: Final = (-1, 0.0)


@final
class _Reckoning:
    """Determines when media is due, by its timestamps."""

    __slots__ = ("_first_s", "_media_s", "_newer_s", "_older_s", "_timestamp", "_turn_at")

    def __init__(self) -> None:
        self._timestamp: int | None = None
        self._media_s = 0.0
        # Arrival time minus timestamp: of the first message, and the minimum of two intervals of 30 s.
        self._first_s = self._newer_s = self._older_s = 0.0
        self._turn_at = 0.0

    @property
    def drift_s(self) -> float:
        return min(self._newer_s, self._older_s) - self._first_s

    def late_s(self, timestamp: int, now: float) -> float:
        """The lateness of a message that arrives now. ``timestamp``: milliseconds modulo 2**32."""
        if self._timestamp is not None:
            step = (timestamp - self._timestamp) & 0xFFFFFFFF
            self._media_s += (step - (1 << 32) if step >= _HALF_TIME else step) / 1000
        offset_s = now - self._media_s
        if self._timestamp is None or abs(offset_s - self._newer_s) > _JUMP_S:
            self._first_s = self._newer_s = self._older_s = offset_s
            self._turn_at = now + _SLICE_S
        elif now >= self._turn_at:
            self._older_s, self._newer_s = self._newer_s, offset_s
            self._turn_at = now + _SLICE_S
        self._timestamp = timestamp
        self._newer_s = min(self._newer_s, offset_s)
        return offset_s - min(self._newer_s, self._older_s)


def _name(text: str) -> str:
    return text.partition("?")[0][:_NAME_CHARACTERS]
