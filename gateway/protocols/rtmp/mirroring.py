"""Reader of a relayed connection whose publish may be mirrored: finds it, and collects its messages.

    unknown    the client has not published; its commands are read
    asked      it has published a stream that is mirrored; the server's status is awaited
    published  the server has accepted it: ``began`` is called, and all messages go to ``stream``
    done       nothing more is read

Rules:

- Only what the main server accepts is mirrored: it may refuse a publisher that others would accept.
- Messages between publish and acceptance are kept as far as late players need them: headers and metadata.
- A session has one mirrored publish: the first.
- Malformed bytes end the mirroring, and nothing else.

It reads copies of the bytes, and never changes or delays them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.chunks import ChunkLimits, ChunkReader
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES,
    Command,
    application_of,
    read_command,
    read_connect,
    stream_name,
    stream_number,
)
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES, after_handshake
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.protocols.rtmp.relay import LiveStream

# The limits of the embedded origin, because the media is the same.
_UP_LIMITS: Final = ChunkLimits()
_DOWN_LIMITS: Final = ChunkLimits(message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES)
_MEDIA: Final = frozenset(
    {
        *(MessageType.AUDIO, MessageType.VIDEO, MessageType.DATA, MessageType.DATA_AMF3),
        MessageType.AGGREGATE,
    }
)
# The limit on the bytes of a client that does not publish.
_UNKNOWN_BYTES: Final = 64 * 1024
_ENDS: Final = frozenset({"deleteStream", "closeStream", "FCUnpublish"})


@final
class MirrorReader:
    """``is_mirrored(application, stream)``: whether a publish is mirrored. ``began`` is called when the
    server has accepted it, and ``ended`` once after that.

    ``up`` and ``down`` return the reader, or None once it is done.
    """

    __slots__ = (
        *("_application", "_asked", "_began", "_down", "_down_skip", "_ended", "_is_evicted"),
        *("_is_mirrored", "_is_published", "_left", "_memory", "_up", "_up_skip", "stream"),
        "unfinished_bytes",
    )

    def __init__(
        self,
        is_mirrored: Callable[[str, str], bool],
        memory: ServerMemory,
        began: Callable[[LiveStream, str, str], None],
        ended: Callable[[LiveStream], None],
    ) -> None:
        self._is_mirrored = is_mirrored
        self._memory = memory
        self._began = began
        self._ended = ended
        self._up_skip = self._down_skip = HANDSHAKE_BYTES
        self.unfinished_bytes = 0
        self._up = ChunkReader(_UP_LIMITS, unfinished=self._count_unfinished)
        self._down = ChunkReader(_DOWN_LIMITS, _MEDIA)
        self._application = ""
        # The message stream and the name of the publish; None before it.
        self._asked: tuple[int, str] | None = None
        self._is_published = self._is_evicted = False
        self._left = _UNKNOWN_BYTES
        self.stream = LiveStream("")

    def up(self, data: bytes, now: float) -> MirrorReader | None:
        """Process bytes from the client."""
        try:
            self._up_skip, rest = after_handshake(self._up_skip, data)
            if self._asked is None:
                self._left -= len(rest)
            if self._left < 0 or self._is_evicted:
                raise RTMPError("a limit is exceeded")
            for message in self._up.feed(rest, now) if rest else ():
                if not self._take_up(message):
                    self.end()
                    return None
        except RTMPError:
            self.end()
            return None
        return self

    def down(self, data: bytes, now: float) -> MirrorReader | None:
        """Process bytes from the server."""
        if self._is_published:
            return self
        try:
            self._down_skip, rest = after_handshake(self._down_skip, data)
            for message in self._down.feed(rest) if rest else ():
                self._take_down(message)
        except RTMPError:
            self.end()
            return None
        return self

    def end(self) -> None:
        """The session or its publish has ended."""
        self._memory.unfinished(self, -self.unfinished_bytes)
        if self._is_published:
            self._is_published = False
            self._ended(self.stream)

    def evict(self, cause: str) -> None:
        """Release the unfinished messages (``memory.Keeper``). The next bytes end the mirroring."""
        self._is_evicted = True
        self._up = ChunkReader()
        self._memory.unfinished(self, -self.unfinished_bytes)

    def _count_unfinished(self, change_bytes: int) -> None:
        self._memory.unfinished(self, change_bytes)

    def _take_up(self, message: Message) -> bool:
        """Process a message of the client. Returns False if nothing of it is mirrored, or no longer."""
        if message.type in _MEDIA:
            if self._asked is not None and message.stream_id == self._asked[0]:
                self.stream.relay(message)
            return True
        command = read_command(message)
        if command is None:
            return True
        if command.name == "connect":
            self._application = application_of(read_connect(command).app)
        elif command.name == "play":
            return self._asked is not None
        elif command.name == "publish" and self._asked is None:
            name = stream_name(command).partition("?")[0]
            self._asked = command.stream_id, name
            self.stream.path = f"{self._application}/{name}"
            return self._is_mirrored(self._application, name)
        elif command.name in _ENDS and self._asked is not None:
            return not self._is_end(command, *self._asked)
        return True

    def _is_end(self, command: Command, stream_id: int, name: str) -> bool:
        if command.name == "FCUnpublish":
            return stream_name(command).partition("?")[0] == name
        if command.name == "closeStream":
            return command.stream_id == stream_id
        return stream_number(command.argument(0)) == stream_id

    def _take_down(self, message: Message) -> None:
        if self._is_published:
            return
        command = read_command(message) if self._asked is not None else None
        if command is None or self._asked is None or command.name != "onStatus":
            return
        stream_id, name = self._asked
        information = command.argument(0)
        if not isinstance(information, dict) or command.stream_id != stream_id:
            return
        if information.get("code") == "NetStream.Publish.Start":
            self._is_published = True
            self._began(self.stream, self._application, name)
