"""When names are resolved again, and what is used while that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from gateway.addresses import ServerAddress
from gateway.upstreams.dial import Server
from gateway.upstreams.dns import NoAnswer
from gateway.upstreams.names import Names, look_up_all, look_up_due
from tests.helpers.logged import logged
from tests.upstreams.network import LOOPBACK, Network


class FixedDNS:
    """A DNS with one time to live, None if it does not answer. ``asked``: the hosts."""

    def __init__(self, valid_s: float | None) -> None:
        self.valid_s = valid_s
        self.asked: list[str] = []

    async def time_to_live(self, host: str) -> float:
        self.asked.append(host)
        if self.valid_s is None:
            raise NoAnswer("no name server answers in time")
        return self.valid_s


class Resolving:
    """A server with a name, and the seconds that pass."""

    def __init__(self, network: Network, dns: Any, hosts_file: str = "/dev/null") -> None:
        self._network = network
        network.names.hosts["media"] = [LOOPBACK]
        self.names = Names(network.reactor, dns, lambda: network.now, hosts_file)
        self.server = Server(ServerAddress("media", 1935))
        self.look()

    def look(self) -> None:
        self._network.result_of(look_up_due([self.server], self.names))

    def wait(self, seconds: float) -> list[str]:
        """The addresses after this time, in which look-ups were made when they were due."""
        for _ in range(int(seconds)):
            self._network.now += 1.0
            self.look()
        return self.server.hosts

    def change(self, *hosts: str) -> None:
        self._network.names.hosts["media"] = [*hosts]

    def seconds_until_change(self) -> int:
        self.change("127.0.0.2")
        return next(n for n in range(1, 400) if self.wait(1) == ["127.0.0.2"])


@pytest.mark.parametrize(
    ("valid_s", "seconds"), [(0, 5), (7, 7), (60, 60), (86_400, 300), (None, 60)]
)
def test_a_name_is_resolved_again_after_its_time_to_live_within_bounds(
    network: Network, valid_s: float | None, seconds: int
) -> None:
    assert Resolving(network, FixedDNS(valid_s)).seconds_until_change() == seconds


def test_a_name_of_the_hosts_file_is_not_asked_for_in_the_dns(
    network: Network, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n192.0.2.1 other MEDIA # media2\n")
    dns = FixedDNS(7)
    assert Resolving(network, dns, str(hosts)).seconds_until_change() == 60
    assert not dns.asked


def test_an_address_is_never_resolved(network: Network) -> None:
    dns: Any = FixedDNS(7)
    names = Names(network.reactor, dns)
    for host in ("192.0.2.1", "2001:db8::1"):
        found = network.result_of(names.addresses(host))
        assert (found.hosts, found.valid_s) == ((host,), float("inf"))
    assert not dns.asked


def test_a_name_that_stops_resolving_keeps_its_addresses_and_says_so_once(network: Network) -> None:
    resolving = Resolving(network, FixedDNS(10))
    server = resolving.server
    resolving.change()
    with logged() as lines:
        assert resolving.wait(3600) == [LOOPBACK]
    assert lines == [
        (
            "warn: upstream media:1935: the name 'media' is unknown; check its spelling and this machine's"
            " resolver; the last addresses stay in use"
        )
    ]
    assert server.is_failing
    # After 10, 15, 25, 45 and 85 s, and then every minute.
    assert server.failed_look_ups == 5 + (3600 - 85) // 60
    resolving.change("127.0.0.3")
    with logged() as lines:
        assert resolving.wait(60) == ["127.0.0.3"]
    assert lines == [
        "info: upstream media:1935: new sessions use its new addresses: 127.0.0.3",
        "info: upstream media:1935: the name is resolved again",
    ]
    assert not server.is_failing
    resolving.change("127.0.0.4")
    assert resolving.wait(10) == ["127.0.0.4"]


def test_the_number_of_addresses_is_limited(network: Network) -> None:
    network.names.hosts["many"] = [f"10.0.{n // 250}.{n % 250}" for n in range(5000)]
    found = network.result_of(Names(network.reactor).addresses("many"))
    assert len(found.hosts) == 32


def test_a_slow_name_delays_no_other_and_is_not_asked_for_twice(network: Network) -> None:
    class SlowDNS(FixedDNS):
        async def time_to_live(self, host: str) -> float:
            await super().time_to_live(host)
            if host == "slow":
                await _never
            return 5

    _never: Deferred[None] = Deferred()
    dns: Any = SlowDNS(5)
    network.names.hosts |= {"slow": [LOOPBACK], "media": [LOOPBACK]}
    names = Names(network.reactor, dns, lambda: network.now)
    slow, server = Server(ServerAddress("slow", 1)), Server(ServerAddress("media", 1))
    for _ in range(3):
        Deferred.fromCoroutine(look_up_due([slow, server], names))
        network.now += 5.0
    assert server.hosts == [LOOPBACK]
    assert dns.asked == ["slow", "media", "media", "media"]


def test_all_names_are_resolved_at_the_same_time_at_the_start(network: Network) -> None:
    class Meeting(FixedDNS):
        """It answers when it has been asked for two hosts."""

        met: Deferred[None] = Deferred()

        async def time_to_live(self, host: str) -> float:
            await super().time_to_live(host)
            if len(self.asked) == 2:
                self.met.callback(None)
            else:
                await self.met
            return 5

    dns: Any = Meeting(5)
    network.names.hosts |= {"a": [LOOPBACK], "b": [LOOPBACK]}
    names = Names(network.reactor, dns, lambda: network.now)
    servers = [Server(ServerAddress(host, 1)) for host in ("a", "b")]
    network.result_of(look_up_all(servers, names))
    assert [server.hosts for server in servers] == [[LOOPBACK], [LOOPBACK]]
