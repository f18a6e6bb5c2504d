"""Checks of the media servers, for all workers together.

A server is down after ``fall`` failed checks in a row, and up after ``rise`` successful ones. Workers are
told every second, so that one that has just started knows soon. They are not told of a server before it has
passed a check, or has failed often enough: they keep what they know while the supervisor's program is
replaced. They give a server that is down no sessions while another one accepts them.
"""

from __future__ import annotations

from collections.abc import Callable
from random import uniform
from time import time
from typing import Any, Final, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from gateway.addresses import ServerAddress
from gateway.configuration.sections import Config, Upstream
from gateway.errors import GatewayError
from gateway.upstreams.dial import Server
from gateway.upstreams.probe import Kind, probe
from gateway.upstreams.tls_client import ClientTLS
from gateway.workers.upstream_tls import client_tls

_log = Logger()

LOOK_S: Final = 1.0
# Names are resolved again after this time.
_LOOK_UP_S: Final = 60.0
# The part of the interval by which checks are moved, so that those of several gateways do not coincide.
_JITTER: Final = 0.1

# Checks one server; fails with the cause.
Probe = Callable[[Any, Server, Kind, float], Any]


@final
class _Checked:
    """One server with its checks. ``is_up``: their result so far, which is a guess until ``is_known``."""

    def __init__(
        self, address: ServerAddress, upstream: Upstream, kind: Kind, tls: ClientTLS | None
    ) -> None:
        source_address = upstream.source_address or ""
        self.server = Server(address, "upstream", upstream.proxy_protocol, tls, source_address)
        self.kind = kind
        self.every_s = upstream.check_s
        self.rise, self.fall = upstream.rise, upstream.fall
        self.is_up = True
        self.is_known = False
        self.due_at = 0.0
        self.looked_up_at: float | None = None
        self.is_running = False
        # Checks in a row with the other result.
        self._against = 0

    def note(self, is_good: bool) -> bool:
        """Count a result. Returns whether the server has come up, or gone down."""
        self._against = 0 if is_good == self.is_up else self._against + 1
        self.is_known = self.is_known or is_good
        if self._against < (self.rise if is_good else self.fall):
            return False
        self.is_up, self.is_known, self._against = is_good, True, 0
        return True


@final
class HealthChecks:
    """``tell`` receives the state of each server by its name: whether it is up."""

    def __init__(
        self,
        reactor: Any,
        tell: Callable[[dict[str, bool]], object],
        run_probe: Probe = probe,
    ) -> None:
        self._reactor = reactor
        self._tell = tell
        self._probe = run_probe
        self._timeout_s = 0.0
        self._checked: dict[str, _Checked] = {}

    def watch(self, configuration: Config) -> None:
        """Check the servers of this configuration, whose files have been read before, from now on. Those
        known already keep their state.
        """
        self._timeout_s = configuration.limits.upstream_connect_s
        before, self._checked = self._checked, {}
        for index, upstream in enumerate(configuration.upstreams):
            kind = check_of(upstream, configuration)
            if kind is None:
                continue
            tls = client_tls(configuration, index, time())
            for address in upstream.servers:
                checked = _Checked(address, upstream, kind, tls)
                known = before.get(checked.server.name)
                if known is not None:
                    checked.is_up, checked.is_known = known.is_up, known.is_known
                self._checked[checked.server.name] = checked

    def look(self) -> None:
        """Begin the checks that are due, and tell the states. Must be called every ``LOOK_S``."""
        now = self._reactor.seconds()
        for checked in self._checked.values():
            if checked.due_at <= now and not checked.is_running:
                checked.due_at = now + checked.every_s * uniform(1 - _JITTER, 1 + _JITTER)
                checked.is_running = True
                Deferred.fromCoroutine(self._check(checked)).addErrback(
                    lambda failure: _log.failure("a health check failed", failure)
                )
        states = {name: each.is_up for name, each in self._checked.items() if each.is_known}
        if states:
            self._tell(states)

    async def _check(self, checked: _Checked) -> None:
        cause = ""
        try:
            await self._look_up(checked)
            await self._probe(self._reactor, checked.server, checked.kind, self._timeout_s)
        except GatewayError as error:
            cause = str(error)
        finally:
            checked.is_running = False
        if checked.note(not cause):
            self._say(checked, cause)

    async def _look_up(self, checked: _Checked) -> None:
        now = self._reactor.seconds()
        if checked.looked_up_at is None or now - checked.looked_up_at >= _LOOK_UP_S:
            await checked.server.look_up(self._reactor)
            checked.looked_up_at = now

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
        several = sum(len(each.servers) for each in configuration.upstreams) > 1
        return "tcp" if several else None
    return upstream.check
