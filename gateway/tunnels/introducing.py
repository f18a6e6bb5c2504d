"""Interfaces of an introduction: the two sides of a session, and what its worker provides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from attrs import frozen
from twisted.python.failure import Failure

from gateway.errors import RequestRefused
from gateway.protocols.ingress import Ingress
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.upstreams.pool import Ready


class Target(Protocol):
    """The session's side of its upstream connection: a tunnel, or a relay's connection."""

    def makeConnection(self, transport: Any) -> None: ...

    def dataReceived(self, data: bytes) -> None: ...

    def connectionLost(self, reason: Failure) -> None: ...

    def pauseProducing(self) -> None: ...

    def resumeProducing(self) -> None: ...


class Counted(Protocol):
    """The object with a session's counters. ``position`` is "ended" after its end."""

    @property
    def position(self) -> str: ...


class Session(Protocol):
    """A tunnel or relay. ``server`` is set when its server is known."""

    address: str
    ingress: Ingress
    server: str

    @property
    def counted(self) -> Counted: ...

    def dismiss(self, reason: EndReason) -> None: ...


class Connect(Protocol):
    """Connects a protocol, of the client at an address, to a server of the named upstreams, or of all if
    none is named; the key is the application, and the last one application and stream. Returns the server's
    name. Raises ServiceUnavailable.

    ``is_ready`` is awaited after each connect; the next server is tried if it raises HandshakeFailed.
    """

    def __call__(
        self,
        protocol: Any,
        client: str,
        upstreams: tuple[str, ...] = (),
        key: str = "",
        is_ready: Ready | None = None,
        stream_key: str = "",
        /,
    ) -> Awaitable[str]: ...


class Telemetry(Protocol):
    """Observer of sessions whose server is selected later."""

    def session_placed(self, session: Any, seconds: float) -> None:
        """The server of an open session is known, after so long a connect."""

    def open_refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None: ...


@frozen
class Means:
    """Functions, limits and telemetry of a worker, for all of its introductions. ``later`` calls in the
    next iteration of the reactor.
    """

    connect: Connect
    limits: Limits
    clock: Callable[[], float]
    later: Callable[[Callable[[], None]], object]
    random_bytes: Callable[[int], bytes]
    telemetry: Telemetry
