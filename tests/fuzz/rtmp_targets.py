"""Targets of the readers of RTMP: values, chunks, handshakes, and copies of a connection's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0, amf3
from gateway.protocols.rtmp.amf import Date, EcmaArray, Reader, TypedObject, Value
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.commands import read_command, read_connect, stream_name
from gateway.protocols.rtmp.digest import PLAYER, SCHEMES, SERVER, find_digest, put_digest
from gateway.protocols.rtmp.handshake import (
    BLOCK_BYTES,
    HANDSHAKE_BYTES,
    RANDOM_BYTES,
    ClientHandshake,
    ServerHandshake,
)
from gateway.protocols.rtmp.initiation import RANDOM_BYTES as INITIATION_RANDOM_BYTES
from gateway.protocols.rtmp.initiation import RTMPEInitiation
from gateway.protocols.rtmp.media import classify, player_metadata
from gateway.protocols.rtmp.memory import ServerMemory
from gateway.protocols.rtmp.messages import Message
from gateway.protocols.rtmp.mirroring import MirrorReader
from gateway.protocols.rtmp.passive import Facts, PassiveReader
from gateway.protocols.rtmp.relay import LiveStream
from gateway.protocols.rtmp.termination import RANDOM_BYTES as TERMINATION_RANDOM_BYTES
from gateway.protocols.rtmp.termination import RTMPETermination
from tests.fuzz.inputs import (
    COMPARED_BYTES,
    HANDSHAKE,
    PUBLISHED,
    RTMP,
    RTMP_CONNECT_BYTES,
    in_pieces,
)
from tests.fuzz.target import Target
from tests.helpers import amf3_encoder
from tests.helpers.rtmpe_client import RTMPEClient, RTMPEServer

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
    for message in _messages(in_pieces(data), now=0.0) or ():
        with suppress(RTMPError):
            _interpret(message)


def _segmentation(data: bytes) -> None:
    data = data[:COMPARED_BYTES]
    assert _messages(in_pieces(data)) == _messages(iter([data[1:]]))


def _shake_hands(
    side: ServerHandshake | ClientHandshake, data: bytes
) -> tuple[bytes, bytes] | None:
    """What was sent, and what came after the handshake; None if it failed."""
    sent, rest = [], []
    try:
        for piece in in_pieces(data):
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
        for piece in in_pieces(data):
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
        for piece in in_pieces(data):
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
        client: PassiveReader | None = reader.up(HANDSHAKE, 0.0)
        server: PassiveReader | None = reader.down(HANDSHAKE, 0.0)
        for number, piece in enumerate(in_pieces(data)):
            client = client and client.up(piece, float(number))
            server = server and server.down(piece, float(number))
        assert max(map(len, (facts.application, facts.stream, facts.flash_version))) <= 128


def _mirrored(data: bytes) -> None:
    """A publish that is mirrored: the client's bytes, the server's answer, and the client's bytes again."""
    begun: list[LiveStream] = []
    reader = MirrorReader(
        lambda application, stream: True,
        ServerMemory(),
        lambda stream, application, name: begun.append(stream),
        begun.remove,
    )
    mirror: MirrorReader | None = reader
    for up, down in ((HANDSHAKE, HANDSHAKE), (b"", PUBLISHED)):
        for piece in (up, *in_pieces(data)):
            mirror = mirror and mirror.up(piece, 0.0)
        mirror = mirror and mirror.down(down, 0.0)
    reader.end()
    assert not begun
    assert not reader.unfinished_bytes


def _mirrored_answers(data: bytes) -> None:
    """What the server of a publish that is mirrored sends."""
    reader: MirrorReader | None = MirrorReader(
        lambda application, stream: True, ServerMemory(), lambda *_: None, lambda _: None
    )
    reader = reader and reader.up(HANDSHAKE + RTMP[0][1:], 0.0)
    reader = reader and reader.down(HANDSHAKE, 0.0)
    assert reader
    for piece in in_pieces(data):
        reader = reader and reader.down(piece, 0.0)


TARGETS = {
    "amf0": Target(
        _amf0,
        [amf0.encode(*_VALUES), b"\x11" + amf3_encoder.encode(*_VALUES)],
        once_bytes=0,
    ),
    "amf3": Target(_amf3, [amf3_encoder.encode(*_VALUES, *_VALUES)], once_bytes=0),
    "chunks": Target(_chunks, RTMP),
    "segmentation": Target(_segmentation, RTMP),
    "handshake": Target(_handshake, [b"\0" + HANDSHAKE + b"rest", b"\x64" + HANDSHAKE]),
    "initiation": Target(
        _initiation,
        [b"\0" + RTMPEServer(scheme).answer(_new_initiation().hello) for scheme in (0, 1)],
    ),
    "termination": Target(
        _termination,
        [size + RTMPEClient(scheme).hello for size, scheme in ((b"\0", 0), (b"\x64", 1))],
    ),
    "passive": Target(_passive, RTMP, RTMP_CONNECT_BYTES),
    "mirrored": Target(_mirrored, RTMP, RTMP_CONNECT_BYTES),
    "mirrored_answers": Target(_mirrored_answers, [b"\0" + PUBLISHED, b"\x10" + PUBLISHED]),
}
