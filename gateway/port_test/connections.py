"""Connections of the tester: TCP, an HTTP proxy's CONNECT, and TLS.

Failures are raised as TrialFailed. Callers limit the time of each call by ``asyncio.timeout_at``, whose
TimeoutError passes through here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from secrets import token_hex
from typing import Final

from attrs import Factory, frozen

from gateway.errors import BadResponse
from gateway.http_proxies import ProxyURL
from gateway.port_test.answers import (
    kind_of_system_error,
    kind_of_tls_error,
    kind_of_verification,
)
from gateway.port_test.certificates import read_certificate
from gateway.port_test.observations import Certificate, Kind, TrialFailed
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import (
    AUTHENTICATION_REQUIRED,
    MOST_ATTEMPTS,
    Challenged,
    Connected,
    Connecting,
    Outcome,
    Refused,
)

# Received and not read. A test's answers are smaller; media of a stream may be more.
_BUFFER_BYTES: Final = 256 * 1024
# RFC 7616, 5.12, advises 64 bits at least.
_CNONCE_BYTES: Final = 16


@contextmanager
def errors_as_failures() -> Iterator[None]:
    """Raise TrialFailed for the errors of sockets and TLS."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise TrialFailed(kind_of_verification(error.verify_code), error.verify_message) from None
    except ssl.SSLError as error:
        raise TrialFailed(kind_of_tls_error(error.reason), error.reason or "") from None
    except TimeoutError as error:
        # The kernel's error has a number; asyncio's has none.
        if error.errno is None:
            raise
        raise TrialFailed(Kind.NO_ANSWER) from None
    except OSError as error:
        kind = Kind.CLOSED if isinstance(error, ConnectionError) else None
        found = kind_of_system_error(error.errno)
        raise TrialFailed(kind if kind and not error.errno else found, str(error)) from None


class Connection(asyncio.Protocol):
    """One TCP connection, later perhaps with TLS.

    Not asyncio's streams: after a reset these withhold what was received before it, such as the refusal of
    a proxy that does not read a request to its end.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._ended = False
        self._error: Exception | None = None
        self._arrived = asyncio.Event()

    async def read(self) -> bytes:
        """All bytes that have arrived, at least one; empty at the end. Raises TrialFailed."""
        await self._arrived.wait()
        received, self._received = self._received, b""
        if not self._ended:
            self._arrived.clear()
            self._open_transport.resume_reading()
        if not received and self._error is not None:
            with errors_as_failures():
                raise self._error
        return received

    def write(self, data: bytes) -> None:
        self._open_transport.write(data)

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Raises TrialFailed."""
        loop = asyncio.get_running_loop()
        with errors_as_failures():
            transport = await loop.start_tls(
                self._open_transport, self, context, server_hostname=name
            )
        # It is None if the connection was lost in the meantime.
        if transport is None:
            raise TrialFailed(Kind.CLOSED)
        self._transport = transport

    @property
    def tls_version(self) -> str:
        return str(self._open_transport.get_extra_info("ssl_object").version())

    @property
    def certificate(self) -> Certificate | None:
        """The other side's certificate."""
        tls = self._open_transport.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True)
        return read_certificate(der, datetime.now(UTC)) if der else None

    def abort(self) -> None:
        self._open_transport.abort()

    @property
    def _open_transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._arrived.set()
        if len(self._received) > _BUFFER_BYTES:
            self._open_transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self._ended = True
        self._arrived.set()


@frozen
class Path:
    """How connections of one trial are made: to ``address`` and ``port``, the proxy's if there is one.

    ``authority``: what CONNECT asks the proxy for; None if requests go to the proxy itself, or to the
    server. ``authentication``: at the proxy. ``context`` and ``server_name``: of TLS; None for none.
    """

    address: str
    port: int
    authority: str | None = None
    authentication: Authentication = Factory(lambda: authentication_of(None))
    context: ssl.SSLContext | None = None
    server_name: str = ""

    async def reach(self) -> Connection:
        """A connection to the server, or to a proxy that forwards requests. Raises TrialFailed."""
        if self.authority is None:
            return await self._connect()
        outcome: Outcome = Challenged()
        for _ in range(MOST_ATTEMPTS):
            connection = await self._connect()
            async with or_aborted(connection):
                outcome = await self._ask(connection, self.authority)
            if isinstance(outcome, Connected):
                return connection
            connection.abort()
            if isinstance(outcome, Refused):
                raise TrialFailed(Kind.STATUS, outcome.advice, outcome.status)
        raise TrialFailed(
            Kind.STATUS, "it asks for credentials repeatedly", AUTHENTICATION_REQUIRED
        )

    async def secure(self, connection: Connection) -> None:
        """Start TLS, if the protocol has it. Raises TrialFailed."""
        if self.context is not None:
            await connection.start_tls(self.context, self.server_name)

    async def open(self) -> Connection:
        """All of it. Raises TrialFailed."""
        connection = await self.reach()
        async with or_aborted(connection):
            await self.secure(connection)
        return connection

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        with errors_as_failures():
            made = await loop.create_connection(Connection, self.address, self.port)
        return made[1]

    async def _ask(self, connection: Connection, authority: str) -> Outcome:
        """Have the proxy connect to the server."""
        connecting = Connecting(authority, self.authentication, Limits())
        connection.write(connecting.request())
        while True:
            data = await connection.read()
            if not data:
                raise TrialFailed(Kind.CLOSED)
            try:
                outcome = connecting.receive(data)
            except BadResponse as error:
                raise TrialFailed(Kind.SPEAKS_OTHER, str(error)) from None
            if outcome is not None:
                return outcome


def authentication_of(proxy: ProxyURL | None) -> Authentication:
    """The authentication of one trial: requests of others could overtake its counted ones."""
    return Authentication(proxy.credentials if proxy else None, lambda: token_hex(_CNONCE_BYTES))


@asynccontextmanager
async def or_aborted(connection: Connection) -> AsyncIterator[None]:
    """Abort the connection if the body does not succeed."""
    try:
        yield
    except BaseException:
        connection.abort()
        raise
