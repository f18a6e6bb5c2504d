"""Questions to name servers that answer, fail, or are hostile."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns as wire

from gateway.protocols.resolv_conf import ResolverSettings
from gateway.protocols.service_records import MOST_TARGETS, Target
from gateway.upstreams.dns import DNS, NoAnswer
from tests.helpers.name_server import NameServer
from tests.upstreams.network import LOOPBACK, Network

_SERVICE = "_rtmp._tcp.example.org"
_RECORDS = {
    f"{_SERVICE} SRV": [("20 0 1936 B.example.org", 60), ("10 5 1935 a.example.org", 30)],
    "media.example.org A": [("127.0.0.1", 40), ("127.0.0.2", 40)],
    "media.example.org AAAA": [("::1", 20)],
    "old.example.org CNAME": [("media.example.org", 7)],
}
_LOOK_UP_S = 0.3


class Resolver:
    """The DNS as ``servers`` have it, on a reactor that runs only inside a call."""

    def __init__(
        self, network: Network, *servers: NameServer, search: tuple[str, ...] = ()
    ) -> None:
        self._network = network
        self.ports = [server.listen(network.reactor) for server in servers]
        addresses = tuple((LOOPBACK, ports[0].getHost().port) for ports in self.ports)
        settings = ResolverSettings(addresses, search)
        self.dns = DNS(network.reactor, lambda: settings)
        self.impatient = DNS(network.reactor, lambda: settings, _LOOK_UP_S)
        for ports in self.ports:
            for port in ports:
                network.at_end(port.stopListening)

    def targets(self, name: str = _SERVICE) -> tuple[Target, ...]:
        targets: tuple[Target, ...] = self._network.result_of(self.dns.service(name)).targets
        return targets

    def time_to_live(self, host: str) -> float:
        seconds: float = self._network.result_of(self.dns.time_to_live(host))
        return seconds

    def fails(self, dns: DNS | None = None) -> str:
        """The cause for which there are no targets."""
        with pytest.raises(NoAnswer) as caught:
            self._network.result_of((dns or self.impatient).service(_SERVICE))
        return str(caught.value)


def test_the_servers_of_a_service_are_those_of_its_records(network: Network) -> None:
    resolver = Resolver(network, NameServer(_RECORDS))
    found = network.result_of(resolver.dns.service(_SERVICE))
    assert found.targets == (
        Target(0, "a.example.org", 1935, 5),
        Target(1, "b.example.org", 1936, 1),
    )
    assert found.valid_s == 30


def test_the_time_to_live_is_the_shortest_of_all_records_in_the_answers(network: Network) -> None:
    resolver = Resolver(network, NameServer(_RECORDS))
    assert resolver.time_to_live("media.example.org") == 20
    assert resolver.time_to_live("old.example.org") == 7


def test_a_malformed_domain_of_the_search_list_is_left_out(network: Network) -> None:
    resolver = Resolver(network, NameServer(_RECORDS), search=("\ufffd", "a" * 70, "example.org"))
    assert resolver.time_to_live("media") == 20


def test_a_short_name_is_looked_up_in_the_domains_of_the_search_list(network: Network) -> None:
    server = NameServer(_RECORDS)
    resolver = Resolver(network, server, search=("example.net", "example.org"))
    assert resolver.time_to_live("media") == 20
    assert server.asked[0] == "udp media.example.net A"


def test_a_name_that_does_not_exist_is_asked_for_once(network: Network) -> None:
    server, other = NameServer({}), NameServer(_RECORDS)
    resolver = Resolver(network, server, other)
    assert resolver.fails() == "the DNS does not have the name"
    assert server.asked == [f"udp {_SERVICE} SRV"]
    assert not other.asked


@pytest.mark.parametrize(
    ("records", "cause"),
    [
        ({f"{_SERVICE} A": [("127.0.0.1", 1)]}, "the DNS does not have the name"),
        ({f"{_SERVICE} SRV": [("0 0 0 .", 1)]}, "its SRV records name no server"),
    ],
)
def test_a_service_without_a_server_has_no_targets(
    network: Network, records: Any, cause: str
) -> None:
    assert Resolver(network, NameServer(records)).fails() == cause


@pytest.mark.parametrize("fault", ["refuses", "silent", "garbage", "wrong id"])
def test_the_next_name_server_is_asked_if_the_first_fails(network: Network, fault: str) -> None:
    faulty, other = NameServer(_RECORDS), NameServer(_RECORDS)
    faulty.fault = fault
    assert len(Resolver(network, faulty, other).targets()) == 2
    assert len(faulty.asked) == 1


@pytest.mark.parametrize("fault", ["silent", "garbage", "wrong id"])
def test_a_look_up_without_a_usable_answer_ends_in_time(network: Network, fault: str) -> None:
    server = NameServer(_RECORDS)
    server.fault = fault
    began = network.reactor.seconds()
    assert Resolver(network, server).fails() == "no name server answers in time"
    assert network.reactor.seconds() - began < 3 * _LOOK_UP_S


def test_a_name_server_that_always_fails_is_not_asked_for_ever(network: Network) -> None:
    server = NameServer(_RECORDS)
    server.fault = "refuses"
    assert "fail" in Resolver(network, server).fails()
    assert len(server.asked) == 2


def test_a_truncated_answer_is_asked_for_again_by_tcp(network: Network) -> None:
    server = NameServer(_RECORDS)
    server.fault = "truncates"
    resolver = Resolver(network, server)
    assert len(resolver.targets()) == 2
    assert server.asked == [f"udp {_SERVICE} SRV", f"tcp {_SERVICE} SRV"]
    connections = [
        each for each in network.reactor.getReaders() if hasattr(each, "abortConnection")
    ]
    network.until(lambda: not any(each.connected for each in connections))


def test_a_look_up_ends_in_time_if_tcp_is_refused_or_its_answer_never_ends(
    network: Network,
) -> None:
    server = NameServer(_RECORDS)
    server.fault = "truncates"
    resolver = Resolver(network, server)
    server.replace_answer = lambda answer: b""
    assert resolver.fails() == "no name server answers in time"
    network.result_of(_stopped(resolver.ports[0][0]))
    assert resolver.fails() == "no name server answers"


async def _stopped(port: Any) -> None:
    await port.stopListening()


def _many(answer: bytes) -> bytes:
    """As many records as fit in an answer."""
    records = b"".join(
        b"\x00" + struct.pack("!HHIHHHH", 33, 1, 60, 9, 0, 0, number) + b"\x01a\x00"
        for number in range(1, 3100)
    )
    head = struct.pack("!HHHHH", 0x8180, 1, 3099, 0, 0)
    question_end = answer.index(b"\x00", 12) + 5
    return answer[:2] + head + answer[12:question_end] + records


def _loop(answer: bytes) -> bytes:
    """A name that is a pointer to itself."""
    question_end = answer.index(b"\x00", 12) + 5
    pointer = struct.pack("!H", 0xC000 | question_end)
    return (
        answer[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + answer[12:question_end] + pointer
    )


@pytest.mark.parametrize("hostile", [_loop, lambda answer: answer[:2] + os.urandom(60_000)])
def test_a_hostile_answer_is_no_answer(network: Network, hostile: Callable[[bytes], bytes]) -> None:
    server = NameServer(_RECORDS)
    server.fault = "truncates"
    server.replace_answer = hostile
    assert Resolver(network, server).fails()


def test_of_thousands_of_servers_a_few_are_used(network: Network) -> None:
    server = NameServer(_RECORDS)
    server.fault = "truncates"
    server.replace_answer = _many
    assert len(Resolver(network, server).targets()) == MOST_TARGETS


def test_an_answer_from_another_address_is_ignored(network: Network) -> None:
    """As those are that others send, who can guess neither the port nor the number of a question."""
    server = NameServer(_RECORDS)
    resolver = Resolver(network, server)
    server.fault = "silent"

    class Forger(DatagramProtocol):
        noisy = False

    forger = Forger()
    network.at_end(network.reactor.listenUDP(0, forger, interface=LOOPBACK).stopListening)
    datagrams = resolver.ports[0][1].protocol
    honest = NameServer(_RECORDS)

    def forge(datagram: bytes, addr: Any) -> None:
        server.asked.append("forged")
        answer = honest.answer(datagram, "udp")
        assert answer is not None
        assert wire.Message().fromStr(answer) is None
        forger.transport.write(answer, addr)

    datagrams.datagramReceived = forge
    assert resolver.fails() == "no name server answers in time"
    assert server.asked == ["forged"]
