"""Checks of the media servers, for all workers together.

A server is down after ``fall`` failed checks in a row, and up after ``rise`` successful ones. The results
are sent to the workers every second, so that a worker that has just started gets them soon. The state of a
server is not sent before it has passed a check, or has failed often enough: workers keep the last state
while the supervisor's program is replaced. They give a server that is down no sessions while another one
accepts them.

Workers report failed connects, and sessions that a server has ended at birth. After ``fall`` of these the
server is *suspected*: it is checked at once, by a handshake if it has answered one before, and is down if
that fails. The failures alone do not take it down, because clients can cause them.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from random import uniform
from time import time
from typing import Any, Final, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.addresses import ServerAddress
from gateway.configuration.sections import (
    Config,
)
from gateway.configuration.upstream_sections import (
    Upstream,
)
from gateway.errors import ConfigurationError, GatewayError, UpstreamUnavailable
from gateway.telemetry.measurement.latency import BUCKETS, SlidingMinute
from gateway.upstreams.dial import Server
from gateway.upstreams.dns import DNS, NoAnswer
from gateway.upstreams.names import Names, Resolved, look_up_due
from gateway.upstreams.probe import Kind, probe
from gateway.upstreams.tls_client import ClientTLS
from gateway.workers.upstream_tls import client_tls

_log = Logger()

LOOK_S: Final = 1.0
# The part of the interval by which checks are moved, so that those of several gateways do not coincide.
_JITTER: Final = 0.1

# Checks one server, with an application or ""; fails with the cause.
Probe = Callable[[Any, Server, Kind, float, str], Any]


@final
class _Checked:
    """One server with its checks. ``is_up``: their result so far, which is a guess until ``is_known``.

    ``answers``: whether it has answered a handshake. Automatic checks make one to know that, and again
    after each recovery. A server that is down by a handshake comes up by handshakes.
    """

    def __init__(
        self,
        address: ServerAddress,
        upstream: Upstream,
        kind: Kind,
        tls: ClientTLS | None,
        tls_host: str = "",
    ) -> None:
        self.server = Server(
            *(address, "upstream", upstream.proxy_protocol, tls),
            *(upstream.source_address or "", tls_host),
        )
        self.kind = kind
        self.application = upstream.check_application or ""
        self.every_s = upstream.check_s
        self.rise, self.fall = upstream.rise, upstream.fall
        self.is_automatic = upstream.check == "auto"
        self.is_up = True
        self.is_known = False
        self.answers: bool | None = None
        self.needs_handshake = False
        # The durations of checks, as counts by bucket.
        self.durations = {outcome: [0] * BUCKETS for outcome in ("succeeded", "failed")}
        # Failures that workers have reported since the last check.
        self.suspicions = 0
        self.due_at = 0.0
        self.is_running = False
        # Checks in a row with the other result.
        self._against = 0

    def follow(self, known: _Checked | None) -> None:
        """Continue the checks of the same server, if there were any."""
        if known is not None:
            self.is_up, self.is_known = known.is_up, known.is_known
            self.durations = known.durations
            self.needs_handshake = known.needs_handshake and self.is_automatic

    @property
    def is_suspected(self) -> bool:
        """Whether as many failures have been reported as checks must fail."""
        return self.suspicions >= self.fall

    def is_due(self, now: float) -> bool:
        return not self.is_running and (self.due_at <= now or self.is_suspected)

    def begin(self) -> tuple[Kind, bool]:
        """The kind of the check that begins now, and whether its failure alone takes the server down."""
        is_suspected, self.suspicions = self.is_suspected, 0
        if self.needs_handshake or (is_suspected and self.is_automatic and self.answers):
            return "rtmp", is_suspected
        return self.kind, is_suspected

    def note(self, kind: Kind, is_good: bool, is_decisive: bool = False) -> bool:
        """Count a result. Returns whether the server has come up, or gone down."""
        self._against = 0 if is_good == self.is_up else self._against + 1
        self.is_known = self.is_known or is_good
        is_over = is_decisive and self.is_up and not is_good
        if not is_over and self._against < (self.rise if is_good else self.fall):
            return False
        self.is_up, self.is_known, self._against = is_good, True, 0
        self.needs_handshake = kind != self.kind and not is_good
        self.answers = None
        return True


@final
class _CheckedService(Resolved):
    """``checks``: makes those of a server. ``before``: servers that had checks when it was configured.

    ``found``: the servers that are in the records; ``names``: of those that are checked for it.
    """

    def __init__(
        self,
        address: ServerAddress,
        checks: Callable[..., _Checked],
        before: Mapping[str, _Checked],
    ) -> None:
        super().__init__("upstream", str(address))
        self.address = address
        self.checks = checks
        self.before = before
        self.found: tuple[ServerAddress, ...] = ()
        self.names: list[str] = []

    async def resolve(self, names: Names) -> float:
        try:
            service = await names.service(self.address.host)
        except NoAnswer as error:
            raise ConfigurationError(
                f"health checks of {self.role} {self.name}: no SRV records: {error}"
            ) from None
        self.found = tuple(
            ServerAddress(each.host, each.port, self.address.scheme) for each in service.targets
        )
        return service.valid_s


@final
class HealthChecks:
    """``tell`` receives the state of each server by its name: whether it is up."""

    def __init__(
        self,
        reactor: Any,
        tell: Callable[[dict[str, bool]], object],
        run_probe: Probe = probe,
        names: Names | None = None,
    ) -> None:
        self._names = names or Names(reactor, DNS(reactor))
        self._reactor = reactor
        self._tell = tell
        self._probe = run_probe
        self._timeout_s = 0.0
        self._checked: dict[str, _Checked] = {}
        self._services: list[_CheckedService] = []
        # The durations of the program before, until their servers are checked.
        self._adopted: dict[str, dict[str, list[int]]] = {}

    def hand_over(self) -> dict[str, dict[str, list[int]]]:
        """The durations of all servers' checks, for ``adopt``."""
        return self._adopted | {name: each.durations for name, each in self._checked.items()}

    def adopt(self, durations: Mapping[str, dict[str, list[int]]]) -> None:
        """Continue the counts of the program before. Must be called before ``watch``."""
        for name, counts in durations.items():
            # Another version may count in other buckets.
            if all(len(each) == BUCKETS for each in counts.values()):
                self._adopted[name] = counts

    def watch(self, configuration: Config) -> None:
        """Check the servers of this configuration from now on. Those known already keep their state.

        Raises ConfigurationError, after which nothing has changed.
        """
        clients = [
            None
            if check_of(upstream, configuration) is None
            else client_tls(configuration, index, time())
            for index, upstream in enumerate(configuration.upstreams)
        ]
        self._timeout_s = configuration.limits.upstream_connect_s
        before, self._checked, self._services = self._checked, {}, []
        for upstream, tls in zip(configuration.upstreams, clients, strict=True):
            kind = check_of(upstream, configuration)
            if kind is None:
                continue
            for server in upstream.servers:
                checks = partial(_Checked, upstream=upstream, kind=kind, tls=tls)
                if server.address.is_service:
                    self._services.append(_CheckedService(server.address, checks, before))
                else:
                    checked = checks(server.address)
                    self._follow(checked, before)
                    self._checked[checked.server.name] = checked

    def look(self) -> None:
        """Begin the checks that are due, and tell the states. Must be called every ``LOOK_S``."""
        now = self._reactor.seconds()
        for service in self._services:
            if service.is_due(now):
                self._begin(self._find_servers(service))
        for checked in self._checked.values():
            if checked.is_due(now):
                checked.due_at = now + checked.every_s * uniform(1 - _JITTER, 1 + _JITTER)
                checked.is_running = True
                self._begin(self._check(checked))
        states = {name: each.is_up for name, each in self._checked.items() if each.is_known}
        if states:
            self._tell(states)

    @staticmethod
    def _begin(work: Coroutine[Deferred[Any], Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(
            lambda failure: _log.failure("a health check failed", failure)
        )

    async def _find_servers(self, service: _CheckedService) -> None:
        """Check the servers that are in the records now."""
        await look_up_due([service], self._names)
        if service not in self._services:
            return
        known = {name: self._checked.pop(name) for name in service.names}
        service.names = []
        for address in service.found:
            name = str(address)
            if name in self._checked:
                continue
            checked = known.get(name)
            if checked is None:
                checked = service.checks(address, tls_host=service.address.domain)
                self._follow(checked, service.before)
            self._checked[name] = checked
            service.names.append(name)
        service.before = {}

    def _follow(self, checked: _Checked, before: Mapping[str, _Checked]) -> None:
        """Continue the checks of the same server, of an earlier configuration or program."""
        name = checked.server.name
        checked.follow(before.get(name))
        checked.durations = self._adopted.pop(name, checked.durations)

    def durations_of(self, name: str) -> dict[str, list[int]]:
        """The durations of a server's checks by outcome, as counts by bucket; {} if it is not checked."""
        checked = self._checked.get(name)
        return {} if checked is None else checked.durations

    def suspect(self, failures: Mapping[str, int]) -> None:
        """Workers have seen so many failures of these servers."""
        for name, number in failures.items():
            if name in self._checked:
                self._checked[name].suspicions += number

    async def _check(self, checked: _Checked) -> None:
        kind, is_decisive = checked.begin()
        try:
            cause = await self._cause_of_failure(checked, kind)
            if not cause and checked.is_automatic and checked.answers is None:
                checked.answers = not await self._cause_of_failure(checked, "rtmp")
        finally:
            checked.is_running = False
        if checked.note(kind, not cause, is_decisive):
            self._say(checked, cause)

    async def _cause_of_failure(self, checked: _Checked, kind: Kind) -> str:
        """Check the server; "" if it is well."""
        cause, began = "", self._reactor.seconds()
        try:
            await checked.server.look_up_if_due(self._names)
            if not checked.server.hosts:
                raise UpstreamUnavailable("its name is unknown")
            await self._probe(
                *(self._reactor, checked.server, kind, self._timeout_s, checked.application)
            )
        except GatewayError as error:
            cause = str(error)
        counts = checked.durations["failed" if cause else "succeeded"]
        SlidingMinute(counts).add(self._reactor.seconds() - began)
        return cause

    @staticmethod
    def _say(checked: _Checked, cause: str) -> None:
        if cause:
            _log.warn(
                "upstream {server} is down by its health checks: {cause}",
                server=checked.server.name,
                cause=cause,
            )
        else:
            _log.info("upstream {server} is up again", server=checked.server.name)


def check_of(upstream: Upstream, configuration: Config) -> Kind | None:
    """How the servers of ``upstream`` are checked; None if they are not."""
    if upstream.check == "off":
        return None
    if upstream.check == "auto":
        # A single server gets all sessions, whether it is up or not.
        servers = [server for each in configuration.upstreams for server in each.servers]
        several = len(servers) > 1 or servers[0].address.is_service
        return "tcp" if several else None
    return upstream.check
