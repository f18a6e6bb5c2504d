"""Commands that reach another worker than their session's own, with two workers in memory."""

from __future__ import annotations

from collections import Counter
from itertools import count
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from gateway.protocols.peering import ANSWER, frame
from gateway.protocols.reasons import EndReason
from gateway.workers.peering.links import PeerLink, Peers, RemoteSession
from gateway.workers.peering.owner import PeerConnection
from tests.helpers.http_conversation import Gateway, Wire
from tests.helpers.logged import logged


class Pipe:
    """One direction of the connection between two workers, as the writer's transport."""

    def __init__(self) -> None:
        self.reader: Any = None
        self.high_water_bytes = 0
        self.waiting: list[bytes] = []
        self.lost = False

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert streaming

    def write(self, data: bytes) -> None:
        self.waiting.append(data)

    def write_two(self, first: bytes, second: bytes) -> None:
        self.write(first + second)

    def abortConnection(self) -> None:
        self.lost = True

    loseConnection = abortConnection

    def deliver(self) -> bool:
        waiting, self.waiting = self.waiting, []
        if waiting and not self.lost:
            self.reader.dataReceived(b"".join(waiting))
        return bool(waiting)


class TwoWorkers:
    """``here`` accepts connections; ``owner`` has the sessions."""

    def __init__(self) -> None:
        self.owner = Gateway()
        self.here = Gateway()
        self.here.clock = self.here.service.clock = self.owner.clock
        self.there, self.back = Pipe(), Pipe()
        self.counts = Counter[str]()
        self.link = PeerLink(lambda *_: None, self.counts)
        self.served = PeerConnection(self.owner.sessions.find_own, self.owner.clock)
        self.there.reader, self.back.reader = self.served, self.link
        self.link.makeConnection(self.there)
        self.served.makeConnection(self.back)
        self.here.sessions._find_elsewhere = lambda session_id: RemoteSession(self.link, session_id)
        opener = self.owner.accept()
        opener.arrive(b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0")
        self.session_id = b"".join(opener.writes).rpartition(b"\r\n\r\n")[2].strip()
        self.upstream = self.owner.upstreams[0]

    @property
    def session(self) -> Any:
        return self.owner.sessions.find_own(self.session_id)

    def post(self, wire: Wire, command: bytes, number: int | None, body: bytes = b"\0") -> None:
        path = b"/%b/%b" % (command, self.session_id)
        path += b"" if number is None else b"/%d" % number
        wire.arrive(
            b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)
        )
        self.run()

    def run(self) -> None:
        """Deliver all frames."""
        while self.there.deliver() or self.back.deliver():
            self.here.turn()

    def lose_link(self) -> None:
        self.there.lost = self.back.lost = True
        for end in (self.link, self.served):
            end.connectionLost(Failure(ConnectionDone()))
        self.here.turn()


@pytest.fixture
def two() -> TwoWorkers:
    return TwoWorkers()


def bodies(wire: Wire) -> list[bytes]:
    """The bodies of all responses; those of refusals are empty."""
    found = []
    rest = b"".join(wire.writes)
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        rest = rest[length:]
    return found


def test_sends_go_up_in_order_and_once_over_both_workers(two: TwoWorkers) -> None:
    wire, own = two.here.accept(), two.owner.accept()
    two.post(wire, b"send", 0, b"one ")
    two.post(own, b"send", 1, b"two ")
    two.post(wire, b"send", 1, b"two ")
    two.post(wire, b"send", 2, b"three")
    assert b"".join(two.upstream.received) == b"one two three"
    assert two.counts == {"forwarded": 3}
    assert len(bodies(wire)) == 3


def test_a_held_idle_is_answered_when_the_server_sends(two: TwoWorkers) -> None:
    wire = two.here.accept()
    two.post(wire, b"idle", 0)
    assert bodies(wire) == []
    two.upstream.says(b"data")
    two.run()
    assert [body[1:] for body in bodies(wire)] == [b"data"]


def test_a_held_idle_ends_when_more_bytes_arrive_behind_it(two: TwoWorkers) -> None:
    wire = two.here.accept()
    two.post(wire, b"idle", 0)
    two.post(wire, b"send", 1, b"up")
    assert len(bodies(wire)) == 2
    assert two.upstream.received == [b"up"]


def test_commands_that_arrive_out_of_order_over_two_connections_wait(two: TwoWorkers) -> None:
    one, other = two.here.accept(), two.here.accept()
    two.post(one, b"send", 0, b"a")
    two.post(other, b"send", 2, b"c")
    assert len(bodies(other)) == 0
    two.post(one, b"send", 1, b"b")
    assert b"".join(two.upstream.received) == b"abc"
    assert len(bodies(other)) == 1


@pytest.mark.parametrize("number", [1, None])
def test_a_close_ends_the_session(two: TwoWorkers, number: int | None) -> None:
    wire = two.here.accept()
    two.post(wire, b"idle", 0)
    two.post(wire, b"close", number)
    assert two.session.ended is EndReason.CLIENT_CLOSED
    assert bodies(wire)[-1] == b"\0"


def test_a_client_that_is_lost_behind_a_held_idle_is_forgotten(two: TwoWorkers) -> None:
    wire = two.here.accept()
    two.post(wire, b"idle", 0)
    wire.lose()
    two.run()
    assert two.session.ended is None
    assert two.served._pending == {}
    two.upstream.says(b"data")
    # The same idle again, over a new connection: nothing is lost.
    again = two.here.accept()
    two.post(again, b"idle", 0)
    assert [body[1:] for body in bodies(again)] == [b"data"]


def test_an_unknown_session_and_a_malformed_command_are_refused(two: TwoWorkers) -> None:
    known, two.session_id = two.session_id, b"aa00unknown"
    wire = two.here.accept()
    two.post(wire, b"send", 0)
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 404")
    two.session_id = known
    wire = two.here.accept()
    two.post(wire, b"idle", 0, b"too long")
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 400")


def test_an_ended_worker_gives_404_at_once(two: TwoWorkers) -> None:
    wire = two.here.accept()
    two.post(wire, b"idle", 0)
    two.lose_link()
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 404")


def test_a_forwarding_worker_that_ends_loses_nothing(two: TwoWorkers) -> None:
    wire = two.here.accept()
    two.post(wire, b"idle", 0)
    two.lose_link()
    two.upstream.says(b"data")
    own = two.owner.accept()
    two.post(own, b"idle", 0)
    assert [body[1:] for body in bodies(own)] == [b"data"]


def test_a_command_is_never_forwarded_twice(two: TwoWorkers) -> None:
    """The owner looks among its own sessions only, or two workers could forward to each other forever."""

    def forward(session_id: bytes) -> Any:
        raise AssertionError("forwarded again")

    two.owner.sessions._find_elsewhere = forward
    two.session_id = b"aa00unknown"
    wire = two.here.accept()
    two.post(wire, b"send", 0)
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 404")


def test_the_numbers_of_requests_begin_anew_at_their_limit(two: TwoWorkers) -> None:
    two.link._next_request = count(2**32 - 2).__next__
    wire = two.here.accept()
    for number in range(4):
        two.post(wire, b"send", number, b"\x03%d" % number)
    assert b"".join(two.upstream.received) == b"\x030\x031\x032\x033"
    assert bodies(wire) == [b"\x01"] * 4


@pytest.mark.parametrize("is_of_a_node", [False, True])
def test_an_id_that_no_session_can_have_is_refused_here(
    two: TwoWorkers, is_of_a_node: bool
) -> None:
    link = two.link if is_of_a_node else None
    peers = Peers(None, lambda prefix: None, lambda prefix: link)
    peers._links[two.session_id[:4]] = two.link
    two.here.sessions._find_elsewhere = peers.find
    wire = two.here.accept()
    two.session_id += b"x" * 300
    two.post(wire, b"idle", 0)
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 404 ")
    assert not wire.aborted


def test_nonsense_between_workers_ends_the_connection(two: TwoWorkers) -> None:
    two.served.dataReceived(b"GET / HTTP/1.1\r\n\r\n" * 3)
    assert two.back.lost
    two.link.dataReceived(b"\0" * 100)
    assert two.there.lost


def test_a_vanished_client_ends_its_session(two: TwoWorkers) -> None:
    wire = two.here.accept()
    two.post(wire, b"send", 0)
    source = two.session._source
    RemoteSession(two.link, two.session_id).client_vanished(source, two.owner.clock())
    two.run()
    assert two.session.ended is EndReason.CLIENT_VANISHED


# --- Faults ---


def fail(*_: object) -> None:
    raise RuntimeError("a fault")


def test_a_command_that_fails_at_its_sessions_worker_ends_its_clients_connection_only(
    two: TwoWorkers,
) -> None:
    wire, other = two.here.accept(), two.here.accept()
    two.upstream.write = fail  # type: ignore[method-assign]
    with logged() as lines:
        two.post(wire, b"send", 0, b"up")
    assert [line.partition("\n")[0] for line in lines] == [
        "critical: A command of another worker failed"
    ]
    assert b"".join(wire.writes).startswith(b"HTTP/1.1 400 ")
    two.post(other, b"idle", 1)
    two.upstream.says(b"data")
    two.run()
    assert [body[1:] for body in bodies(other)] == [b"data"]


class Answered:
    """A reply that records its answers, and fails if it ``is_broken``."""

    blocks = False

    def __init__(self, is_broken: bool) -> None:
        self.is_broken = is_broken
        self.answers: list[object] = []

    def answer(self, body: object) -> None:
        if self.is_broken:
            fail()
        self.answers.append(body)

    refuse = answer


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_answer_that_cannot_be_delivered_does_not_keep_others_from_theirs(
    two: TwoWorkers, is_lost: bool
) -> None:
    replies: Any = [Answered(is_broken=True), Answered(is_broken=False)]
    for request, reply in enumerate(replies):
        two.link.expect(request, reply)
    with logged() as lines:
        if is_lost:
            two.link.connectionLost(Failure(ConnectionDone()))
        else:
            two.link.dataReceived(b"".join(frame(ANSWER, n, b"data") for n in (0, 1)))
    assert [line.partition("\n")[0] for line in lines] == [
        "critical: The answer of another worker could not be delivered"
    ]
    assert len(replies[1].answers) == 1
