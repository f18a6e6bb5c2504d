"""Streamed answers on an HTTP connection: framing, commands behind them, slow clients and cuts."""

from __future__ import annotations

import re

import pytest
from twisted.internet.error import TimeoutError as TimedOut
from twisted.python.failure import Failure

from gateway.listeners.response_heads import LAST_CHUNK, streamed_head
from gateway.protocols.reasons import EndReason
from gateway.protocols.streaming import PAUSE_S, PLAYING_BYTES
from tests.helpers.http_conversation import Gateway, Upstream, Wire

HEADS = {
    "ffmpeg": (
        b"POST %b HTTP/1.1\r\nAccept: */*\r\nConnection: keep-alive\r\nHost: a\r\n"
        b"Content-Length: %d\r\nIcy-MetaData: 1\r\nUser-Agent: Shockwave Flash\r\n\r\n"
    ),
    "librtmp": (
        b"POST %b HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nUser-Agent: Shockwave Flash\r\n"
        b"Connection: Keep-Alive\r\nCache-Control: no-cache\r\n"
        b"Content-type: application/x-fcs\r\nContent-length: %d\r\n\r\n"
    ),
}
MEDIA = bytes(range(256)) * (PLAYING_BYTES // 256)


class Player:
    """A client whose play is under way: command 0 has fetched the first bytes of the upstream."""

    def __init__(self, gateway: Gateway, program: str) -> None:
        self.gateway = gateway
        self.program = program
        self.wire: Wire = gateway.accept()
        self.number = 0
        self._command(b"/open/1", b"\x00")
        self.session_id = self.take().partition(b"\r\n\r\n")[2].rstrip(b"\n")
        self.upstream: Upstream = gateway.upstreams[-1]
        self.send(b"\x03")
        self.take()

    def _command(self, target: bytes, body: bytes) -> None:
        self.wire.arrive(HEADS[self.program] % (target, len(body)) + body)
        self.gateway.turn()

    def idle(self) -> None:
        self._numbered(b"idle", b"\x00")

    def send(self, body: bytes) -> None:
        self._numbered(b"send", body)

    def close(self) -> None:
        self._numbered(b"close", b"\x00")

    def _numbered(self, word: bytes, body: bytes) -> None:
        self._command(b"/%b/%b/%d" % (word, self.session_id, self.number), body)
        self.number += 1

    def says(self, data: bytes) -> None:
        self.upstream.says(data)
        self.gateway.turn()

    def start(self) -> bytes:
        """Begin the first streamed answer. Returns its bytes so far."""
        self.idle()
        self.says(MEDIA)
        return self.take()

    def take(self) -> bytes:
        """The bytes written since the last call."""
        written, self.wire.writes = b"".join(self.wire.writes), []
        return written

    @property
    def reason(self) -> EndReason | None:
        return self.gateway.sessions.find(self.session_id).ended


@pytest.fixture
def ffmpeg() -> Player:
    return Player(Gateway(), "ffmpeg")


@pytest.fixture
def librtmp() -> Player:
    return Player(Gateway(), "librtmp")


def chunks_of(body: bytes) -> list[bytes]:
    """The chunks of a whole chunked body, the last and empty one included."""
    found = []
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        found.append(body[:length])
        assert body[length : length + 2] == b"\r\n"
        body = body[length + 2 :]
    return found


# Framing


def test_ffmpeg_gets_a_chunk_for_each_piece_of_upstream_data(ffmpeg: Player) -> None:
    head, _, first = ffmpeg.start().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert first == b"%x\r\n\x01" % (len(MEDIA) + 1) + MEDIA
    ffmpeg.says(b"second")
    assert ffmpeg.take() == b"\r\n6\r\nsecond"
    ffmpeg.gateway.passes(0.1)
    assert ffmpeg.take() == b"\r\n0\r\n\r\n"


def test_each_piece_of_a_streamed_answer_is_sent_in_one_write(ffmpeg: Player) -> None:
    ffmpeg.start()
    ffmpeg.says(b"second")
    ffmpeg.says(b"third")
    assert len(ffmpeg.wire.writes) == 2


def test_the_last_piece_and_the_end_of_a_chunked_answer_are_one_write(ffmpeg: Player) -> None:
    ffmpeg.start()
    # Without sweeps, which would end it during this pause.
    ffmpeg.gateway.clock.now += 0.5
    ffmpeg.says(b"last")
    assert ffmpeg.wire.writes == [b"\r\n4\r\nlast" + LAST_CHUNK]


def test_the_chunks_make_one_well_formed_body(ffmpeg: Player) -> None:
    written = ffmpeg.start()
    for size in (1, 300, 70_000):
        ffmpeg.says(bytes(size))
    ffmpeg.gateway.passes(0.5)
    body = (written + ffmpeg.take()).partition(b"\r\n\r\n")[2]
    chunks = chunks_of(body)
    assert chunks[-1] == b""
    assert b"".join(chunks) == b"\x01" + MEDIA + bytes(70_301)


def test_librtmp_gets_an_answer_with_a_declared_length_that_is_filled(librtmp: Player) -> None:
    head, _, body = librtmp.start().partition(b"\r\n\r\n")
    found = re.search(rb"\r\nContent-Length: (\d+)(\r\n|$)", head)
    assert found is not None
    assert b"chunked" not in head
    left = int(found[1]) - len(body)
    librtmp.says(bytes(left - 1))
    assert librtmp.take() == bytes(left - 1)
    librtmp.says(b"ab")
    assert librtmp.take() == b"a"
    librtmp.idle()
    assert librtmp.take().endswith(b"\r\n\r\n\x01b")


def test_streamed_answers_have_fields_that_ask_proxies_not_to_buffer_or_store(
    ffmpeg: Player,
) -> None:
    head = ffmpeg.start().partition(b"\r\n\r\n")[0]
    assert b"\r\nX-Accel-Buffering: no" in head
    assert b"\r\nCache-Control: no-store, no-transform" in head


def test_a_request_with_connection_close_gets_a_whole_answer() -> None:
    player = Player(Gateway(), "ffmpeg")
    player.says(MEDIA)
    target = b"/idle/%b/%d" % (player.session_id, player.number)
    head = HEADS["ffmpeg"].replace(b"keep-alive", b"close") % (target, 1)
    player.wire.arrive(head + b"\x00")
    assert player.take().endswith(b"\x01" + MEDIA)


def test_the_answer_after_a_streamed_answer_is_sent_after_its_end(ffmpeg: Player) -> None:
    ffmpeg.start()
    ffmpeg.gateway.passes(0.1)
    ffmpeg.take()
    ffmpeg.idle()
    assert ffmpeg.take() == b""
    ffmpeg.gateway.passes(0.6)
    assert ffmpeg.take().endswith(b"\r\n\r\n\x01")


# Behind an unfinished answer


def test_a_connection_is_marked_as_idle_while_data_waits_for_the_next_command(
    ffmpeg: Player,
) -> None:
    ffmpeg.start()
    ffmpeg.gateway.passes(2 * PAUSE_S)
    assert ffmpeg.take().endswith(LAST_CHUNK)
    assert ffmpeg.wire.idle_marks == 0
    ffmpeg.says(b"data")
    assert ffmpeg.wire.idle_marks == 1
    ffmpeg.idle()
    ffmpeg.says(b"data")
    assert ffmpeg.wire.idle_marks == 1


def test_a_send_during_an_unfinished_answer_is_sent_upstream_at_once(librtmp: Player) -> None:
    librtmp.start()
    librtmp.send(b"acknowledgement")
    assert librtmp.upstream.received[-1] == b"acknowledgement"
    assert librtmp.take() == b""
    librtmp.says(b"more")
    assert librtmp.take() == b"more"


def test_a_connection_proven_to_be_direct_gets_the_shortest_heads() -> None:
    assert len(streamed_head(196_609, 1, is_direct=True)) == 43
    assert streamed_head(None, 1, is_direct=True) == streamed_head(None, 1)


def test_a_close_during_an_unfinished_answer_takes_effect_and_ends_the_connection(
    librtmp: Player,
) -> None:
    librtmp.start()
    librtmp.close()
    assert librtmp.reason is EndReason.CLIENT_CLOSED
    # Its own answer would pass for bytes of the unfinished one.
    assert librtmp.take() == b""
    assert librtmp.wire.write_closed


def test_a_close_takes_effect_while_the_client_does_not_read(librtmp: Player) -> None:
    librtmp.start()
    librtmp.wire.room = 0
    librtmp.says(b"unread")
    librtmp.close()
    assert librtmp.reason is EndReason.CLIENT_CLOSED


# Slow clients


def test_data_for_a_full_connection_waits_and_follows_in_order(ffmpeg: Player) -> None:
    ffmpeg.start()
    ffmpeg.wire.room = 5
    ffmpeg.says(b"second")
    ffmpeg.says(b"third")
    ffmpeg.says(b"fourth")
    assert len(ffmpeg.wire.unsent) < 10
    ffmpeg.wire.drain()
    ffmpeg.gateway.turn()
    assert ffmpeg.take() == b"\r\n6\r\nsecond\r\nb\r\nthirdfourth"


def test_a_client_that_reads_nothing_pauses_the_upstream_and_is_aborted(ffmpeg: Player) -> None:
    ffmpeg.start()
    ffmpeg.wire.room = 0
    while ffmpeg.upstream.reading:
        ffmpeg.says(bytes(65536))
    assert len(ffmpeg.wire.unsent) <= 65536 + 10
    session = ffmpeg.gateway.sessions.find(ffmpeg.session_id)
    assert session.buffered_bytes <= ffmpeg.gateway.limits.down_buffer_bytes
    ffmpeg.gateway.passes(ffmpeg.gateway.limits.stalled_write_s + 0.1)
    assert ffmpeg.wire.aborted
    ffmpeg.wire.lose()
    ffmpeg.gateway.passes(0.2)
    assert ffmpeg.reason is EndReason.CLIENT_LOST


def test_a_client_that_does_not_read_is_not_read_after_the_end_of_its_streamed_answer(
    ffmpeg: Player,
) -> None:
    ffmpeg.start()
    ffmpeg.wire.room = 0
    ffmpeg.says(b"unread")
    ffmpeg.send(b"ends the answer")
    assert not ffmpeg.wire.reading
    ffmpeg.idle()
    ffmpeg.wire.drain()
    ffmpeg.gateway.turn()
    assert ffmpeg.wire.reading
    assert ffmpeg.upstream.received[-1] == b"ends the answer"
    assert b"unread" + LAST_CHUNK in ffmpeg.take()
    ffmpeg.says(b"more")
    assert b"more" in ffmpeg.take()


# Ends


def test_a_connection_lost_during_a_streamed_answer_ends_its_session(ffmpeg: Player) -> None:
    ffmpeg.start()
    ffmpeg.wire.lose()
    ffmpeg.gateway.passes(0.2)
    assert ffmpeg.reason is EndReason.CLIENT_LOST
    assert ffmpeg.upstream.ended == "aborted"


@pytest.mark.parametrize("program", ["ffmpeg", "librtmp"])
def test_a_client_that_vanishes_during_a_streamed_answer_ends_its_session(program: str) -> None:
    player = Player(Gateway(), program)
    player.start()
    player.wire.lost = True
    player.wire.protocol.connectionLost(Failure(TimedOut()))
    assert player.reason is EndReason.CLIENT_VANISHED


def test_a_client_that_vanishes_between_answers_ends_its_session(ffmpeg: Player) -> None:
    ffmpeg.wire.lost = True
    ffmpeg.wire.protocol.connectionLost(Failure(TimedOut()))
    assert ffmpeg.reason is EndReason.CLIENT_VANISHED


def test_a_client_that_continued_on_another_connection_has_not_vanished() -> None:
    gateway = Gateway()
    player = Player(gateway, "ffmpeg")
    first, player.wire = player.wire, gateway.accept()
    player.idle()
    first.lost = True
    first.protocol.connectionLost(Failure(TimedOut()))
    assert player.reason is None


def test_the_end_of_the_upstream_ends_the_chunked_answer_and_not_the_connection(
    ffmpeg: Player,
) -> None:
    ffmpeg.start()
    ffmpeg.says(b"last")
    ffmpeg.upstream.closes()
    assert ffmpeg.take() == b"\r\n4\r\nlast\r\n0\r\n\r\n"
    ffmpeg.idle()
    assert ffmpeg.take().startswith(b"HTTP/1.1 404 ")


def test_the_end_of_the_upstream_closes_the_connection_of_a_declared_answer(
    librtmp: Player,
) -> None:
    librtmp.start()
    librtmp.says(b"last")
    librtmp.upstream.closes()
    assert librtmp.take() == b"last"
    assert librtmp.wire.write_closed
    librtmp.gateway.passes(2.1)
    assert librtmp.wire.aborted


@pytest.mark.parametrize("program", ["ffmpeg", "librtmp"])
def test_a_long_play_keeps_its_connection(program: str) -> None:
    player = Player(Gateway(), program)
    player.start()
    for _ in range(400):
        player.gateway.passes(0.5)
        if player.program == "ffmpeg":
            player.idle()
        player.says(b"x")
    assert not player.wire.aborted
    assert player.reason is None


def test_sessions_that_share_a_connection_get_whole_answers() -> None:
    gateway = Gateway()
    one = Player(gateway, "ffmpeg")
    other = Player(gateway, "ffmpeg")
    other.wire = one.wire
    other.idle()
    other.upstream.says(MEDIA)
    assert one.take().endswith(b"\r\n\r\n\x01" + MEDIA)
