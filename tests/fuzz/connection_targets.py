"""Targets of both sides of RTMP connections, and of what edits their bytes on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from attrs import evolve

from gateway.errors import RTMPError
from gateway.port_test.dialogue import Dialogue
from gateway.protocols.port_test import measuring
from gateway.protocols.port_test.loopback import LoopbackServer
from gateway.protocols.rtmp.access_gate import AccessGate
from gateway.protocols.rtmp.answer_filter import AnswerFilter
from gateway.protocols.rtmp.chunks import ChunkReader, ChunkStream
from gateway.protocols.rtmp.connect_reader import MOST_BYTES
from gateway.protocols.rtmp.digest import ANSWER_RANDOM_BYTES
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake, ServerHandshake
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.message_editor import MessageEditor
from gateway.protocols.rtmp.messages import Message
from gateway.protocols.rtmp.opening import Opening
from gateway.protocols.rtmp.opening_replay import OpeningReplay
from gateway.protocols.rtmp.publisher import Destination, Publisher
from gateway.protocols.rtmp.relay import Player, StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.stream_ids import StreamIdTranslation
from gateway.protocols.rtmp.stream_reader import Answered
from tests.fuzz.inputs import (
    COMPARED_BYTES,
    HANDSHAKE,
    PUBLISHED,
    RTMP,
    RTMP_CONNECT_BYTES,
    SERVER_MESSAGES,
    in_pieces,
    measuring_stream,
    played,
)
from tests.fuzz.target import Target
from tests.helpers.rtmp_openings import OPENINGS


class _Wire:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None: ...

    def close(self, cause: str) -> None: ...


def _origin(data: bytes) -> None:
    handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
    connection = ServerConnection(_Wire(), StreamTable(), handshake)
    connection.receive(HANDSHAKE, 0.0)
    with suppress(RTMPError):
        for piece in in_pieces(data):
            connection.receive(piece, 0.0)
    connection.end()
    assert not connection.unfinished_bytes


def _loopback(data: bytes) -> None:
    handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
    server = LoopbackServer(handshake, bytes(measuring.BLOCK_BYTES), lambda: True)
    server.receive(HANDSHAKE, 0.0)
    with suppress(RTMPError):
        for piece in in_pieces(data):
            server.receive(piece, 0.0)
    assert len(server.due(1.0)) <= measuring.BYTES_PER_S


def _openings(data: bytes) -> None:
    """A client that must name its stream; what it has asked for is repeated to the embedded origin."""
    opening = Opening(
        DigestServerHandshake(0, bytes(RANDOM_BYTES), bytes(ANSWER_RANDOM_BYTES)), lambda _: True
    )
    opening.receive(HANDSHAKE, 0.0)
    answered_bytes = 0
    with suppress(RTMPError):
        for piece in in_pieces(data):
            if opening.is_complete:
                opening.hold(piece)
            else:
                answered_bytes += len(opening.receive(piece, 0.0))
        replay = opening.replay(None)
        if opening.is_complete and replay is not None:
            _replay(opening, replay)
    assert answered_bytes <= 100 * MOST_BYTES


def _replay(opening: Opening, replay: OpeningReplay) -> None:
    wire = _Recorder()
    server = ServerConnection(wire, StreamTable(), ServerHandshake(0, bytes(RANDOM_BYTES)))
    server.receive(HANDSHAKE, 0.0)
    wire.take()
    sent, part = b"", replay.begin(0.0)
    while part:
        sent += part
        server.receive(part, 0.0)
        part = replay.receive(wire.take(), 0.0)
    if replay.done and replay.refusal is None:
        sent += opening.passage(replay, None, 0.0).held
        assert bytes(opening.received).startswith(sent)


class _Recorder(_Wire):
    """``take`` returns what was written since the last time."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> None:
        self._written += data

    def take(self) -> bytes:
        written = bytes(self._written)
        self._written.clear()
        return written


def _answers(data: bytes) -> None:
    """What a server sends to a client that the gateway has answered."""
    answered = [
        Answered("connect", 1.0, 0),
        Answered("FCPublish", 2.0, 0, notice="onFCPublish"),
        Answered("createStream", 3.0, 0, 1),
    ]
    # The first byte has the size of the pieces.
    has_asked = bool(data[:1] and data[0] & 1)

    def new_filter() -> AnswerFilter:
        editor = AnswerFilter(answered)
        if has_asked:
            editor.pass_on(4.0)
        return editor

    _edit(new_filter, data)


def _stream_ids(data: bytes) -> None:
    _edit(lambda: StreamIdTranslation({1: 2, 2: 1}), data)


def _edit(new_editor: Callable[[], MessageEditor], data: bytes) -> None:
    out = _edited(new_editor(), in_pieces(data))
    assert len(out or b"") <= len(data)
    if len(data) <= COMPARED_BYTES:
        assert out == _edited(new_editor(), iter([data[1:]]))
        # What is not complete is held, with what follows it.
        shapes = _shapes(out or b"")
        assert shapes == _shapes(data[1:])[: len(shapes)]


class _Messages(ChunkReader):
    """``found``: the messages up to the first malformed chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Message] = []

    def _end_chunk(self, stream: ChunkStream, messages: list[Message]) -> None:
        super()._end_chunk(stream, messages)
        self.found += messages
        messages.clear()


def _messages(data: bytes) -> list[Message]:
    reader = _Messages()
    with suppress(RTMPError):
        reader.feed(data)
    return reader.found


def _shapes(data: bytes) -> list[tuple[int, int, int]]:
    """The types, sizes and times of the messages."""
    return [(each.type, len(each.payload), each.timestamp) for each in _messages(data)]


def _edited(editor: MessageEditor, pieces: Iterator[bytes]) -> bytes | None:
    """None if the stream is malformed."""
    try:
        return b"".join([editor.translate(piece, 0.0) for piece in pieces])
    except RTMPError:
        return None


def _gate(data: bytes) -> None:
    """A client whose requests are checked. An odd first byte renames its streams."""
    stream = "renamed" if data[:1] and data[0] & 1 else ""
    passed = _admitted(in_pieces(data), stream)
    if passed is None or len(data) > COMPARED_BYTES:
        return
    # In pieces, more small chunks and commands may be refused, but not fewer.
    assert passed == _admitted(iter([data[1:]]), stream)
    if not stream:
        sent, received = _messages(data[1:]), _messages(passed[len(HANDSHAKE) :])
        # The gate keeps a command that is not complete.
        assert received == sent[: len(received)]


def _admitted(pieces: Iterator[bytes], stream: str) -> bytes | None:
    """The bytes for the server; None if the connection has to end."""
    gate = AccessGate()
    passed = gate.up(HANDSHAKE, 0.0)
    gate.down(HANDSHAKE)
    try:
        for piece in pieces:
            passed += gate.up(piece, 0.0)
            gate.down(piece)
            while gate.request is not None:
                gate.refuse("no")
                passed += gate.allow(stream)
    except RTMPError:
        return None
    return passed


def _rewritten(data: bytes) -> None:
    """A client whose connect is changed."""
    out = _with_other_connect(in_pieces(data))
    if out is None or len(data) > COMPARED_BYTES:
        return
    assert out == _with_other_connect(iter([data[1:]]))
    sent, received = ([_but_for_connect(each) for each in _messages(it)] for it in (data[1:], out))
    assert received == sent[: len(received)]


def _with_other_connect(pieces: Iterator[bytes]) -> bytes | None:
    """The bytes for the server; None if the stream is malformed, or has no connect."""
    opening = Opening(
        DigestServerHandshake(0, bytes(RANDOM_BYTES), bytes(ANSWER_RANDOM_BYTES)), lambda _: False
    )
    opening.receive(HANDSHAKE, 0.0)
    try:
        for piece in pieces:
            opening.receive(piece, 0.0)
            if opening.is_complete:
                break
        if opening.connect is None:
            return None
        passage = opening.passage(None, opening.rewriting({"app": "other" * 100}), 0.0)
        out, up = passage.held, passage.up
        for piece in pieces:
            out += piece if up is None or up.done else up.translate(piece, 0.0)
    except RTMPError:
        return None
    return out


def _but_for_connect(message: Message) -> Message:
    is_connect = b"\x07connect" in message.payload[:12]
    return evolve(message, payload=b"") if is_connect else message


def _mirror(data: bytes) -> None:
    """A server that a stream is published to."""
    players: list[Player] = []
    publisher = Publisher(
        _Wire(),
        ServerMemory(),
        Destination("rtmp://host/live", "live", "name"),
        ClientHandshake(0, bytes(RANDOM_BYTES)),
        players.append,
    )
    publisher.begin()
    publisher.receive(HANDSHAKE, 0.0)
    with suppress(RTMPError):
        for piece in in_pieces(data):
            publisher.receive(piece, 0.0)
    publisher.unpublish()
    publisher.end()
    assert len(players) <= 1
    assert not publisher.queued_bytes


def _tester(data: bytes) -> None:
    """A server that the port test tries."""
    dialogue = Dialogue(bytes(RANDOM_BYTES))
    sent = dialogue.receive(HANDSHAKE)
    for begin in (dialogue.connect("live", "rtmp://host/live"), dialogue.play("name")):
        sent += begin
    dialogue.measure(measuring.UP)
    dialogue.ping(1)
    with suppress(RTMPError):
        for piece in in_pieces(data):
            sent += dialogue.receive(piece)
    texts = (dialogue.code, dialogue.description, dialogue.stream_code)
    assert all(len(text) <= 200 for text in texts)


_PUBLISHER = OPENINGS["FFmpeg 5.1 publishes"].sent
# With the size of the pieces. The connect's object ends in 0, 0, 9, and a chunk header follows it.
_CONNECT_BYTES = 1 + _PUBLISHER.index(b"\x00\x00\x09\x02") + 3

TARGETS = {
    "origin": Target(_origin, RTMP, RTMP_CONNECT_BYTES),
    "loopback": Target(_loopback, [*RTMP, b"\0" + measuring_stream()], RTMP_CONNECT_BYTES),
    "openings": Target(_openings, [b"\x10" + _PUBLISHER, RTMP[2]], _CONNECT_BYTES),
    "answers": Target(_answers, [b"\x10" + SERVER_MESSAGES, b"\x11" + SERVER_MESSAGES]),
    "stream_ids": Target(_stream_ids, [b"\x10" + SERVER_MESSAGES, RTMP[2]]),
    "gate": Target(
        _gate,
        [*(size + _PUBLISHER for size in (b"\0", b"\x11")), *RTMP],
        _CONNECT_BYTES,
    ),
    "rewritten": Target(
        _rewritten,
        [size + _PUBLISHER for size in (b"\0", b"\x10")],
        _CONNECT_BYTES,
    ),
    "mirror": Target(_mirror, [b"\0" + PUBLISHED, b"\x10" + PUBLISHED]),
    "tester": Target(_tester, [b"\0" + played(), b"\x10" + played()]),
}
