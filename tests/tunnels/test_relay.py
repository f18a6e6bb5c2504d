"""Relays: unchanged bytes, both ends of each stream, losses, and limits."""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import TimeoutError as TimedOut
from twisted.python.failure import Failure

from gateway.errors import RequestRefused, ResourcesExhausted, UpstreamUnavailable
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import LEAST_BYTES_A_S, Limits
from gateway.protocols.reasons import EndReason
from gateway.tunnels.admission import Admission
from gateway.tunnels.relay import Relay
from gateway.tunnels.relay_connection import RelayConnection
from gateway.tunnels.relay_table import RelayTable
from tests.helpers.line import Line
from tests.helpers.own_count import OwnCount

HANDSHAKE = b"\x03" + bytes(1536)
MARK = 128 * 1024
LIMITS = Limits()


class Waiting:
    """The protocol of a client's connection before detection."""

    def __init__(self) -> None:
        self.lost = 0

    def makeConnection(self, transport: Any) -> None:
        pass

    def connectionLost(self, reason: object) -> None:
        self.lost += 1


class Bench:
    """A table, its clock and its upstream, which connects at once unless ``dialling`` is set."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now = 1000.0
        self.admission = Admission(limits, 1 << 30, OwnCount())
        self.opened: list[Relay] = []
        self.ends: list[EndReason] = []
        self.refused: list[tuple[RequestRefused, str]] = []
        self.left = 0
        self.dialling = False
        self.dials: list[tuple[RelayConnection, Deferred[None]]] = []
        self.clients: list[Line] = []
        self.upstreams: list[Line] = []
        self.upstream_room = float("inf")
        self._aliases = 0
        self.table = RelayTable(
            limits, self.admission, self._alias, self._connect, lambda: self.now, self
        )

    def session_opened(self, session: Relay) -> None:
        self.opened.append(session)

    def session_ended(self, session: Relay, reason: EndReason) -> None:
        self.ends.append(reason)

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.refused.append((error, address))

    def _alias(self) -> str:
        self._aliases += 1
        return f"relay{self._aliases}"

    async def _connect(self, side: RelayConnection, session: Relay) -> str:
        if self.dialling:
            dial: Deferred[None] = Deferred()
            self.dials.append((side, dial))
            await dial
        else:
            self.stands(side)
        return "media:1935"

    def stands(self, side: RelayConnection) -> Line:
        self.upstreams.append(Line(self.upstream_room).connect(side))
        return self.upstreams[-1]

    def _has_left(self) -> None:
        self.left += 1

    def accept(
        self, first: bytes = HANDSHAKE, room: float = float("inf"), address: str = "192.0.2.1"
    ) -> Line:
        client = Line(room).connect(Waiting())
        self.clients.append(client)
        self.table.open(address, client, first, left=self._has_left)
        return client

    def pair(self, client_room: float = float("inf")) -> tuple[Line, Line]:
        client = self.accept(room=client_room)
        return client, self.upstreams[-1]

    def passes(self, seconds: float) -> None:
        """Advance the clock; sweep every second."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1, until)
            self.table.sweep(self.now)
            self.turn()

    def turn(self) -> None:
        for line in (*self.clients, *self.upstreams):
            line.turn()

    @property
    def kept(self) -> int:
        return len(self.table._relays)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def all_is_gone(bench: Bench, *lines: Line) -> bool:
    """The only relay has been removed completely, and from each count once."""
    for line in lines:
        line.turn()
    return (
        all(line.closed for line in lines)
        and (bench.kept, bench.left, len(bench.ends)) == (0, 1, 1)
        and bench.admission.living == 0
    )


# --- Bytes ---


def test_the_first_bytes_and_all_later_bytes_pass_unchanged_in_both_directions(bench) -> None:
    client, upstream = bench.pair()
    client.says(b"more")
    upstream.says(b"answer")
    client.says(b"and more")
    assert upstream.received == HANDSHAKE + b"more" + b"and more"
    assert client.received == b"answer"
    assert (bench.opened[0].bytes_up, bench.opened[0].bytes_down) == (1537 + 12, 6)


def test_the_client_is_not_read_before_the_upstream_is_connected(bench) -> None:
    bench.dialling = True
    client = bench.accept()
    client.says(b"early")
    assert not client.reading
    side, dial = bench.dials.pop()
    upstream = bench.stands(side)
    dial.callback(None)
    client.turn()
    assert upstream.received == HANDSHAKE + b"early"


def test_a_vanished_peer_ends_the_relay_with_the_reason_of_its_side(bench) -> None:
    for index, reason in enumerate((EndReason.CLIENT_VANISHED, EndReason.UPSTREAM_VANISHED)):
        lines = bench.pair()
        lines[index].protocol.connectionLost(Failure(TimedOut()))
        assert bench.ends[-1] is reason
        assert lines[1 - index].aborted or reason is EndReason.UPSTREAM_VANISHED


def test_a_unix_socket_which_has_no_keep_alive_is_relayed(bench) -> None:
    client = Line().connect(Waiting())
    client.socket.family = socket.AF_UNIX
    bench.table.open("", client, HANDSHAKE, left=bench._has_left)
    client.says(b"more")
    assert bench.upstreams[0].received.endswith(b"more")


# --- Back-pressure ---


@pytest.mark.parametrize("down", [True, False])
def test_a_full_side_pauses_the_other_side_until_the_full_side_has_drained(
    bench: Bench, down: bool
) -> None:
    bench.upstream_room = 1000
    client, upstream = bench.pair(client_room=1000)
    upstream.reads()
    speaker, listener = (upstream, client) if down else (client, upstream)
    data = bytes(range(256)) * 1024
    speaker.says(data)
    assert not speaker.reading
    speaker.says(b"and then")
    assert listener.unsent <= len(data)
    listener.reads(1000)
    assert not speaker.reading
    while not speaker.reading:
        listener.reads(1000)
    speaker.turn()
    listener.reads()
    assert listener.received[-len(data) - 8 :] == data + b"and then"


def test_a_side_is_paused_when_unsent_data_exceeds_the_mark(bench: Bench) -> None:
    client, upstream = bench.pair(client_room=0)
    upstream.says(bytes(MARK))
    assert upstream.reading
    upstream.says(b"x")
    assert not upstream.reading
    assert client.unsent == MARK + 1


# --- Ends ---


@pytest.mark.parametrize(
    ("first", "reason"),
    [("client", EndReason.CLIENT_CLOSED), ("upstream", EndReason.UPSTREAM_CLOSED)],
)
def test_a_half_closed_side_still_receives_and_determines_the_reason(bench, first, reason) -> None:
    sides = bench.pair()
    ending, other = sides if first == "client" else sides[::-1]
    ending.says(b"last words")
    ending.ends()
    other.turn()
    assert other.received.endswith(b"last words")
    assert other.ended
    assert bench.ends == []
    other.says(b"and mine")
    assert ending.received.endswith(b"and mine")
    other.ends()
    assert bench.ends == [reason]
    assert all_is_gone(bench, *sides)


def test_a_half_close_is_forwarded_after_all_unsent_data(bench: Bench) -> None:
    client, upstream = bench.pair(client_room=100)
    upstream.says(bytes(MARK + 100))
    client.reads(50)
    upstream._peer_ended = True
    while client.unsent:
        assert not client.ended
        client.reads(1000)
    upstream.turn()
    client.turn()
    client.reads()
    assert len(client.received) == MARK + 100
    assert client.ended


def test_a_half_close_does_not_end_the_back_pressure_of_the_other_direction(bench: Bench) -> None:
    client, upstream = bench.pair(client_room=0)
    upstream.says(bytes(MARK + 1))
    client.ends()
    upstream.turn()
    assert upstream.ended
    assert not upstream.reading


def test_a_client_that_half_closes_before_the_upstream_is_connected_loses_no_data(
    bench: Bench,
) -> None:
    """Inside TLS, close_notify can arrive in the same segment as the first bytes."""
    bench.dialling = True
    client = bench.accept()
    client.protocol.readConnectionLost()
    side, dial = bench.dials.pop()
    upstream = bench.stands(side)
    dial.callback(None)
    upstream.turn()
    assert upstream.received == HANDSHAKE
    assert upstream.ended
    upstream.says(b"answer")
    upstream.ends()
    assert client.received == b"answer"
    assert bench.ends == [EndReason.CLIENT_CLOSED]


@pytest.mark.parametrize(
    ("lost", "reason"),
    [("client", EndReason.CLIENT_LOST), ("upstream", EndReason.UPSTREAM_LOST)],
)
def test_a_lost_side_ends_the_relay_after_its_data(bench, lost, reason) -> None:
    bench.upstream_room = 2000
    client, upstream = bench.pair(client_room=2000)
    upstream.reads()
    losing, other = (client, upstream) if lost == "client" else (upstream, client)
    losing.says(bytes(10_000))
    losing.resets()
    assert bench.ends == [reason]
    assert (bench.admission.living, other.closed) == (0, False)
    other.reads()
    other.turn()
    assert other.received[-10_000:] == bytes(10_000)
    assert other.ended
    other.ends()
    assert all_is_gone(bench, client, upstream)


def test_a_client_lost_after_its_half_close_counts_as_closed(bench: Bench) -> None:
    """A closed player resets the connection when more data arrives."""
    client, upstream = bench.pair()
    client.ends()
    upstream.says(b"media")
    client.resets()
    upstream.ends()
    assert bench.ends == [EndReason.CLIENT_CLOSED]
    assert all_is_gone(bench, client, upstream)


def test_data_after_the_end_of_a_relay_is_read_and_discarded(bench: Bench) -> None:
    """A socket closed with unread bytes resets the connection."""
    client, upstream = bench.pair()
    client.resets()
    upstream.says(b"media")
    assert not upstream.closed
    upstream.ends()
    assert all_is_gone(bench, client, upstream)


def test_the_connection_of_a_peer_that_does_not_close_is_closed_after_two_seconds(
    bench: Bench,
) -> None:
    client, upstream = bench.pair()
    upstream.resets()
    bench.passes(1)
    assert not client.closed
    bench.passes(2)
    assert client.closed
    assert not client.aborted
    assert all_is_gone(bench, client, upstream)


def test_a_peer_that_does_not_read_after_the_end_is_disconnected(bench: Bench) -> None:
    client, upstream = bench.pair(client_room=100)
    upstream.says(bytes(1000))
    upstream.resets()
    bench.passes(LIMITS.stalled_write_s - 2)
    assert not client.aborted
    bench.passes(3)
    assert client.aborted
    assert all_is_gone(bench, client, upstream)


def test_end_all_closes_every_relay_after_its_data(bench: Bench) -> None:
    lines = [bench.pair() for _ in range(3)]
    lines[0][1].says(b"last words")
    bench.table.end_all(EndReason.DRAINED)
    assert bench.ends == [EndReason.DRAINED] * 3
    for client, upstream in lines:
        client.turn()
        upstream.turn()
        assert client.ended
        assert upstream.ended
        client.ends()
        upstream.ends()
    assert lines[0][0].received == b"last words"
    assert (bench.kept, bench.admission.living, bench.left) == (0, 0, 3)


def test_a_relay_that_is_ended_twice_is_counted_once(bench: Bench) -> None:
    bench.pair()
    for reason in (EndReason.ENDED_BY_OPERATOR, EndReason.DRAINED):
        bench.opened[0].dismiss(reason)
    assert bench.ends == [EndReason.ENDED_BY_OPERATOR]
    assert bench.admission.living == 0


# --- Dialling ---


def test_a_client_is_disconnected_at_once_if_no_upstream_is_available(bench: Bench) -> None:
    bench.dialling = True
    client = bench.accept()
    bench.dials.pop()[1].errback(UpstreamUnavailable("none"))
    assert client.aborted
    assert [address for _, address in bench.refused] == ["192.0.2.1"]
    assert bench.ends == [EndReason.UPSTREAM_UNAVAILABLE]
    assert bench.opened == []
    assert all_is_gone(bench, client)


def test_a_connect_that_fails_for_lack_of_local_resources_does_not_blame_the_media_server(
    bench: Bench,
) -> None:
    bench.dialling = True
    client = bench.accept()
    bench.dials.pop()[1].errback(ResourcesExhausted("descriptors"))
    assert client.aborted
    assert bench.ends == [EndReason.RESOURCES_EXHAUSTED]
    assert all_is_gone(bench, client)


def test_an_upstream_lost_before_the_relay_has_begun_ends_the_relay(bench: Bench) -> None:
    bench.dialling = True
    client = bench.accept()
    side, dial = bench.dials.pop()
    upstream = bench.stands(side)
    upstream.resets()
    dial.callback(None)
    client.turn()
    client.ends()
    assert bench.ends == [EndReason.UPSTREAM_LOST]
    assert bench.opened == []
    assert all_is_gone(bench, client, upstream)


@pytest.mark.parametrize("stands", [True, False])
def test_a_client_lost_during_the_connect_leaves_no_upstream_connection(bench, stands) -> None:
    bench.dialling = True
    client = bench.accept()
    client.resets()
    assert bench.ends == [EndReason.CLIENT_LOST]
    side, dial = bench.dials.pop()
    if stands:
        upstream = bench.stands(side)
        dial.callback(None)
        upstream.turn()
        assert upstream.aborted
    else:
        dial.errback(UpstreamUnavailable("none"))
    assert bench.ends == [EndReason.CLIENT_LOST]
    assert bench.refused == []
    assert (bench.kept, bench.left, bench.admission.living) == (0, 1, 0)


def test_an_exception_during_the_connect_ends_one_relay_and_is_logged(bench: Bench) -> None:
    bench.dialling = True
    client = bench.accept()
    bench.dials.pop()[1].errback(ZeroDivisionError())
    assert bench.ends == [EndReason.FAULT]
    assert all_is_gone(bench, client)


# --- Caps ---


def test_a_relay_counts_as_a_session_of_its_address() -> None:
    bench = Bench(Limits(sessions_per_address=1))
    bench.accept()
    refused = bench.accept()
    other = bench.accept(address="192.0.2.2")
    assert refused.aborted
    assert not other.aborted
    assert [address for _, address in bench.refused] == ["192.0.2.1"]
    assert bench.admission.living == 2


def test_the_protocol_of_a_refused_client_is_notified_of_the_loss() -> None:
    bench = Bench(Limits(sessions=1))
    bench.accept()
    refused = bench.accept()
    refused.turn()
    assert refused.protocol.lost == 1
    assert bench.left == 0


# --- Deadlines ---


@pytest.mark.parametrize("first", [b"\x03", HANDSHAKE[:-1]])
def test_a_relay_without_a_complete_handshake_is_aborted_at_the_limit(
    bench: Bench, first: bytes
) -> None:
    client = bench.accept(first)
    bench.passes(LIMITS.unused_session_s - 1)
    assert not client.aborted
    bench.passes(1)
    assert client.aborted
    assert bench.ends == [EndReason.ABANDONED]
    assert all_is_gone(bench, client, bench.upstreams[0])


def test_an_rtmp_handshake_sent_at_one_byte_a_second_is_aborted_at_the_limit(bench: Bench) -> None:
    client = bench.accept(b"\x03")
    for _ in range(int(LIMITS.unused_session_s)):
        client.says(b"\x00")
        bench.passes(1)
    assert client.aborted


def test_a_player_may_be_silent_without_limit(bench: Bench) -> None:
    client, upstream = bench.pair()
    bench.passes(4000)
    upstream.says(b"media")
    assert client.received == b"media"


@pytest.mark.parametrize(
    ("stalls", "reason"),
    [("client", EndReason.CLIENT_STALLED), ("upstream", EndReason.UPSTREAM_STALLED)],
)
def test_a_peer_that_does_not_read_is_disconnected_at_the_limit(
    bench: Bench, stalls: str, reason: object
) -> None:
    bench.upstream_room = 2000
    client, upstream = bench.pair(client_room=2000)
    stalling, speaker = (client, upstream) if stalls == "client" else (upstream, client)
    speaker.says(bytes(2 * MARK))
    bench.passes(LIMITS.stalled_write_s - 1)
    assert bench.ends == []
    bench.passes(1)
    assert bench.ends == [reason]
    assert stalling.aborted
    assert not speaker.aborted
    speaker.ends()
    assert all_is_gone(bench, client, upstream)


def test_a_peer_that_reads_slowly_is_not_disconnected(bench: Bench) -> None:
    client, upstream = bench.pair(client_room=2000)
    upstream.says(bytes(2 * MARK))
    for _ in range(200):
        client.reads(LEAST_BYTES_A_S + 50)
        bench.passes(1)
    assert bench.ends == []


@pytest.mark.parametrize("bytes_a_s", [1, LEAST_BYTES_A_S - 50])
def test_a_peer_that_reads_too_slowly_is_disconnected(bench: Bench, bytes_a_s: int) -> None:
    client, upstream = bench.pair(client_room=2000)
    upstream.says(bytes(2 * MARK))
    for _ in range(int(LIMITS.stalled_write_s)):
        assert bench.ends == []
        client.reads(bytes_a_s)
        bench.passes(1)
    assert bench.ends == [EndReason.CLIENT_STALLED]


def test_a_peer_that_reads_the_rest_slowly_is_not_disconnected(bench: Bench) -> None:
    client, upstream = bench.pair(client_room=2000)
    upstream.says(bytes(2 * MARK))
    upstream.protocol.readConnectionLost()
    for _ in range(30):
        client.reads(2 * MARK // 20)
        bench.passes(LIMITS.stalled_write_s - 2)
        if client.ended:
            break
    client.reads()
    assert len(client.received) == 2 * MARK
    client.ends()
    assert bench.ends == [EndReason.UPSTREAM_CLOSED]


def test_a_peer_that_does_not_read_after_the_end_of_the_other_side_is_disconnected(
    bench: Bench,
) -> None:
    client, upstream = bench.pair(client_room=2000)
    upstream.says(bytes(10_000))
    upstream.ends()
    bench.passes(LIMITS.stalled_write_s)
    assert bench.ends == [EndReason.CLIENT_STALLED]
    assert client.aborted


def test_a_half_closed_relay_without_data_ends_at_the_limit(bench: Bench) -> None:
    client, upstream = bench.pair()
    upstream.ends()
    for _ in range(3):
        client.says(b"still here")
        bench.passes(LIMITS.silent_session_s - 1)
    assert bench.ends == []
    bench.passes(LIMITS.silent_session_s + 1)
    assert bench.ends == [EndReason.UPSTREAM_CLOSED]
    bench.passes(3)
    assert all_is_gone(bench, client, upstream)


def test_an_exception_in_one_relay_does_not_prevent_the_sweep_of_others(bench: Bench) -> None:
    bench.pair()
    other = bench.accept(first=b"\x03")
    bench.opened[0].unused_until = None  # type: ignore[assignment]
    bench.passes(LIMITS.unused_session_s)
    assert bench.ends[0] is EndReason.FAULT
    assert other.aborted


def test_many_relays_that_begin_and_end_leave_no_state(bench: Bench) -> None:
    ways = Counter[str]()
    for number in range(200):
        client, upstream = bench.pair()
        ingress = ("ends", "resets", "stays")[number % 3]
        ways[ingress] += 1
        if ingress != "stays":
            getattr(client, ingress)()
            upstream.ends()
        client.turn()
        upstream.turn()
    bench.passes(LIMITS.stalled_write_s)
    assert bench.admission.living == bench.kept == ways["stays"]
    assert bench.left == 200 - ways["stays"]
