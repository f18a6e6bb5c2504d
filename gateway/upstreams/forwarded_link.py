"""The requests of a session to a proxy that forwards them, over as many connections as that needs.

For the session it is one connection. The proxy may ask for credentials at any request; the requests without
a response then go over a new connection.
"""

from __future__ import annotations

from typing import Any, final

from twisted.python.failure import Failure

from gateway.errors import BadResponse
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.connecting import Challenged, Refused
from gateway.protocols.proxy_client.forwarding import ForwardedRequests
from gateway.protocols.tunnel_client.interfaces import End
from gateway.upstreams.attempt import Settings
from gateway.upstreams.http_proxy import Passage, ProxyFailed
from gateway.upstreams.race import Stage
from gateway.upstreams.tunnel_link import Link, Session, TunnelLink


@final
class ForwardedLink:
    """As ``TunnelLink``, whose session it is itself. ``is_opening``: whether it carries the open."""

    def __init__(
        self,
        reactor: Any,
        session: Session,
        index: int,
        settings: Settings,
        host: str,
        passage: Passage,
        is_opening: bool,
    ) -> None:
        self._reactor = reactor
        self._session: Session | None = session
        self._settings = settings
        self._host = host
        self._passage = passage
        self._requests = ForwardedRequests(passage.proxy.authentication, Limits(), is_opening)
        self._is_reading = True
        self._is_connected = False
        self.index = index
        self.was_established = False
        self._link = self._new_link()

    # The session calls

    @property
    def stage(self) -> Stage:
        return self._link.stage

    @property
    def unsent(self) -> int:
        return self._link.unsent

    @property
    def unacknowledged(self) -> int:
        return self._link.unacknowledged

    @property
    def handle(self) -> Any:
        return self._link.handle

    def write(self, first: bytes, second: bytes) -> None:
        head = self._requests.head(first, second)
        # Otherwise, it is sent when there is a connection again.
        if self._is_connected:
            self._link.write(head, second)

    def stop_reading(self) -> None:
        self._is_reading = False
        self._link.stop_reading()

    def start_reading(self) -> None:
        self._is_reading = True
        self._link.start_reading()

    def close(self) -> None:
        self._session = None
        self._link.close()

    # The connection calls

    def link_connected(self, link: Link) -> None:
        self._is_connected = True
        if not self._is_reading:
            link.stop_reading()
        if self.was_established:
            for head, body in self._requests.again():
                link.write(head, body)
        elif self._session is not None:
            self.was_established = True
            self._session.link_connected(self)

    def link_received(self, link: Link, data: bytes) -> None:
        try:
            received = self._requests.receive(data)
        except BadResponse as error:
            self._fail(ProxyFailed(f"proxy {self._passage.proxy.name}: not HTTP: {error}"))
            return
        if received.data and self._session is not None:
            self._session.link_received(self, received.data)
        # The session may have closed this by now.
        if self._session is None:
            return
        match received.outcome:
            case Challenged():
                link.close()
                self._is_connected = False
                self._link = self._new_link()
            case Refused() as refused:
                self._fail(self._passage.refusal(refused))

    def link_lost(self, link: Link, end: End, reason: Failure) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.link_lost(self, end, reason)

    # Internal

    def _new_link(self) -> TunnelLink:
        return TunnelLink(self._reactor, self, self.index, self._settings, self._host)

    def _fail(self, error: ProxyFailed) -> None:
        self._link.close()
        self.link_lost(self._link, End.LOST, Failure(error))
