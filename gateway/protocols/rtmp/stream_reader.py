"""The gateway's side toward a client, from its connect to its publish or play: it answers as a server does.

    client   connect          releaseStream, FCPublish, createStream           publish or play
    gateway           _result                                        _results  nothing more

By command:

    connect                          a window and a bandwidth, and the result
    createStream                     a result with a message stream id, from 1 on
    releaseStream, FCPublish,        an empty result, and the notice that some encoders and players wait for
    FCUnpublish, FCSubscribe
    publish, play, play2             the ``request``: nothing more is read
    a call that expects no result,   nothing: the server gets it, and answers it if need be
    and ``_UNANSWERED``
    any other call, and one that     the ``request``, without a stream: only the server can answer it
    cannot be read

Rules:

- No chunk size is sent. The server's chunks will have 128 bytes until it says otherwise.
- A client that sends nothing behind its connect gets ``onBWDone``, which some players wait for
  (``answer_silence``).
- The client's bytes are for a server as they are. ``answered`` has the commands whose answers the client
  must not get again.
- All up to the request must come within ``MOST_BYTES``. Otherwise RTMPError is raised, as for malformed
  chunks, a second connect, and too many streams.
"""

from __future__ import annotations

from typing import Final, final

from attrs import frozen

from gateway.errors import RTMPError
from gateway.protocols.access import Action
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.answers import connect_result, notice, result
from gateway.protocols.rtmp.chunk_scanner import ChunkScanner
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import WINDOW_BYTES
from gateway.protocols.rtmp.commands import (
    COMMAND_BYTES_A_CHUNK,
    Command,
    read_command,
    read_connect,
    stream_name,
)
from gateway.protocols.rtmp.connect_reader import MOST_BYTES
from gateway.protocols.rtmp.messages import (
    BandwidthLimit,
    Message,
    set_peer_bandwidth,
    window_acknowledgement_size,
)

# The limits of the embedded origin.
_NET_STREAMS: Final = 16
_COMMAND_CHUNKS: Final = 8
_ACTIONS: Final = {"publish": Action.PUBLISH, "play": Action.PLAY, "play2": Action.PLAY}
# Commands with an empty result, and the notice that follows it.
_ACCEPTED: Final = {
    "releaseStream": None,
    "FCPublish": ("onFCPublish", "NetStream.Publish.Start"),
    "FCUnpublish": ("onFCUnpublish", "NetStream.Unpublish.Success"),
    "FCSubscribe": ("onFCSubscribe", "NetStream.Play.Start"),
}
# Calls whose results clients do not wait for before they publish or play.
_UNANSWERED: Final = frozenset(
    {
        *("_result", "_error", "_checkbw", "checkBandwidth", "getStreamLength"),
        *("closeStream", "deleteStream"),
    }
)


@frozen
class Answered:
    """A command that the gateway has answered. ``end``: where it ends in the client's bytes.

    ``stream_id``: the message stream that a createStream has got; 0 for other commands. ``notice``: the
    name of a notice that the client has got too, or empty.
    """

    name: str
    transaction: float
    end: int
    stream_id: int = 0
    notice: str = ""

    @property
    def is_awaited(self) -> bool:
        """Whether clients send nothing further before a server's answer to it."""
        return self.name in ("connect", "createStream")


@frozen
class StreamRequest:
    """The command that needs a server. ``action``: None for a call that only the server can answer.

    ``stream``: its name without the query, which can be a secret.
    """

    action: Action | None
    stream: str
    transaction: float
    stream_id: int


@final
class StreamReader:
    """``receive`` takes the client's bytes behind its handshake, until ``request`` is set."""

    __slots__ = (
        *("_has_called", "_read_bytes", "_scanner", "_streams", "_unread", "_writer"),
        *("answered", "request"),
    )

    def __init__(self) -> None:
        self._scanner = ChunkScanner()
        self._writer = ChunkWriter()
        self._unread = b""
        # Up to where the client's bytes have been read.
        self._read_bytes = 0
        self._streams = 0
        self._has_called = False
        self.answered: list[Answered] = []
        self.request: StreamRequest | None = None

    def receive(self, data: bytes, now: float) -> bytes:
        """Process bytes from the client. The returned bytes must be sent to it. Raises RTMPError."""
        scanner = self._scanner
        scanner.begin(len(data), now)
        data = self._unread + data
        at, answers = 0, []
        while self.request is None and (end := scanner.step(data, at)) is not None:
            self._read_bytes += end - at
            at = end
            if scanner.message is not None:
                answers += self._take(scanner.message)
        self._unread = data[at:]
        if self.request is None and self._read_bytes + len(self._unread) > MOST_BYTES:
            raise RTMPError(f"neither publish nor play within {MOST_BYTES} bytes")
        return b"".join(map(self._writer.write, answers))

    def answer_silence(self) -> bytes:
        """The client has sent nothing for a while. Returns bytes that must be sent to it."""
        if self._has_called or not self.answered:
            return b""
        self._has_called = True
        return self._writer.write(Command("onBWDone", 0.0).message())

    def written(self, message: Message) -> bytes:
        """The bytes of a further message to the client. No server's bytes may have been sent to it."""
        return self._writer.write(message)

    def _take(self, message: Message) -> list[Message]:
        """Process a message. Returns the answers."""
        try:
            command = read_command(message)
        except RTMPError:
            # The server may be able to read it.
            self.request = StreamRequest(None, "", 0.0, 0)
            return []
        if command is None:
            return []
        self._scanner.charge(_COMMAND_CHUNKS + len(message.payload) // COMMAND_BYTES_A_CHUNK)
        if (command.name == "connect") == bool(self.answered):
            raise RTMPError(f"{command.name[:40]!r} out of turn")
        return self._answer(command)

    def _answer(self, command: Command) -> list[Message]:
        name = command.name
        if name == "connect":
            return self._connect(command)
        self._has_called = True
        if name in _ACCEPTED:
            return self._accept(command)
        if name == "createStream" and command.transaction:
            return self._create_stream(command)
        if name in _ACTIONS and command.argument(0) is not False:
            self._ask(command, _ACTIONS[name])
        elif command.transaction and name not in _ACTIONS and name not in _UNANSWERED:
            self._ask(command, None)
        return []

    def _ask(self, command: Command, action: Action | None) -> None:
        stream = _name_of(command) if action is not None else ""
        self.request = StreamRequest(action, stream, command.transaction, command.stream_id)

    def _connect(self, command: Command) -> list[Message]:
        self.answered.append(Answered(command.name, command.transaction, self._read_bytes))
        return [
            window_acknowledgement_size(WINDOW_BYTES),
            set_peer_bandwidth(WINDOW_BYTES, BandwidthLimit.DYNAMIC),
            connect_result(command, read_connect(command)),
        ]

    def _create_stream(self, command: Command) -> list[Message]:
        if self._streams == _NET_STREAMS:
            raise RTMPError(f"more than {_NET_STREAMS} message streams")
        self._streams += 1
        transaction, end = command.transaction, self._read_bytes
        self.answered.append(Answered(command.name, transaction, end, self._streams))
        return [result(command, None, float(self._streams))]

    def _accept(self, command: Command) -> list[Message]:
        announced = _ACCEPTED[command.name]
        name, code = announced or ("", "")
        self.answered.append(
            Answered(command.name, command.transaction, self._read_bytes, notice=name)
        )
        answers = [result(command, None)] if command.transaction else []
        return [*answers, notice(name, 0, code, stream_name(command))] if name else answers


def _name_of(command: Command) -> str:
    """The name in a publish or play; that in a play2 is a property."""
    given: Value = command.argument(0)
    if isinstance(given, dict):
        given = given.get("streamName")
    return given.partition("?")[0].strip("/") if isinstance(given, str) else ""
