"""The session table: opens, limits, lookup, sweep, ends."""

from __future__ import annotations

import tracemalloc

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.errors import (
    CapacityReached,
    Draining,
    OpeningFailed,
    RequestRefused,
    UnknownSession,
    UpstreamUnavailable,
)
from gateway.protocols.commands import Kind
from gateway.protocols.http import Fields
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.session import Session
from gateway.tunnels.admission import Admission
from gateway.tunnels.ids import SessionIds
from gateway.tunnels.table import Opening, SessionTable
from gateway.tunnels.tunnel import Tunnel
from tests.helpers.own_count import OwnCount
from tests.helpers.session_recording import Reply
from tests.tunnels.upstream import UpstreamTransport

MIB = 1024 * 1024


def fields_of(*own: tuple[bytes, bytes]) -> Fields:
    """The fields of an open command, with the client's ``own`` fields."""
    return Fields(
        version=1,
        items=((b"host", b"gateway"), *own),
        content_length=1,
        chunked=False,
        persistent=True,
        expects_continue=False,
    )


class Records:
    """The calls to telemetry, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.refused: list[tuple[str, str]] = []

    def session_opened(self, tunnel: Tunnel) -> None:
        self.told.append(("opened", tunnel.alias))

    def session_ended(self, tunnel: Tunnel, reason: EndReason) -> None:
        self.told.append(("ended", reason))

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        self.told.append(("refused", type(error)))
        self.refused.append((address, ingress.protocol))


class Node:
    """A table with its clock, and upstream connections that a test completes or fails."""

    def __init__(self, limits: Limits | None = None, buffers_bytes: int = 1024 * MIB) -> None:
        self.limits = limits or Limits()
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.records = Records()
        self.dialling: list[tuple[Tunnel, Deferred[str]]] = []
        self.transports: list[UpstreamTransport] = []
        secrets = iter(range(1, 10_000))
        self.admission = Admission(self.limits, buffers_bytes, OwnCount())
        self.table = SessionTable(
            self.limits,
            0.25,
            self.admission,
            SessionIds("n1", 0, lambda size: next(secrets).to_bytes(size, "big")),
            self._connect,
            self.clock.seconds,
            self.records,
        )

    async def _connect(self, tunnel: Tunnel, session: Tunnel) -> str:
        standing: Deferred[str] = Deferred()
        self.dialling.append((tunnel, standing))
        return await standing

    def ask(
        self, address: str = "192.0.2.1", own: tuple[bytes, bytes] = (b"accept", b"*/*")
    ) -> tuple[Opening, Reply]:
        """Send an open command; its upstream connection stays pending."""
        reply = Reply()
        return self.table.open(address, fields_of(own), reply), reply

    def stand(self) -> UpstreamTransport:
        """Complete the oldest pending connection."""
        tunnel, standing = self.dialling.pop(0)
        transport = UpstreamTransport(tunnel)
        self.transports.append(transport)
        tunnel.makeConnection(transport)
        standing.callback("server:1935")
        return transport

    def fail(self, error: Exception | None = None) -> None:
        """Fail the oldest pending connection."""
        _, standing = self.dialling.pop(0)
        standing.errback(error or UpstreamUnavailable("none"))

    def opened(self, address: str = "192.0.2.1") -> tuple[bytes, Session]:
        """Open a session. Returns its id and the session."""
        _, reply = self.ask(address)
        self.stand()
        assert reply.body is not None
        session_id = reply.body.removesuffix(b"\n")
        return session_id, self.table.find(session_id)

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.table.sweep(self.clock.seconds())

    def is_known(self, session_id: bytes) -> bool:
        try:
            self.table.find(session_id)
        except UnknownSession:
            return False
        return True


@pytest.fixture
def node() -> Node:
    return Node()


# Opening


def test_an_open_is_answered_with_id_and_newline_when_the_upstream_is_connected(node: Node) -> None:
    opening, reply = node.ask()
    assert reply.waits
    node.stand()
    assert reply.body == opening.tunnel.session_id + b"\n"
    assert node.table.find(opening.tunnel.session_id) is opening.tunnel.session
    assert opening.tunnel.server == "server:1935"
    assert node.records.told == [("opened", opening.tunnel.alias)]


def test_a_session_cannot_be_found_before_its_upstream_is_connected(node: Node) -> None:
    opening, _ = node.ask()
    assert not node.is_known(opening.tunnel.session_id)


def test_a_command_for_an_unknown_session_gets_404(node: Node) -> None:
    node.opened()
    with pytest.raises(UnknownSession) as caught:
        node.table.find(b"n100AAAAAAAAAAAAAAAAAAAAAA")
    assert caught.value.status == 404


def test_an_open_without_an_available_upstream_gets_503_and_leaves_no_state(node: Node) -> None:
    _, reply = node.ask()
    assert node.admission.living == 1
    node.fail()
    assert reply.status == 503
    assert node.admission.living == 0
    assert node.records.told == [("refused", UpstreamUnavailable)]


def test_refused_clients_are_logged(node: Node) -> None:
    node.ask("192.0.2.7")
    node.fail()
    node.admission.draining = True
    with pytest.raises(Draining):
        node.ask("192.0.2.8")
    assert node.records.refused == [("192.0.2.7", "rtmpt"), ("192.0.2.8", "rtmpt")]


def test_each_open_is_answered_with_its_own_id_in_any_order(node: Node) -> None:
    asked = [node.ask() for _ in range(3)]
    node.dialling.reverse()
    for _ in range(3):
        node.stand()
    assert [reply.body for _, reply in asked] == [
        opening.tunnel.session_id + b"\n" for opening, _ in asked
    ]
    assert len({reply.body for _, reply in asked}) == 3


def test_an_abandoned_open_ends_when_its_upstream_is_connected_and_is_not_a_failure(
    node: Node,
) -> None:
    opening, reply = node.ask()
    opening.abandon()
    transport = node.stand()
    assert reply.waits
    assert transport.disconnected
    assert node.admission.living == 0
    assert node.records.told[-1] == ("ended", EndReason.ABANDONED)


def test_an_abandoned_open_that_fails_is_only_logged(node: Node) -> None:
    opening, reply = node.ask()
    opening.abandon()
    node.fail()
    assert reply.waits
    assert node.admission.living == 0


def test_an_exception_during_an_open_gives_503_and_leaves_no_state(node: Node) -> None:
    _, reply = node.ask()
    node.fail(ZeroDivisionError())
    assert reply.status == 503
    assert node.admission.living == 0
    assert node.records.told == [("refused", OpeningFailed)]


def test_a_session_without_commands_is_ended_with_its_upstream_connection(node: Node) -> None:
    _, session = node.opened()
    node.later(node.limits.unused_session_s)
    assert session.ended is EndReason.ABANDONED
    assert node.transports[0].disconnected
    assert node.admission.living == 0


def test_the_time_limit_of_an_unused_session_begins_at_the_answer_to_its_open(node: Node) -> None:
    """Connects to several dead servers can take longer than this limit."""
    _, reply = node.ask()
    node.later(node.limits.unused_session_s)
    node.stand()
    session = node.table.find((reply.body or b"").rstrip())
    node.later(node.limits.unused_session_s - 0.1)
    assert session.ended is None
    node.later(0.1)
    assert session.ended is EndReason.ABANDONED


def test_an_upstream_lost_during_the_open_is_reported_after_the_open(
    node: Node,
) -> None:
    _, reply = node.ask()
    tunnel, standing = node.dialling.pop()
    transport = UpstreamTransport(tunnel)
    tunnel.makeConnection(transport)
    transport.hang_up()
    standing.callback("server:1935")
    assert node.admission.living == 0
    assert reply.status == 503
    assert "ended" not in [what for what, _ in node.records.told[:1]]


@pytest.mark.parametrize(
    ("own", "goes_up"),
    [
        ((b"icy-metadata", b"1"), b"x"),
        ((b"user-agent", b"Shockwave Flash"), b"x\x00"),
        ((b"x-icy-metadata", b"1"), b"x\x00"),
    ],
)
def test_only_ffmpeg_is_recognised_as_retrying_with_the_next_number(
    node: Node, own: tuple[bytes, bytes], goes_up: bytes
) -> None:
    opening, _ = node.ask(own=own)
    transport = node.stand()
    session, now = opening.tunnel.session, node.clock.seconds()
    session.receive(Kind.SEND, 0, b"x", now, True, 1)
    session.receive(Kind.IDLE, 1, b"\x00", now, False, 1)
    session.receive(Kind.SEND, 2, b"\x00", now, True, 2)
    assert transport.value() == goes_up


# Caps


def test_an_open_over_the_limit_on_all_sessions_is_refused() -> None:
    node = Node(Limits(sessions=2))
    node.opened("192.0.2.1")
    node.opened("192.0.2.2")
    with pytest.raises(CapacityReached) as caught:
        node.ask("192.0.2.3")
    assert caught.value.status == 503
    assert node.records.told[-1] == ("refused", CapacityReached)
    assert node.admission.living == 2


def test_an_open_over_the_limit_of_its_address_is_refused() -> None:
    node = Node(Limits(sessions_per_address=2))
    node.opened("192.0.2.1")
    node.opened("192.0.2.1")
    with pytest.raises(CapacityReached):
        node.ask("192.0.2.1")
    assert node.opened("192.0.2.2")


def test_pending_opens_count_against_the_limits() -> None:
    node = Node(Limits(sessions_per_address=1))
    node.ask()
    with pytest.raises(CapacityReached):
        node.ask()
    node.fail()
    assert node.ask()


def test_an_ended_session_that_is_still_stored_does_not_count_against_the_limits() -> None:
    node = Node(Limits(sessions=1, sessions_per_address=1))
    for _ in range(5):
        session_id, session = node.opened()
        session.close(node.clock.seconds())
        assert node.is_known(session_id)
        assert node.admission.living == 0


@pytest.mark.parametrize("has_number", [True, False])
def test_the_stored_answers_of_all_ended_sessions_are_limited(has_number: bool) -> None:
    node = Node(buffers_bytes=32 * MIB)
    kept = []
    for _ in range(100):
        session_id, session = node.opened()
        now = node.clock.seconds()
        for number in range(5):
            session.upstream_data(bytes(50_000), now)
            session.receive(Kind.SEND, number, b"\x03", now)
        if has_number:
            session.receive(Kind.CLOSE, 5, b"", now)
        else:
            session.close(now)
        kept.append((session_id, session))
    known = [session for session_id, session in kept if node.is_known(session_id)]
    assert 0 < sum(session.buffered_bytes for session in known) <= node.admission.ended_bytes
    assert known[-1] is kept[-1][1], "the oldest ones go first"


def test_an_ended_session_is_removed_from_the_count_once() -> None:
    node = Node(Limits(sessions_per_address=2))
    _, session = node.opened()
    node.opened()
    session.close(node.clock.seconds())
    node.transports[0].hang_up()
    node.later(node.limits.silent_session_s / 2)
    node.later(node.limits.silent_session_s / 2)
    assert node.admission.living == 0


def test_an_open_is_refused_if_the_buffers_of_all_sessions_are_used_up() -> None:
    node = Node(buffers_bytes=4 * 64 * 1024)
    for count in range(4):
        node.opened(f"192.0.2.{count}")
    node.ask()
    with pytest.raises(CapacityReached):
        node.ask()


def test_an_address_without_sessions_is_not_remembered() -> None:
    admission = Admission(Limits(), 1024 * MIB, OwnCount())
    tracemalloc.start()
    try:
        for number in range(2000):
            admission.enter(f"192.0.2.{number}")
            admission.leave(f"192.0.2.{number}")
        remembered, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remembered < 2000 * 10


# Shares of the buffers


def test_each_session_may_buffer_an_equal_share_of_the_limit_on_all_buffers() -> None:
    node = Node(Limits(down_buffer_bytes=MIB), buffers_bytes=MIB)
    sessions = [node.opened()[1] for _ in range(4)]
    node.table.share_buffers()
    assert {session.pause_bytes for session in sessions} == {MIB // 4 // 2}
    node.transports[0].say(bytes(MIB // 4 // 2))
    assert node.transports[0].producerState == "paused"


def test_a_share_does_not_exceed_the_limit_of_a_session() -> None:
    node = Node(Limits(down_buffer_bytes=MIB))
    _, session = node.opened()
    node.table.share_buffers()
    assert session.pause_bytes == MIB // 2


def test_a_limit_of_a_session_below_its_share_is_kept() -> None:
    node = Node(Limits(down_buffer_bytes=8192))
    _, session = node.opened()
    node.table.share_buffers()
    assert session.pause_bytes <= 4096


def test_shares_grow_again_when_sessions_end() -> None:
    node = Node(Limits(down_buffer_bytes=MIB), buffers_bytes=MIB)
    _, living = node.opened()
    others = [node.opened()[1] for _ in range(7)]
    node.table.share_buffers()
    assert living.pause_bytes == MIB // 16
    for session in others:
        session.close(node.clock.seconds())
    node.table.share_buffers()
    assert living.pause_bytes == MIB // 2


def test_a_small_change_of_the_share_changes_no_session() -> None:
    node = Node(Limits(down_buffer_bytes=MIB), buffers_bytes=100 * MIB)
    sessions = [node.opened()[1] for _ in range(200)]
    node.table.share_buffers()
    before = sessions[0].pause_bytes
    node.opened()
    node.table.share_buffers()
    assert sessions[0].pause_bytes == before
    for session in sessions[100:]:
        session.close(node.clock.seconds())
    node.table.share_buffers()
    assert sessions[0].pause_bytes > 1.9 * before


# The sweep


def test_a_sweep_runs_only_expired_deadlines(node: Node) -> None:
    _, due = node.opened()
    node.later(1.0)
    _, not_due = node.opened()
    node.later(node.limits.unused_session_s - 1.0)
    assert due.ended is EndReason.ABANDONED
    assert not_due.ended is None


def test_what_happens_between_two_steps_of_a_sweep_counts(node: Node) -> None:
    sessions = [node.opened()[1] for _ in range(3)]
    node.clock.advance(node.limits.unused_session_s)
    now = node.clock.seconds()
    steps = node.table.sweep_in_steps(now)
    next(steps)
    sessions[1].receive(Kind.SEND, 0, b"x", now)
    for _ in steps:
        pass
    assert [session.ended for session in sessions] == [
        EndReason.ABANDONED,
        None,
        EndReason.ABANDONED,
    ]


def test_a_sweep_answers_held_idles_whose_hold_time_has_expired(node: Node) -> None:
    _, session = node.opened()
    assert session.receive(Kind.IDLE, 0, b"", node.clock.seconds()) is None
    reply = Reply()
    session.wait(0, reply, 0.0)
    node.later(0.24)
    assert reply.waits
    node.later(0.02)
    assert reply.body == b"\x01"


def test_an_ended_session_repeats_its_answers_until_it_is_removed(
    node: Node,
) -> None:
    session_id, session = node.opened()
    now = node.clock.seconds()
    session.receive(Kind.SEND, 0, b"x", now)
    session.receive(Kind.CLOSE, 1, b"", now)
    node.later(node.limits.silent_session_s - 0.1)
    found = node.table.find(session_id)
    assert found.receive(Kind.CLOSE, 1, b"", node.clock.seconds()) == b"\x00"
    node.later(0.1)
    assert not node.is_known(session_id)


def test_the_session_of_a_vanished_client_ends_and_is_removed_later(node: Node) -> None:
    session_id, session = node.opened()
    session.receive(Kind.SEND, 0, b"x", node.clock.seconds())
    node.later(node.limits.silent_session_s)
    assert session.ended is EndReason.CLIENT_SILENT
    assert node.transports[0].disconnected
    assert node.is_known(session_id)
    node.later(node.limits.silent_session_s)
    assert not node.is_known(session_id)


def test_an_upstream_that_never_reads_the_last_bytes_of_a_closed_session_is_aborted(
    node: Node,
) -> None:
    _, session = node.opened()
    transport = node.transports[0]
    transport.high_water_bytes = 0
    session.receive(Kind.SEND, 0, bytes(100), node.clock.seconds())
    session.close(node.clock.seconds())
    assert not transport.disconnected
    for _ in range(2):
        node.later(node.limits.silent_session_s)
    assert transport.disconnected


def test_an_upstream_that_reads_the_last_bytes_of_a_closed_session_slowly_is_not_aborted(
    node: Node,
) -> None:
    session_id, session = node.opened()
    transport = node.transports[0]
    transport.high_water_bytes = 0
    session.receive(Kind.SEND, 0, bytes(100_000), node.clock.seconds())
    session.close(node.clock.seconds())
    for _ in range(4):
        transport.unsent -= 20_000
        node.later(node.limits.silent_session_s)
        assert not transport.disconnected
    transport.unsent = 0
    node.later(node.limits.silent_session_s)
    assert not node.is_known(session_id)


def test_the_unsent_data_of_a_closed_session_is_counted_until_sent(node: Node) -> None:
    _, session = node.opened()
    transport = node.transports[0]
    transport.high_water_bytes = 0
    session.receive(Kind.SEND, 0, bytes(100), node.clock.seconds())
    assert not node.table.owes
    session.close(node.clock.seconds())
    assert node.table.owes
    transport.unsent = 0
    assert not node.table.owes


def test_an_exception_in_one_session_does_not_prevent_the_sweep_of_others(node: Node) -> None:
    class Broken(Reply):
        def answer(self, body: bytes) -> None:
            raise ZeroDivisionError

    _, first = node.opened()
    _, second = node.opened()
    now = node.clock.seconds()
    first.receive(Kind.IDLE, 0, b"", now)
    first.wait(0, Broken(), now)
    second.receive(Kind.IDLE, 0, b"", now)
    reply = Reply()
    second.wait(0, reply, now)
    node.later(1.0)
    assert reply.body == b"\x01"
    assert second.ended is None


# The end of all


def test_a_drain_ends_every_session_with_its_reason_and_refuses_opens(node: Node) -> None:
    sessions = [node.opened()[1] for _ in range(3)]
    node.admission.close()
    node.table.end_all(EndReason.DRAINED)
    assert [session.ended for session in sessions] == [EndReason.DRAINED] * 3
    assert all(transport.disconnected for transport in node.transports)
    assert node.admission.living == 0
    with pytest.raises(Draining):
        node.ask()


def test_an_open_refused_by_a_drain_is_not_reported_as_lack_of_capacity(node: Node) -> None:
    node.admission.draining = True
    with pytest.raises(Draining) as caught:
        node.ask()
    assert caught.value.status == 503
    assert node.records.told == [("refused", Draining)]
    node.admission.draining = False
    assert node.opened()


def test_a_drain_does_not_end_a_session_twice(node: Node) -> None:
    _, session = node.opened()
    session.close(node.clock.seconds())
    node.table.end_all(EndReason.DRAINED)
    ends = [reason for what, reason in node.records.told if what == "ended"]
    assert ends == [EndReason.CLIENT_CLOSED]


def test_an_open_pending_at_the_end_of_all_sessions_gets_503(node: Node) -> None:
    _, reply = node.ask()
    node.admission.close()
    node.table.end_all(EndReason.DRAINED)
    transport = node.stand()
    assert reply.status == 503
    assert transport.disconnected
    assert node.admission.living == 0
    assert node.records.told == [("refused", Draining)]


def test_the_end_of_a_session_is_reported_once(node: Node) -> None:
    _, session = node.opened()
    session.receive(Kind.SEND, 0, b"x", node.clock.seconds())
    node.transports[0].hang_up()
    session.end(EndReason.FAULT, node.clock.seconds())
    node.later(100.0)
    assert [what for what, _ in node.records.told] == ["opened", "ended"]
    assert node.records.told[-1] == ("ended", EndReason.UPSTREAM_CLOSED)
