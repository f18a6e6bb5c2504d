"""Connections that reach another worker than their first command's session, with two workers' listeners on
real sockets.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import loading
from gateway.listeners.connections import ConnectionSet
from gateway.protocols.limits import Limits
from gateway.protocols.offers import MOST_BYTES, Offer
from gateway.workers.client_listeners import ClientListeners
from gateway.workers.peering import offers, taking
from gateway.workers.peering.offers import OfferLinks
from gateway.workers.peering.taking import TakingSocket
from gateway.workers.shared_counts import SharedCounts, make_memory
from tests.helpers import http_conversation
from tests.helpers.logged import logged
from tests.helpers.turning import Turning

_LIMITS = Limits(connections_per_address=100)
_CONFIGURATION = """[[listener]]
address = "127.0.0.1:0"
[[listener]]
address = "127.0.0.2:0"
proxy_protocol = true
trusted = ["127.0.0.0/8"]
[[upstream]]
servers = ["127.0.0.1:9"]
"""
_OPEN = b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0"


class Worker:
    """The listeners of a worker, with sessions whose servers the test plays."""

    def __init__(self, two: TwoWorkers, slot: int) -> None:
        counts = SharedCounts(two.memory, slot)
        self.gateway = http_conversation.Gateway(_LIMITS)
        self.connections = ConnectionSet(_LIMITS, counts.connections)
        self.gateway.service.connections = self.connections
        self.offers = OfferLinks(two.turning.reactor, two.path_of, _LIMITS)
        self.has_share = False
        relays: Any = None
        self.listeners = ClientListeners(
            *(two.configuration, two.turning.reactor, {}, self.connections, self.gateway.service),
            *(relays, None, self.offers, lambda: self.has_share),
        )


class TwoWorkers:
    """``here`` accepts all connections; ``owner`` has the sessions."""

    def __init__(self, turning: Turning, folder: Path) -> None:
        self.turning = turning
        self.memory = make_memory()
        self.configuration = loading.from_text("gateway.toml", _CONFIGURATION)
        self.path = str(folder / "aa00")
        self.here, self.owner = Worker(self, 0), Worker(self, 1)
        self._sockets = [socket.create_server((f"127.0.0.{1 + index}", 0)) for index in range(2)]
        descriptors = [each.fileno() for each in self._sockets]
        self._ports = self.owner.listeners.adopt(descriptors)
        accepting = self.here.listeners.adopt(descriptors)
        for port in accepting:
            port.startReading()
        self._ports += accepting
        # In place of forwarding.
        self.here.gateway.sessions._find_elsewhere = self.owner.gateway.sessions.find_own
        self.taking = TakingSocket(self.path, self.owner.listeners, turning.reactor)
        opener = self.owner.gateway.accept()
        opener.arrive(_OPEN)
        self.session_id = b"".join(opener.writes).rpartition(b"\r\n\r\n")[2].strip()
        opener.lose()
        self.upstream = self.owner.gateway.upstreams[0]

    def path_of(self, prefix: bytes) -> str | None:
        return self.path if prefix == b"aa00" else None

    def connect(self, listener: int = 0) -> socket.socket:
        client = socket.create_connection(self._sockets[listener].getsockname())
        client.setblocking(False)
        return client

    def offer(self, number: int, body: bytes = b"up") -> socket.socket:
        """A client that has sent one command, which the worker ``here`` has read."""
        before = len(self.here.connections)
        client = self.connect()
        client.sendall(self.command(b"send", number, body))
        self.turning.until(lambda: len(self.here.connections) > before)
        self.turning.settle()
        return client

    def await_counts(self, taken: int, declined: int) -> None:
        counts = {"taken": taken, "declined": declined}
        self.turning.until(lambda: self.here.offers.counts == counts)

    def command(self, name: bytes, number: int, body: bytes = b"\0") -> bytes:
        return b"POST /%b/%b/%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (
            *(name, self.session_id, number, len(body), body),
        )

    def answers(self, client: socket.socket, count: int) -> bytes:
        """All bytes that the client has received, once there are so many responses."""
        received = bytearray()

        def all_there() -> bool:
            for worker in (self.here, self.owner):
                worker.gateway.turn()
            try:
                data = client.recv(65536)
            except BlockingIOError:
                return False
            assert data, bytes(received)
            received.extend(data)
            return received.count(b"HTTP/1.1 ") >= count

        self.turning.until(all_there)
        return bytes(received)

    @property
    def numbers(self) -> tuple[int, int]:
        """The connections of ``here`` and of ``owner``."""
        return len(self.here.connections), len(self.owner.connections)

    def close(self) -> None:
        self.here.offers.close()
        self.taking.retire()
        for port in self._ports:
            port.stopListening()
        for each in self._sockets:
            each.close()
        os.close(self.memory)


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.close()


@pytest.fixture
def two(turning: Turning, tmp_path: Path) -> Iterator[TwoWorkers]:
    two = TwoWorkers(turning, tmp_path)
    yield two
    two.close()


@pytest.fixture
def taken(two: TwoWorkers) -> TwoWorkers:
    """With an owner that takes connections."""
    two.taking.listen()
    return two


def test_the_owner_takes_a_connection_with_all_its_bytes(taken: TwoWorkers) -> None:
    with closing(taken.connect()) as client:
        client.sendall(taken.command(b"send", 0, b"one ") + taken.command(b"send", 1, b"two"))
        assert taken.answers(client, 2).count(b" 200 ") == 2
        assert b"".join(taken.upstream.received) == b"one two"
        taken.await_counts(taken=1, declined=0)
        assert taken.numbers == (0, 1)
        client.sendall(taken.command(b"send", 2, b" three"))
        taken.answers(client, 1)
        assert b"".join(taken.upstream.received) == b"one two three"


def test_requests_may_be_split_anywhere(taken: TwoWorkers) -> None:
    split, expected = 1, b""
    while True:
        bodies = b"%d first " % split, b"%d second " % split
        data = b"".join(
            taken.command(b"send", 2 * (split - 1) + index, body)
            for index, body in enumerate(bodies)
        )
        if split >= len(data):
            break
        with closing(taken.connect()) as client:
            client.sendall(data[:split])
            taken.turning.settle()
            client.sendall(data[split:])
            assert taken.answers(client, 2).count(b" 200 ") == 2
        expected += b"".join(bodies)
        split += 1
    assert b"".join(taken.upstream.received) == expected
    # All but those that began with a part of a head.
    assert taken.here.offers.counts["taken"] > split // 2


def test_a_client_is_counted_once_and_by_its_address_in_the_proxy_header(
    taken: TwoWorkers,
) -> None:
    with closing(taken.connect(1)) as client:
        header = b"PROXY TCP4 198.51.100.7 192.0.2.9 50000 80\r\n"
        client.sendall(header + taken.command(b"idle", 0)[:-1])
        taken.turning.until(lambda: taken.numbers == (0, 1))
        counts = taken.owner.connections._counted
        assert (counts.total, counts.of_address("198.51.100.7")) == (1, 1)
        assert counts.of_address("127.0.0.1") == 0
        client.sendall(b"\0" + taken.command(b"send", 1, b"up"))
        taken.answers(client, 2)
    taken.turning.until(lambda: taken.numbers == (0, 0))
    assert counts.total == 0


def test_an_offered_connection_is_counted_until_it_is_taken(taken: TwoWorkers) -> None:
    counts = taken.here.connections._counted
    totals = set()
    with closing(taken.connect()) as client:
        client.sendall(taken.command(b"send", 0))
        taken.turning.until(lambda: counts.total)
        while taken.numbers != (0, 1):
            totals.add(counts.total)
            taken.turning.turn()
    assert totals <= {1, 2}


def test_a_held_idle_of_a_taken_connection_is_answered_by_the_owner(taken: TwoWorkers) -> None:
    with closing(taken.connect()) as client:
        client.sendall(taken.command(b"idle", 0))
        taken.turning.until(lambda: taken.numbers == (0, 1))
        taken.turning.settle()
        taken.upstream.says(b"data")
        assert taken.answers(client, 1).endswith(b"data")


@pytest.mark.parametrize("resets", [False, True])
def test_the_owner_notices_a_client_that_closed_meanwhile(taken: TwoWorkers, resets: bool) -> None:
    client = taken.connect()
    client.sendall(taken.command(b"send", 0, b"up"))
    if resets:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        client.shutdown(socket.SHUT_WR)
    taken.turning.until(lambda: sum(taken.numbers))
    client.close()
    taken.turning.until(lambda: taken.numbers == (0, 0))
    assert taken.here.offers.counts["taken"] == 1
    if not resets:
        assert taken.upstream.received == [b"up"]


def test_a_connection_goes_on_here_if_the_owner_has_its_share(taken: TwoWorkers) -> None:
    taken.owner.has_share = True
    with closing(taken.connect()) as client:
        client.sendall(taken.command(b"send", 0, b"up"))
        assert b" 200 " in taken.answers(client, 1)
        assert taken.here.offers.counts == {"taken": 0, "declined": 1}
        assert taken.numbers == (1, 0)
        client.sendall(taken.command(b"send", 1, b"up"))
        assert b" 200 " in taken.answers(client, 1)
    assert b"".join(taken.upstream.received) == b"upup"
    taken.turning.until(lambda: taken.numbers == (0, 0))


def test_a_connection_goes_on_here_if_no_descriptor_can_be_received(
    taken: TwoWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = socket.recv_fds

    def receive_none(*arguments: Any) -> Any:
        message, received, flags, address = receive(*arguments)
        for descriptor in received:
            os.close(descriptor)
        return message, [], flags | socket.MSG_CTRUNC, address

    monkeypatch.setattr(taking.socket, "recv_fds", receive_none)
    with closing(taken.connect()) as client:
        client.sendall(taken.command(b"send", 0, b"up"))
        assert b" 200 " in taken.answers(client, 1)
        assert taken.numbers == (1, 0)


def test_a_connection_goes_on_here_if_there_is_no_owner(two: TwoWorkers) -> None:
    with closing(two.connect()) as client:
        client.sendall(two.command(b"send", 0, b"up"))
        assert b" 200 " in two.answers(client, 1)
        assert two.numbers == (1, 0)


@pytest.fixture
def hanging(two: TwoWorkers) -> Iterator[socket.socket]:
    """An owner that does not read its offers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(two.path)
        listening.listen()
        yield listening


def test_offers_are_bounded_and_go_on_here_if_the_owner_ends(
    two: TwoWorkers, hanging: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offers, "_MOST_OFFERED", 3)
    clients = [two.offer(number, b"%d" % number) for number in range(5)]
    assert two.here.offers.counts["declined"] == 2
    # Those that were not offered wait for the numbers of the others.
    assert two.upstream.received == []
    hanging.close()
    for client in clients:
        assert b" 200 " in two.answers(client, 1)
        client.close()
    assert b"".join(two.upstream.received) == b"01234"
    two.turning.until(lambda: two.numbers == (0, 0))


def test_a_full_socket_of_the_owner_blocks_nothing(two: TwoWorkers, hanging: socket.socket) -> None:
    body = bytes(60_000)
    clients = [two.offer(number, body) for number in range(6)]
    assert two.here.offers.counts["declined"] > 0
    hanging.close()
    for client in clients:
        assert b" 200 " in two.answers(client, 1)
        client.close()
    assert sum(map(len, two.upstream.received)) == 6 * len(body)


def test_a_client_that_left_while_its_connection_was_offered_is_noticed(
    two: TwoWorkers, hanging: socket.socket
) -> None:
    client = two.offer(0)
    client.close()
    two.turning.settle()
    hanging.close()
    two.turning.until(lambda: two.numbers == (0, 0))
    assert two.upstream.received == [b"up"]


def test_an_owner_that_answered_before_it_ended_has_taken_the_connection(
    two: TwoWorkers, hanging: socket.socket
) -> None:
    """It may have executed the command: this worker must not do that again."""
    clients = [two.offer(number) for number in range(2)]
    link, _ = hanging.accept()
    _, received, _, _ = socket.recv_fds(link, MOST_BYTES, 1)
    link.send(b"\x01")
    # With an unread offer, the end is an error on this side.
    link.close()
    two.await_counts(taken=1, declined=1)
    assert len(two.here.connections) == 1
    assert two.upstream.received == []
    for each in (*clients, socket.socket(fileno=received[0])):
        each.close()


@pytest.mark.parametrize("answer", [b"\x02", b"\x01\x01", b"HTTP"])
def test_a_connection_goes_on_here_if_the_answer_makes_no_sense(
    two: TwoWorkers, hanging: socket.socket, answer: bytes
) -> None:
    with closing(two.offer(0)) as client, logged() as lines:
        link, _ = hanging.accept()
        link.send(answer)
        assert b" 200 " in two.answers(client, 1)
        link.close()
    assert lines == ["error: another worker's answers to offers make no sense"]


def test_a_worker_that_retires_answers_offers_and_gets_no_more(taken: TwoWorkers) -> None:
    with closing(taken.connect()) as first, closing(taken.connect()) as second:
        first.sendall(taken.command(b"send", 0, b"up"))
        taken.await_counts(taken=1, declined=0)
        taken.answers(first, 1)
        link = taken.here.offers._links[b"aa00"]
        # In the socket, and not read yet.
        second.sendall(taken.command(b"send", 1, b"up"))
        taken.turning.until(lambda: link._offered)
        taken.taking.retire()
        taken.await_counts(taken=2, declined=0)
        taken.answers(second, 1)
        with closing(taken.connect()) as third:
            third.sendall(taken.command(b"send", 2, b"up"))
            assert b" 200 " in taken.answers(third, 1)
        assert taken.here.offers.counts["taken"] == 2
        assert not Path(taken.path).exists()
    taken.turning.until(lambda: not taken.taking._workers)
    assert not taken.here.offers._links


def test_a_connection_is_offered_once(taken: TwoWorkers) -> None:
    """Later commands for the sessions of others are forwarded: it does not go to and fro."""
    with closing(taken.connect()) as client:
        client.sendall(taken.command(b"send", 0, b"up"))
        taken.answers(client, 1)
        client.sendall(taken.command(b"idle", 0).replace(b"/aa00", b"/aa01"))
        assert b" 404 " in taken.answers(client, 1)
        assert taken.numbers == (0, 1)
        assert taken.owner.offers.counts == {"taken": 0, "declined": 0}


@pytest.mark.parametrize("first", [_OPEN, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_connection_with_another_first_request_stays(taken: TwoWorkers, first: bytes) -> None:
    with closing(taken.connect()) as client:
        client.sendall(first)
        taken.answers(client, 1)
        assert taken.numbers == (1, 0)
        client.sendall(taken.command(b"send", 0, b"up"))
        taken.answers(client, 1)
        assert taken.numbers == (1, 0)


@pytest.fixture
def link(taken: TwoWorkers) -> Iterator[socket.socket]:
    """A connection to the owner, as that of another worker."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(taken.path)
        connection.setblocking(False)
        yield connection


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        b"GET / HTTP/1.1\r\n\r\n",
        Offer(2, "", b"POST").message,
        Offer(0, "somewhere", b"POST").message,
        Offer(0, "", bytes(MOST_BYTES)).message,
        Offer(0, "192.0.2.1", bytes(MOST_BYTES)).message,
    ],
)
def test_a_malformed_offer_ends_the_connection_of_the_workers(
    taken: TwoWorkers, link: socket.socket, message: bytes
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, logged() as lines:
        socket.send_fds(link, [message], [theirs.fileno()])
        theirs.close()
        taken.turning.until(lambda: lines)
        assert lines[0].startswith("error: another worker's offers make no sense: ")
        # No descriptor of it is left open.
        assert ours.recv(1) == b""
        assert link.recv(1) == b""
    assert taken.numbers == (0, 0)


def number_of_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("kind", ["file", "datagrams"])
def test_a_descriptor_of_no_connection_is_refused(
    taken: TwoWorkers, link: socket.socket, kind: str, tmp_path: Path
) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        (tmp_path / "file").open("w") as file,
        logged() as lines,
    ):
        descriptor = file.fileno() if kind == "file" else datagrams.fileno()
        before = number_of_descriptors()
        socket.send_fds(link, [Offer(0, "", b"POST").message], [descriptor])
        taken.turning.until(lambda: lines)
        # The owner's end of the link is closed.
        assert number_of_descriptors() <= before
    assert taken.numbers == (0, 0)


def test_the_socket_for_offers_is_for_this_user_alone(taken: TwoWorkers) -> None:
    assert Path(taken.path).stat().st_mode & 0o777 == 0o600


def test_a_socket_that_a_killed_worker_left_is_replaced(two: TwoWorkers) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as old:
        old.bind(two.path)
    two.taking.listen()
    with closing(two.connect()) as client:
        client.sendall(two.command(b"send", 0, b"up"))
        two.answers(client, 1)
        two.await_counts(taken=1, declined=0)
