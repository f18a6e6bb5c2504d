"""The state that all HTTP connections of a worker share, and the interfaces that they call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, Protocol

from attrs import define, field

from gateway.listeners.own_resources import NO_OWN_RESOURCES, OwnResources
from gateway.listeners.response_heads import ResponseHeads, response_heads
from gateway.protocols.commands import Kind
from gateway.protocols.forwarding import Request
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.ingress import Ingress
from gateway.protocols.interfaces import Reply
from gateway.protocols.limits import Limits


class Opening(Protocol):
    """A session that is being opened."""

    def abandon(self) -> None:
        """The client's connection was lost: discard the session."""


class TunnelSession(Protocol):
    """A session: this worker's (``protocols.session.Session``), or another one's."""

    @property
    def is_keeping(self) -> bool: ...

    def has_room_for(self, body_bytes: int) -> bool: ...

    def carried_by(self, transport: object, via: bytes | None, is_shared: bool = False) -> None: ...

    def receive(
        self, kind: Kind, number: int, body: bytes, now: float, may_hold: bool, source: int
    ) -> bytes | None: ...

    def close(self, now: float) -> bytes | None: ...

    def wait(self, number: int, reply: Reply, now: float) -> None: ...

    def forget(self, reply: Reply, now: float) -> None: ...

    def release(self, now: float) -> None: ...

    def stream_drained(self, now: float) -> None: ...

    def source_lost(self, source: int) -> None: ...

    def client_vanished(self, source: int, now: float) -> None: ...


class Tunnels(Protocol):
    """The table of sessions. ``hold_s``: how long an answer is held at most."""

    hold_s: float

    def open(self, address: str, fields: Fields, reply: Reply, ingress: Ingress) -> Opening:
        """Open a session; ``reply`` receives its id. Raises RequestRefused."""

    def find(self, session_id: bytes) -> TunnelSession:
        """Raises UnknownSession."""


class BytesHandler(Protocol):
    """Receives a connection's bytes and events while a website request or an upgrade uses it."""

    def client_data(self, data: bytes) -> None: ...

    def client_full(self) -> None:
        """The transport's write buffer is full."""

    def client_drained(self) -> None: ...

    def client_ended(self) -> None:
        """The client has ended its stream (half-close)."""

    def client_lost(self) -> None: ...

    def expire(self, now: float) -> None:
        """The connection's ``deadline``, which the handler sets, has passed."""


class Forwarding(BytesHandler, Protocol):
    """A request that is forwarded to the website, or one of the port test."""

    def start(self) -> None:
        """Start. Called once, after the connection's bytes have been handed over."""


class Website(Protocol):
    """Handles HTTP requests that are not tunnel commands."""

    def forward(
        self, client: Any, reader: RequestReader, transport: Any, request: Request
    ) -> Forwarding:
        """The handler of a request whose head has been read. Raises BadRequest."""


class PortTest(Website, Protocol):
    """Answers the requests of the port test."""

    def serves(self, target: bytes) -> bool:
        """Whether a request with this target is one."""


class Connections(Protocol):
    """The set of the worker's connections."""

    def add(self, connection: Any) -> None: ...

    def remove(self, connection: Any) -> None: ...


def no_cookie(secure: bool) -> bytes:
    """No cookie is set."""
    return b""


@define
class HTTPService:
    """State shared by all HTTP connections."""

    limits: Limits
    tunnels: Tunnels
    connections: Connections
    clock: Callable[[], float]
    later: Callable[[Callable[[], None]], object]
    website: Website | None = None
    port_test: PortTest | None = None
    # Limit on the incomplete request bodies of all connections together.
    bodies_bytes: int = 1 << 30
    waiting_bytes: int = 0
    serials: Iterator[int] = field(factory=count)
    # Returns the heads of the answers to a command.
    heads_of: Callable[[Fields], ResponseHeads] = response_heads
    own: OwnResources = NO_OWN_RESOURCES
    # Returns a field line of the answer to an open request; the argument: whether the connection is TLS.
    cookie_line: Callable[[bool], bytes] = no_cookie
