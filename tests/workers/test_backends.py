"""Servers that several upstreams have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.configuration import loading
from gateway.protocols.service_records import Target
from gateway.upstreams.dns import Service as Found
from gateway.upstreams.member import OwnCount
from gateway.upstreams.names import Names
from gateway.workers.backends import Backends

_ONE, _OTHER = "_rtmp._tcp.one.example", "_rtmp._tcp.other.example"
_CONFIGURATION = f"""
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["{_ONE}"]
rtmpe = "terminate"
[[upstream]]
servers = ["{_OTHER}"]
rtmpe = "terminate"
"""
_SHARED, _FURTHER = (Target(0, f"192.0.2.{number}", 1935, 1) for number in (1, 2))


class FoundServers:
    """``taken``: the servers of the rows that were taken and not left."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def take(self, server: str) -> OwnCount:
        self.taken.append(server)
        return OwnCount()

    def leave(self, server: str) -> None:
        self.taken.remove(server)


class Place:
    """A worker; ``counts`` is itself, with the shared counts of servers in SRV records only."""

    workers = 1
    servers: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        self.found_servers = FoundServers()
        self.counts = self


class Records:
    """A DNS with these targets."""

    def __init__(self) -> None:
        self.targets = {_ONE: [_SHARED, _FURTHER], _OTHER: [_SHARED, _FURTHER]}

    async def service(self, name: str) -> Found:
        return Found(tuple(self.targets[name]), 30.0)


def test_a_server_is_forgotten_when_the_last_service_no_longer_has_it() -> None:
    clock, forgotten = Clock(), list[str]()
    records: Any = Records()
    place: Any = Place()
    backends = Backends(
        loading.from_text("gateway.toml", _CONFIGURATION),
        *(clock, None, place, forgotten.append),  # type: ignore[arg-type]
    )
    backends.names = Names(clock, records, clock.seconds)
    Deferred.fromCoroutine(backends.start([]))
    server = "192.0.2.1:1935"
    for service, is_known in ((_ONE, True), (_OTHER, False)):
        records.targets[service] = [_FURTHER]
        clock.advance(30.0)
        Deferred.fromCoroutine(backends.look_up_again())
        assert (backends.terminate(server) is not None) is is_known
        assert (server in forgotten) is not is_known
    assert forgotten == [server]
    # Once by each service.
    assert place.found_servers.taken == ["192.0.2.2:1935"] * 2
