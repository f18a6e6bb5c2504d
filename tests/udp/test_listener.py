"""Datagrams between clients and a server, on sockets of loopback."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from attrs import evolve

from gateway.errors import CapacityReached, Draining
from gateway.protocols.proxy_header import datagram_header
from gateway.protocols.reasons import EndReason
from tests.helpers.logged import logged
from tests.helpers.udp_relay import LIMITS, Relay


@pytest.fixture
def relay() -> Iterator[Relay]:
    with closing(Relay()) as started:
        yield started


def test_datagrams_pass_in_both_directions_whole_and_in_order(relay: Relay) -> None:
    client = relay.client()
    flow = relay.connect(client)
    for size in (1, 700, 1500):
        client.sendto(bytes(size), relay.place)
        assert relay.read(relay.server) == (bytes(size), flow)
        relay.server.sendto(bytes(size), flow)
        assert relay.read(client) == (bytes(size), relay.place)
    assert relay.listener.relayed["up"].bytes == len(b"helloanswer") + 2201
    assert relay.listener.relayed["down"].datagrams == 4


def test_each_client_has_its_own_port_at_the_server(relay: Relay) -> None:
    clients = [relay.client() for _ in range(30)]
    flows = [relay.connect(client) for client in clients]
    assert len(set(flows)) == 30
    for number, (client, flow) in enumerate(zip(clients, flows, strict=True)):
        relay.server.sendto(b"%d" % number, flow)
        assert relay.read(client)[0] == b"%d" % number


def test_datagrams_that_arrive_before_the_session_is_open_belong_to_it(relay: Relay) -> None:
    client = relay.client()
    for number in range(10):
        client.sendto(b"%d" % number, relay.place)
    read = [relay.read(relay.server) for _ in range(10)]
    assert [data for data, _ in read] == [b"%d" % number for number in range(10)]
    assert len({flow for _, flow in read}) == 1


def test_a_reply_comes_from_the_address_that_the_client_has_sent_to() -> None:
    with closing(Relay(host="0.0.0.0")) as relay:
        client = relay.client("127.0.0.1")
        place = "127.0.0.77", relay.place[1]
        client.sendto(b"hello", place)
        _, flow = relay.read(relay.server)
        relay.server.sendto(b"reply", flow)
        assert relay.read(client) == (b"reply", place)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(host: str) -> None:
    with closing(Relay(host=host)) as relay:
        client = relay.client("::1")
        flow = relay.connect(client)
        relay.server.sendto(b"more", flow)
        assert relay.read(client)[1][:2] == relay.place


def test_datagrams_of_others_in_a_sessions_socket_are_not_its_clients(relay: Relay) -> None:
    flow = relay.connect(relay.client())
    (session,) = relay.reports.opened
    # As before it was connected: the kernel distributes clients to it and the listening socket.
    disconnect(session._client.socket)
    for number in range(20):
        relay.client().sendto(b"%d" % number, relay.place)
    read = [relay.read(relay.server) for _ in range(20)]
    assert {data for data, _ in read} == {b"%d" % number for number in range(20)}
    assert len({of_other for _, of_other in read} - {flow}) == 20


def disconnect(connected: socket.socket) -> None:
    """Dissolve the association with the peer (connect(2), AF_UNSPEC)."""
    unspecified = bytes(16)
    assert ctypes.CDLL(None).connect(connected.fileno(), unspecified, len(unspecified)) == 0


# --- Amplification ---


def test_a_spoofed_address_gets_at_most_three_times_its_datagram(relay: Relay) -> None:
    victim = relay.client()
    victim.sendto(bytes(100), relay.place)
    _, flow = relay.read(relay.server)
    for _ in range(50):
        relay.server.sendto(bytes(70), flow)
    relay.turning.until(lambda: relay.listener.drops["unproven"] == 46)
    got = [relay.read(victim)[0] for _ in range(4)]
    assert sum(map(len, got)) == 280
    with pytest.raises(BlockingIOError):
        victim.recv(1)
    assert not relay.reports.opened
    assert relay.listener.unproven == 1


def test_unproven_sessions_are_counted_but_neither_shown_nor_logged(relay: Relay) -> None:
    client = relay.client()
    with logged() as lines:
        client.sendto(b"hello", relay.place)
        relay.read(relay.server)
        relay.listener.sweep(LIMITS.proof_s)
    assert relay.reports.ended == [EndReason.UPSTREAM_UNAVAILABLE]
    assert not relay.reports.opened
    assert not lines
    assert relay.admission.living == 0


# --- Ends ---


def test_a_server_that_refuses_datagrams_ends_the_session(relay: Relay) -> None:
    client = relay.client()
    relay.server.close()
    with logged() as lines:
        client.sendto(b"hello", relay.place)
        relay.turning.until(lambda: relay.reports.ended)
    assert relay.reports.ended == [EndReason.UPSTREAM_UNAVAILABLE]
    assert relay.listener.refusals == {"client": 0, "server": 1}
    assert "refuses datagrams (ICMP: port unreachable); start the server" in lines[0]


def test_a_server_that_stops_after_its_replies_is_lost(relay: Relay) -> None:
    client = relay.client()
    relay.connect(client)
    relay.server.close()
    client.sendto(b"more", relay.place)
    relay.turning.until(lambda: relay.reports.ended)
    assert relay.reports.ended == [EndReason.UPSTREAM_LOST]


def test_a_host_that_refuses_replies_gets_no_more(relay: Relay) -> None:
    """A victim of a forged source refuses them."""
    client = relay.client()
    flow = relay.connect(client)
    client.close()
    relay.server.sendto(b"more", flow)
    relay.turning.until(lambda: relay.reports.ended)
    assert relay.reports.ended == [EndReason.CLIENT_LOST]
    assert relay.listener.refusals == {"client": 1, "server": 0}


def test_a_silent_client_loses_its_session(relay: Relay) -> None:
    relay.connect(relay.client())
    relay.listener.sweep(LIMITS.idle_s)
    assert relay.reports.ended == [EndReason.CLIENT_SILENT]


def test_an_operator_can_end_a_session_and_the_client_gets_a_new_one(relay: Relay) -> None:
    client = relay.client()
    flow = relay.connect(client)
    relay.reports.opened[0].dismiss(EndReason.ENDED_BY_OPERATOR)
    assert relay.reports.ended == [EndReason.ENDED_BY_OPERATOR]
    assert relay.connect(client) != flow


def test_an_exception_ends_only_its_session(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    client, other = relay.client(), relay.client()
    relay.connect(client)
    relay.connect(other)
    session = relay.reports.opened[0]
    monkeypatch.setattr(type(session), "pass_up", lambda *_: 1 // 0)
    client.sendto(b"more", relay.place)
    with logged() as lines:
        relay.turning.until(lambda: relay.reports.ended)
    monkeypatch.undo()
    assert relay.reports.ended == [EndReason.FAULT]
    assert any("ZeroDivisionError" in line or "failed" in line for line in lines)
    other.sendto(b"more", relay.place)
    assert relay.read(relay.server)[0] == b"more"


def test_an_address_of_the_server_without_a_route_is_not_used(relay: Relay) -> None:
    # Connecting to the broadcast address needs an option.
    relay.listener.server._hosts = ["255.255.255.255", "127.0.0.1"]
    for _ in range(4):
        relay.connect(relay.client())


def test_a_server_that_cannot_be_reached_refuses_sessions(relay: Relay) -> None:
    relay.listener.server._hosts = ["255.255.255.255"]
    relay.client().sendto(b"hello", relay.place)
    relay.turning.until(lambda: relay.reports.refused)
    assert str(relay.reports.refused[0]) == "a socket cannot be opened: Permission denied"
    assert relay.admission.living == len(relay.listener.table) == 0


# --- Addresses of the server that do not answer ---


def leave_unanswered(relay: Relay, client: socket.socket, silent: socket.socket) -> None:
    """Have the client's session with the silent address end without an answer."""
    client.sendto(b"hello", relay.place)
    assert relay.read(silent)[0] == b"hello"
    relay.now += LIMITS.proof_s
    relay.listener.sweep(relay.now)


def test_a_client_without_an_answer_gets_another_address_and_others_take_turns(
    relay: Relay,
) -> None:
    silent, client = relay.add_silent_address(), relay.client()
    leave_unanswered(relay, client, silent)
    relay.connect(relay.client())
    # Now it is the silent one's turn.
    client.sendto(b"again", relay.place)
    assert relay.read(relay.server)[0] == b"again"
    relay.client().sendto(b"other", relay.place)
    relay.client().sendto(b"other", relay.place)
    assert relay.read(silent)[0] == relay.read(relay.server)[0] == b"other"


def test_an_address_is_tried_last_if_a_client_of_it_proved_itself_at_another_one(
    relay: Relay,
) -> None:
    silent, client = relay.add_silent_address(), relay.client()
    leave_unanswered(relay, client, silent)
    relay.connect(client)
    for _ in range(4):
        relay.connect(relay.client())


def test_an_address_is_not_blamed_for_exhausted_descriptors(relay: Relay) -> None:
    silent, client = relay.add_silent_address(), relay.client()
    leave_unanswered(relay, client, silent)
    relay.connect(client)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    other = relay.client()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        other.sendto(b"hello", relay.place)
        relay.turning.until(lambda: relay.reports.refused)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server = relay.listener.server
    assert server.hosts_in_order() == server.hosts_in_order() == ["127.0.0.1", "127.0.0.2"]


# --- Limits ---


def test_the_limits_of_the_gateway_apply(relay: Relay) -> None:
    for _ in range(40):
        relay.client().sendto(b"hello", relay.place)
    relay.turning.until(lambda: len(relay.listener.table) == 40)
    relay.client().sendto(b"hello", relay.place)
    relay.turning.until(lambda: relay.listener.drops["client_full"] == 1)
    for number in range(2, 8):
        relay.client(f"127.0.0.{number}").sendto(b"hello", relay.place)
    relay.turning.until(lambda: relay.listener.drops["refused"] == 1)
    assert isinstance(relay.reports.refused[0], CapacityReached)
    assert relay.admission.living == 45


def test_a_draining_gateway_opens_no_session_and_keeps_those_it_has(relay: Relay) -> None:
    client = relay.client()
    flow = relay.connect(client)
    relay.admission.draining = True
    relay.client().sendto(b"hello", relay.place)
    relay.turning.until(lambda: relay.listener.drops["refused"] == 1)
    assert isinstance(relay.reports.refused[0], Draining)
    client.sendto(b"more", relay.place)
    assert relay.read(relay.server) == (b"more", flow)


def test_a_denied_address_opens_no_session(relay: Relay) -> None:
    relay.client("127.0.0.66").sendto(b"hello", relay.place)
    relay.turning.until(lambda: relay.listener.drops["denied"] == 1)
    assert relay.admission.living == 0


def test_a_displaced_session_is_closed() -> None:
    with closing(Relay(evolve(LIMITS, flows=1))) as relay:
        relay.client().sendto(b"first", relay.place)
        relay.read(relay.server)
        relay.now = 2.0
        relay.client().sendto(b"second", relay.place)
        assert relay.read(relay.server)[0] == b"second"
        assert relay.reports.ended == [EndReason.ABANDONED]


def test_a_larger_datagram_is_dropped_in_either_direction(relay: Relay) -> None:
    client = relay.client()
    flow = relay.connect(client)
    client.sendto(bytes(1501), relay.place)
    relay.server.sendto(bytes(9000), flow)
    relay.turning.until(lambda: relay.listener.drops["too_large"] == 2)
    client.sendto(b"more", relay.place)
    assert relay.read(relay.server) == (b"more", flow)


# --- Other workers ---


def test_a_replaced_worker_keeps_its_clients_and_another_gets_new_ones(relay: Relay) -> None:
    client, late = relay.client(), relay.client()
    flow = relay.connect(client)
    successor = relay.new_listener()
    relay.listener.stop_listening()
    of_late = relay.connect(late)
    assert len(successor.table) == len(relay.listener.table) == 1
    for _ in range(20):
        client.sendto(b"more", relay.place)
        assert relay.read(relay.server) == (b"more", flow)
        relay.server.sendto(b"reply", of_late)
        assert relay.read(late) == (b"reply", relay.place)
    successor.end_all(EndReason.DRAINED)
    successor.stop_listening()


def test_datagrams_wait_while_no_worker_listens(relay: Relay) -> None:
    relay.listener.stop_listening()
    relay.client().sendto(b"hello", relay.place)
    relay.turning.settle()
    relay.listener = relay.new_listener()
    assert relay.read(relay.server)[0] == b"hello"


# --- PROXY protocol ---


def test_each_datagram_to_the_server_has_a_header_with_the_clients_address() -> None:
    with closing(Relay(header=True)) as relay:
        client = relay.client()
        header = datagram_header(client.getsockname(), relay.place)
        for data in (b"first", b"second"):
            client.sendto(data, relay.place)
            got, flow = relay.read(relay.server)
            assert got == header + data
        relay.server.sendto(b"reply", flow)
        assert relay.read(client)[0] == b"reply"
