"""What is fuzzed: a function for each reader of bytes from the network, and inputs to begin with.

A target raises an exception if the reader raises any error but its own. Where the input is a stream, its
first byte is the size of the pieces in which it arrives (0: one piece). The result must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from attrs import frozen

from gateway.errors import BadRequest, BadResponse, RTMPError
from gateway.protocols import peering
from gateway.protocols.commands import Kind
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.port_test import measuring
from gateway.protocols.port_test.loopback import LoopbackServer
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import Connecting
from gateway.protocols.proxy_client.digest import Credentials
from gateway.protocols.proxy_client.forwarding import ForwardedRequests
from gateway.protocols.rtmp import amf0, amf3
from gateway.protocols.rtmp.amf import Date, EcmaArray, Reader, TypedObject, Value
from gateway.protocols.rtmp.answer_filter import AnswerFilter
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import Command, read_command, read_connect, stream_name
from gateway.protocols.rtmp.connect_reader import MOST_BYTES
from gateway.protocols.rtmp.digest import (
    ANSWER_RANDOM_BYTES,
    PLAYER,
    SCHEMES,
    SERVER,
    find_digest,
    put_digest,
)
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    RANDOM_BYTES,
    VERSION,
    ClientHandshake,
    ServerHandshake,
)
from gateway.protocols.rtmp.initiation import RANDOM_BYTES as INITIATION_RANDOM_BYTES
from gateway.protocols.rtmp.initiation import RTMPEInitiation
from gateway.protocols.rtmp.media import classify, player_metadata
from gateway.protocols.rtmp.message_editor import MessageEditor
from gateway.protocols.rtmp.messages import (
    Message,
    MessageType,
    UserControl,
    set_chunk_size,
    user_control,
)
from gateway.protocols.rtmp.opening import Opening
from gateway.protocols.rtmp.opening_replay import OpeningReplay
from gateway.protocols.rtmp.passive import Facts, PassiveReader
from gateway.protocols.rtmp.relay import StreamTable
from gateway.protocols.rtmp.server import ServerConnection
from gateway.protocols.rtmp.stream_ids import StreamIdTranslation
from gateway.protocols.rtmp.stream_reader import Answered
from gateway.protocols.rtmp.termination import RANDOM_BYTES as TERMINATION_RANDOM_BYTES
from gateway.protocols.rtmp.termination import RTMPETermination
from tests.helpers import amf3_encoder
from tests.helpers.rtmp_openings import OPENINGS
from tests.helpers.rtmpe_client import RTMPEClient, RTMPEServer

_HANDSHAKE = bytes([VERSION]) + bytes(HANDSHAKE_BYTES - 1)
# A read of a socket takes longer than all that the readers do with one byte.
_MOST_PIECES = 1000
# Larger inputs are read once only, since their time is measured.
_COMPARED_BYTES = 4096
_VALUES: list[Value] = [
    1.5,
    True,
    "live",
    None,
    Date(1.0),
    {"app": "live", "tcUrl": "rtmp://host/live"},
    EcmaArray({"width": 1280.0}),
    TypedObject("C", {"a": [1.0, "x"]}),
]


@frozen
class Target:
    """``run`` is called with each input. ``seeds``: inputs that are well formed."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]


def _pieces(data: bytes) -> Iterator[bytes]:
    size = data[0] if data else 0
    size = max(size or len(data), len(data) // _MOST_PIECES, 1)
    return (data[at : at + size] for at in range(1, len(data), size))


def _amf0(data: bytes) -> None:
    with suppress(RTMPError):
        amf0.decode(data)


def _amf3(data: bytes) -> None:
    reader, references = Reader(data), amf3.References()
    with suppress(RTMPError):
        while reader.at < len(data):
            amf3.Decoder(reader, references).value()


def _interpret(message: Message) -> None:
    classify(message)
    player_metadata(message)
    command = read_command(message)
    if command is not None:
        read_connect(command)
        stream_name(command)


def _messages(pieces: Iterator[bytes], now: float | None = None) -> list[Message] | None:
    """The messages in a stream of chunks, or None if it is malformed. ``now`` limits their number."""
    reader = ChunkReader()
    try:
        return [message for piece in pieces for message in reader.feed(piece, now)]
    except RTMPError:
        return None


def _chunks(data: bytes) -> None:
    for message in _messages(_pieces(data), now=0.0) or ():
        with suppress(RTMPError):
            _interpret(message)


def _segmentation(data: bytes) -> None:
    data = data[:_COMPARED_BYTES]
    assert _messages(_pieces(data)) == _messages(iter([data[1:]]))


class _Wire:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None: ...

    def close(self, cause: str) -> None: ...


def _origin(data: bytes) -> None:
    handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
    connection = ServerConnection(_Wire(), StreamTable(), handshake)
    connection.receive(_HANDSHAKE, 0.0)
    with suppress(RTMPError):
        for piece in _pieces(data):
            connection.receive(piece, 0.0)
    connection.end()
    assert not connection.unfinished_bytes


def _loopback(data: bytes) -> None:
    handshake = ServerHandshake(0, bytes(RANDOM_BYTES))
    server = LoopbackServer(handshake, bytes(measuring.BLOCK_BYTES), lambda: True)
    server.receive(_HANDSHAKE, 0.0)
    with suppress(RTMPError):
        for piece in _pieces(data):
            server.receive(piece, 0.0)
    assert len(server.due(1.0)) <= measuring.BYTES_PER_S


def _shake_hands(
    side: ServerHandshake | ClientHandshake, data: bytes
) -> tuple[bytes, bytes] | None:
    """What was sent, and what came after the handshake; None if it failed."""
    sent, rest = [], []
    try:
        for piece in _pieces(data):
            if side.done:
                rest.append(piece)
            else:
                sent.append(side.receive(piece))
                rest = [side.rest]
    except RTMPError:
        return None
    return b"".join(sent), b"".join(rest)


def _handshake(data: bytes) -> None:
    for side in (ServerHandshake, ClientHandshake):
        results = [
            _shake_hands(side(0, bytes(RANDOM_BYTES)), each) for each in (data, b"\0" + data[1:])
        ]
        assert results[0] == results[1]
    block = data[2 : 2 + BLOCK_BYTES]
    if len(block) == BLOCK_BYTES:
        for signer in (PLAYER, SERVER):
            find_digest(block, signer)
            for scheme in SCHEMES:
                assert find_digest(put_digest(block, scheme, signer), signer) is not None


def _initiation(data: bytes) -> None:
    """``data``: what a server of RTMPE sends."""
    initiation = _new_initiation()
    with suppress(RTMPError):
        for piece in _pieces(data):
            if initiation.is_ready:
                initiation.down(piece)
            else:
                initiation.shake_hands(piece)


def _new_initiation() -> RTMPEInitiation:
    return RTMPEInitiation(0, bytes(INITIATION_RANDOM_BYTES - 1) + b"\x07")


def _termination(data: bytes) -> None:
    """RTMPE, with a server that answers at once; the client is not changed if it speaks another version."""
    termination = RTMPETermination(0, bytes(TERMINATION_RANDOM_BYTES - 1) + b"\x07")
    server = ServerHandshake(0, bytes(RANDOM_BYTES))
    sent_bytes = 0
    with suppress(RTMPError):
        for piece in _pieces(data):
            up = termination.up(piece)
            sent_bytes += len(up)
            if up and not server.done and not termination.is_plain:
                termination.down(server.receive(up))
    assert sent_bytes <= len(data) + HANDSHAKE_BYTES


class _Figures:
    """Takes the reader's measurements."""

    def client_pinged(self, seconds: float) -> None: ...

    def upstream_pinged(self, seconds: float) -> None: ...

    def media_came(self, late_s: float) -> None: ...


def _passive(data: bytes) -> None:
    for figures in (None, _Figures()):
        facts = Facts()
        reader = PassiveReader(facts, figures)
        client: PassiveReader | None = reader.up(_HANDSHAKE, 0.0)
        server: PassiveReader | None = reader.down(_HANDSHAKE, 0.0)
        for number, piece in enumerate(_pieces(data)):
            client = client and client.up(piece, float(number))
            server = server and server.down(piece, float(number))
        assert max(map(len, (facts.application, facts.stream, facts.flash_version))) <= 128


def _openings(data: bytes) -> None:
    """A client that must name its stream; what it has asked for is repeated to the embedded origin."""
    opening = Opening(
        DigestServerHandshake(0, bytes(RANDOM_BYTES), bytes(ANSWER_RANDOM_BYTES)), lambda _: True
    )
    opening.receive(_HANDSHAKE, 0.0)
    answered_bytes = 0
    with suppress(RTMPError):
        for piece in _pieces(data):
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
    server.receive(_HANDSHAKE, 0.0)
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
    out = _edited(new_editor(), _pieces(data))
    assert len(out or b"") <= len(data)
    if len(data) <= _COMPARED_BYTES:
        assert out == _edited(new_editor(), iter([data[1:]]))


def _edited(editor: MessageEditor, pieces: Iterator[bytes]) -> bytes | None:
    """None if the stream is malformed."""
    try:
        return b"".join([editor.translate(piece, 0.0) for piece in pieces])
    except RTMPError:
        return None


def _requests(pieces: Iterator[bytes]) -> tuple[list[Any], str]:
    """Each request's method, target, fields and body; and the error that ended the connection."""
    reader, found = RequestReader(Limits()), []
    try:
        for piece in pieces:
            reader.receive(piece)
            while reader.in_body or reader.next_head():
                body = reader.whole_body()
                if body is None:
                    break
                found.append((reader.method, reader.target, body))
    except BadRequest as error:
        return found, type(error).__name__
    return found, ""


def _http(data: bytes) -> None:
    found, error = _requests(_pieces(data))
    expected, its_error = _requests(iter([data[1:]]))
    assert found == expected
    assert bool(error) == bool(its_error)


def _forwarded_answers(pieces: Iterator[bytes]) -> tuple[bytes, str, object]:
    """What is passed on of a proxy's responses, the error that ended them, and the outcome."""
    known = Authentication(Credentials("ann", "secret"), lambda: "cnonce")
    requests, passed = ForwardedRequests(known, Limits(), is_opening=True), b""
    for _ in range(16):
        requests.head(_FORWARDED, b"")
    try:
        for piece in pieces:
            received = requests.receive(piece)
            passed += received.data
            if received.outcome is not None:
                return passed, "", received.outcome
    except BadResponse as error:
        return passed, type(error).__name__, None
    return passed, "", None


def _proxy(data: bytes) -> None:
    connecting = Connecting("host:443", Authentication(None, lambda: "cnonce"), Limits())
    with suppress(BadResponse):
        connecting.request()
        connecting.receive(data[1:])
    found, error, outcome = _forwarded_answers(_pieces(data))
    expected, its_error, its_outcome = _forwarded_answers(iter([data[1:]]))
    assert (bool(error), outcome) == (bool(its_error), its_outcome)
    # In pieces, more has been passed on before an error.
    assert error or found == expected


def _frames(pieces: Iterator[bytes], greeting: bytes) -> list[peering.Frame] | None:
    reader = peering.FrameReader(greeting)
    try:
        return [frame for piece in pieces for frame in reader.receive(piece)]
    except peering.OutOfStep:
        return None


def _peering(data: bytes) -> None:
    for greeting in (b"", peering.GREETING):
        stream = greeting + data[1:]
        frames = _frames(_pieces(data[:1] + stream), greeting)
        if len(stream) <= _COMPARED_BYTES:
            assert frames == _frames(iter([stream]), greeting)
        for _, _, payload in frames or ():
            for read in (peering.read_command, peering.read_connection_and_session):
                with suppress(peering.OutOfStep):
                    read(payload)


def _rtmp_stream() -> bytes:
    """A client that connects, publishes and sends media, in small chunks and in large ones."""
    writer = ChunkWriter()
    asked: Value = {"app": "live", "tcUrl": "rtmp://host/live", "flashVer": "test"}
    messages = [
        Command("connect", 1.0, asked).message(),
        set_chunk_size(4096),
        Command("createStream", 2.0).message(),
        Command("publish", 3.0, None, ("name", "live"), 1).message(),
        Message(MessageType.DATA, amf0.encode("@setDataFrame", "onMetaData", EcmaArray()), 1),
        Message(MessageType.VIDEO, b"\x17\x00\x00\x00\x00avcC", 1),
        Message(MessageType.VIDEO, b"\x17\x01\x00\x00\x00key", 1, 0x1000000),
        Message(MessageType.AUDIO, b"\xaf\x01" + bytes(5000), 1, 0x1000001),
        Message(
            MessageType.COMMAND_AMF3,
            b"\0" + amf0.encode("play", 0.0, None, "name") + b"\x11\x01",
            1,
        ),
        Message(MessageType.USER_CONTROL, b"\0\x06\0\0\0\x01"),
    ]
    return b"".join(map(writer.write, messages))


def _measuring_stream() -> bytes:
    """A client of the loop-back."""
    writer = ChunkWriter()
    messages = [
        Message(MessageType.USER_CONTROL, b"\0\x06\0\0\0\x01"),
        Command(measuring.MEASURE, 1.0, None, (measuring.UP,)).message(),
        set_chunk_size(measuring.BLOCK_BYTES),
        Message(MessageType.AUDIO, bytes(measuring.BLOCK_BYTES)),
        Command(measuring.MEASURE, 2.0, None, (measuring.DOWN,)).message(),
    ]
    return b"".join(map(writer.write, messages))


_RTMP = [size + _rtmp_stream() for size in (b"\0", b"\x01", b"\x64")]
_ANSWERS = b"".join(
    map(
        ChunkWriter().write,
        [
            user_control(UserControl.STREAM_BEGIN, 1),
            Command("_result", 1.0, {}, ({"code": "NetConnection.Connect.Success"},)).message(),
            Command("onFCPublish", 0.0, None, ({},)).message(),
            Command("_error", 3.0, None, ({"description": "x" * 300},)).message(),
            Message(MessageType.AUDIO, bytes(300), 1),
        ],
    )
)
_FRAMES = (
    peering.command_head(1, b"session", Kind.SEND, 2, 4, 3, peering.MAY_HOLD, b"via")
    + b"body"
    + peering.frame(peering.SOURCE_LOST, 0, peering.connection_and_session(3, b"session"))
)
_REQUESTS = (
    b"POST /send/id/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    b"POST /idle/id/2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4;x\r\nbody\r\n0\r\nt: v\r\n\r\n"
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
)

_FORWARDED = b"POST http://host/idle/id/1 HTTP/1.1\r\nHost: host\r\n\r\n"
_ANSWERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x01data"
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x01data\r\n0\r\n\r\n"
    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Negotiate, Basic realm=a, Digest realm="a", '
    b'nonce="n", qop="auth,auth-int", algorithm=SHA-256, stale=true\r\n\r\n'
)

TARGETS = {
    "amf0": Target(_amf0, [amf0.encode(*_VALUES), b"\x11" + amf3_encoder.encode(*_VALUES)]),
    "amf3": Target(_amf3, [amf3_encoder.encode(*_VALUES, *_VALUES)]),
    "chunks": Target(_chunks, _RTMP),
    "segmentation": Target(_segmentation, _RTMP),
    "origin": Target(_origin, _RTMP),
    "loopback": Target(_loopback, [*_RTMP, b"\0" + _measuring_stream()]),
    "handshake": Target(_handshake, [b"\0" + _HANDSHAKE + b"rest", b"\x64" + _HANDSHAKE]),
    "initiation": Target(
        _initiation,
        [b"\0" + RTMPEServer(scheme).answer(_new_initiation().hello) for scheme in (0, 1)],
    ),
    "termination": Target(
        _termination,
        [size + RTMPEClient(scheme).hello for size, scheme in ((b"\0", 0), (b"\x64", 1))],
    ),
    "passive": Target(_passive, _RTMP),
    "openings": Target(_openings, [b"\x10" + OPENINGS["FFmpeg 5.1 publishes"].sent, _RTMP[2]]),
    "answers": Target(_answers, [b"\x10" + _ANSWERS, b"\x11" + _ANSWERS]),
    "stream_ids": Target(_stream_ids, [b"\x10" + _ANSWERS, _RTMP[2]]),
    "http": Target(_http, [size + _REQUESTS for size in (b"\0", b"\x01", b"\x20")]),
    "proxy": Target(_proxy, [size + _ANSWERS for size in (b"\0", b"\x01", b"\x20")]),
    "peering": Target(_peering, [size + _FRAMES for size in (b"\0", b"\x01", b"\x20")]),
}
