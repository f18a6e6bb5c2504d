"""The admin server. A reload replaces its address, its token and its certificates."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from time import monotonic, time
from typing import Any, final

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from gateway.addresses import TcpAddress, UnixAddress
from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.server import Site
from gateway.admin.resources.endpoints import Endpoints
from gateway.admin.resources.event_streams import EventStreams
from gateway.admin.resources.gateway_interface import Gateway
from gateway.admin.status_page.page import Page
from gateway.admin.time_slices import TimeSlices
from gateway.configuration.sections import Admin, Config
from gateway.listeners.mutual_tls import server_options
from gateway.listeners.ports import address_of, adopt, listen
from gateway.supervisor.admin_files import authorities, certificate, token
from gateway.supervisor.worker_process import inheritable_copy

_log = Logger()

# For members of the gateway's group only.
_SOCKET_MODE = 0o660


@frozen
class Prepared:
    """What a configuration needs: its settings, a factory with its files, and a port if it is a new one."""

    settings: Admin | None
    factory: Any = None
    new_port: Any = None


@final
class AdminServer:
    """``environment`` names the sockets that systemd passed."""

    def __init__(self, gateway: Gateway, reactor: Any, environment: Mapping[str, str]) -> None:
        self._gateway = gateway
        self._reactor = reactor
        self._environment = environment
        self._settings: Admin | None = None
        # Twisted's IListeningPort; None without [admin].
        self._port: Any = None

    def adopt(self, configuration: Config, descriptor: int) -> None:
        """Take over what ``hand_over`` gave. Connections wait until ``use``."""
        settings = configuration.admin
        if settings is None or descriptor < 0:
            return
        owns_file = isinstance(settings.address, UnixAddress)
        self._port = adopt(self._reactor, descriptor, ServerFactory(), owns_file)
        self._port.stopReading()
        os.close(descriptor)
        self._settings = settings

    def prepare(self, configuration: Config) -> Prepared:
        """Read the files and open the address, without accepting connections. Raises ConfigurationError."""
        settings = configuration.admin
        if settings is None:
            return Prepared(None)
        factory = self._make_factory(configuration, settings)
        if self._settings is not None and self._settings.address == settings.address:
            return Prepared(settings, factory)
        port = self._listen(configuration, settings, factory)
        port.stopReading()
        return Prepared(settings, factory, port)

    def use(self, prepared: Prepared) -> None:
        """Accept connections with what has been prepared, and no others. Existing ones continue."""
        if prepared.new_port is not None or prepared.settings is None:
            self.close()
            self._port = prepared.new_port
        else:
            self._port.factory = prepared.factory
        self._settings = prepared.settings
        if self._port is not None:
            self._port.startReading()

    def discard(self, prepared: Prepared) -> None:
        """Close what has been prepared and is not used."""
        if prepared.new_port is not None:
            prepared.new_port.stopListening()

    def close(self) -> Deferred[Any]:
        """Stop accepting connections."""
        port, self._port, self._settings = self._port, None, None
        return succeed(None) if port is None else port.stopListening()

    def hand_over(self, closing: ExitStack) -> int:
        """A copy of the listening socket that survives an exec, and that ``closing`` closes; -1 if there is
        none.
        """
        return -1 if self._port is None else inheritable_copy(self._port.fileno(), closing)

    def _listen(self, configuration: Config, settings: Admin, factory: Any) -> Any:
        with configuration.source.at("admin", "address"):
            port = listen(
                *(self._reactor, settings.address, factory, self._environment, _SOCKET_MODE)
            )
        is_tcp = isinstance(settings.address, TcpAddress)
        address = address_of(port) if is_tcp else settings.address
        _log.info("admin server on {address}", address=address)
        return port

    def _make_factory(self, configuration: Config, settings: Admin) -> Any:
        """Raises ConfigurationError."""
        source = configuration.source
        streams = EventStreams(self._gateway, self._time_slices, monotonic, time)
        endpoints = Endpoints(self._gateway, streams, Page())
        access = _access_control(settings, token(settings, source))
        site = Site(self._reactor, access, endpoints.answer, self._time_slices)
        shown = certificate(settings, source)
        if shown is None:
            return site
        return TLSMemoryBIOFactory(
            server_options(shown, authorities(settings, source)), False, site
        )

    def _time_slices(self) -> TimeSlices:
        return TimeSlices(self._reactor, monotonic)


def _access_control(settings: Admin, token: bytes) -> AccessControl:
    # Browsers cannot connect to UNIX sockets. On public addresses, a page that resolves its name to this
    # one has neither token nor certificate.
    any_host = isinstance(settings.address, UnixAddress) or not settings.is_private
    return AccessControl(token, settings.hosts, any_host)
