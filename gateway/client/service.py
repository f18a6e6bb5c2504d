"""twistd's options and service for the tunnel client: its composition root.

An expected error is one line on standard error and in the log, as those of the gateway (service.py).
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IReactorCore,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
)
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized

from gateway.addresses import TcpAddress
from gateway.client.arguments import NAME, parse
from gateway.client.metrics import Metrics, metrics_site
from gateway.client.name_resolver import NameResolver
from gateway.client.remote_gateway import RemoteGateway
from gateway.client.sessions import Sessions
from gateway.client.settings import Settings
from gateway.client.state_file import StateFile
from gateway.client.stop_signals import hurry_when_repeated
from gateway.dispatch import dispatch_directly
from gateway.errors import ConfigurationError, GatewayError
from gateway.listeners.ports import listen, places_of
from gateway.logs import debugging
from gateway.periodic_calls import periodic_call
from gateway.reactor_time import use_monotonic_time
from gateway.systemd_notify import SystemdNotify
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.versions import version_of
from gateway.twistd_process import is_one_output, observer_of, output_of, print_error

# How often the number of streams is sent to systemd.
_STATUS_S: Final = 10.0
_LINES_PER_S: Final = 20.0


class Options(usage.Options):
    """The options of ``twistd rtmpt-client``; ``settings`` is the result of parsing them."""

    settings: Settings

    def parseOptions(self, options: Any = None) -> None:
        """Parse the words by ``arguments``, which ends the process with a line if they are wrong."""
        words = sys.argv[1:] if options is None else options
        self.settings = parse(words, program=f"twistd {NAME}")


class ClientService(service.Service):
    """The tunnel client as a Twisted service, started and stopped by twistd."""

    _log = Logger()

    def __init__(
        self, settings: Settings, reactor: Any, observer: LevelFilter | None = None
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._observer = observer
        self._systemd = SystemdNotify(os.environ)
        self._status = periodic_call(self._report, reactor)
        agent = f"{NAME}/{version_of('rtmpt-gateway')}"
        self._state = StateFile(settings.state_file)
        self._metrics = Metrics(settings.ways)
        self._gateway = RemoteGateway(
            reactor, settings.host, settings.ways, settings.context, agent, settings.proxies
        )
        self._sessions = Sessions(
            *(reactor, self._gateway, settings.ways, self._state, self._metrics),
            *(settings.most_connections, settings.timeout_s),
        )
        self._ports: list[Any] = []

    def setServiceParent(self, parent: Any) -> None:
        """Also set the application's log observer, which twistd takes from there."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open the listening sockets."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            self._listen()
        except (GatewayError, CannotListenError, OSError) as error:
            self._log.critical("cannot start: {cause}", cause=str(error))
            on_output = self._observer is not None and self._observer.is_on_output
            if not (on_output and is_one_output()):
                print_error(NAME, str(error))
            # The interpreter prints the exception that twistd lets through; it has been reported already.
            sys.excepthook = lambda *_: None
            raise GatewayError(str(error)) from None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._state.read()
        self._sessions.start()
        settings = self._settings
        self._log.info(
            "ready: {agent} connects to {gateway} by {ways}",
            agent=f"{NAME} {version_of('rtmpt-gateway')}",
            gateway=self._gateway.name,
            ways=", ".join(map(str, settings.ways)),
        )
        self._systemd.ready(self._sessions.status)
        self._status.start(self._systemd.watchdog_s / 3 or _STATUS_S, now=False)
        self._reactor.callWhenRunning(self._handle_signals)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._systemd.stopping()
        if self._status.running:
            self._status.stop()
        for port in self._ports:
            port.stopListening()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._sessions.stop()
        self._log.info("stopped")

    def _listen(self) -> None:
        for address in self._settings.listen:
            port = listen(self._reactor, address, self._sessions, os.environ)
            self._ports.append(port)
            self._check_places(str(address), places_of(port))
            place = ", ".join(map(str, places_of(port))) or str(address)
            self._log.info("listening on {place}", place=place)
        metrics = self._settings.metrics
        if metrics is not None:
            port = listen(self._reactor, metrics, metrics_site(self._metrics), os.environ)
            self._ports.append(port)
            place = ", ".join(map(str, places_of(port)))
            self._log.info("metrics on http://{place}/metrics", place=place)

    def _check_places(self, name: str, places: list[TcpAddress]) -> None:
        """Refuse a socket of systemd's that other machines can reach."""
        if not self._settings.allows_remote and not all(each.is_loopback for each in places):
            raise ConfigurationError(
                f"{name}: other machines can connect there; let the .socket unit listen on 127.0.0.1 or"
                " [::1], or permit it by --allow-remote"
            )

    def _handle_signals(self) -> None:
        # A signal handler can interrupt any code, so the reactor calls ``hurry`` between events.
        later = IReactorFromThreads(self._reactor).callFromThread
        hurry_when_repeated(lambda: later(self._sessions.hurry))

    def _report(self) -> None:
        self._systemd.alive(self._sessions.status)


def makeService(options: Options) -> service.IService:
    """The service maker's function that twistd calls with the parsed options."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    settings = options.settings
    debugging.enabled = settings.log_level == "debug"
    dispatch_directly(reactor)
    IReactorPluggableNameResolver(reactor).installNameResolver(NameResolver(reactor))
    output = output_of(options.parent)
    observer = None
    if output is not None:
        observer = observer_of(output, "text", settings.log_level, _LINES_PER_S)
    return ClientService(settings, IReactorCore(reactor), observer)
