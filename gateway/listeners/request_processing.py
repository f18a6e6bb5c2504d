"""The requests of an HTTP connection: tunnel commands are executed, the gateway's own resources served, and
all others forwarded to the website.

Requests are processed one at a time. Behind a pending response, later requests are still processed, up to
a limit, because the missing command of a session may be among them. A request for the website, if one is
configured, is forwarded after all earlier responses have been written; it answers for the connection until
it has finished. So does a request of the port test, if that is enabled. A body that no session would accept
is refused before it is received.

This module does not interpret the RTMP bytes of a session, and never ends one.
"""

from __future__ import annotations

from twisted.logger import Logger

from gateway.errors import (
    AddressDenied,
    BodyLimitReached,
    BodyTooLarge,
    NotFound,
    NotFoundBeforeBody,
    RequestRefused,
    UnknownSession,
)
from gateway.listeners.closed_transport import ClosedTransport
from gateway.listeners.http_service import BytesHandler, HTTPService, Website
from gateway.listeners.ordered_responses import OrderedResponses
from gateway.listeners.own_resources import Resource
from gateway.listeners.response_heads import CLOSES, CONTINUE, response_heads
from gateway.logs import debugging
from gateway.protocols.client_address import Proxies
from gateway.protocols.clients import options_field
from gateway.protocols.commands import Command, Kind, command_of
from gateway.protocols.forwarding import Request
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.ingress import Ingress, shared_ingress
from gateway.tunnels.ids import PREFIX_BYTES

_log = Logger()

# Looking a member up in its Enum costs as much as a call.
_IDENT, _OPEN = Kind.IDENT, Kind.OPEN
_OF_NO_SESSION = frozenset((_IDENT, _OPEN))
# Bodies up to this size are received before the session is looked up.
_SMALL_BYTES = 1024


class RequestProcessing(OrderedResponses):
    """The base of ``HTTPConnection`` that processes requests.

    ``address``: the client's address, or "". ``secure``: whether the connection is TLS. ``listener``: the
    listener's address as configured. ``proxies`` is set if ``address`` is a trusted proxy's, whose requests
    name their clients.
    """

    __slots__ = (
        "_command",
        "_fields",
        "_handler",
        "_listener",
        "_phase_deadline",
        "_proxies",
        "_reader",
        "_resource",
        "_secure",
        "_seen",
        "_serial",
        "_waiting_bytes",
        "address",
    )

    def __init__(
        self,
        service: HTTPService,
        address: str,
        secure: bool = False,
        listener: str = "",
        proxies: Proxies | None = None,
    ) -> None:
        super().__init__(service)
        self.address = address
        self._secure = secure
        self._listener = listener
        self._proxies = proxies
        # Identifies this connection, for sessions whose client changes connections.
        self._serial = next(service.serials)
        # The id of the session whose command came last.
        self._seen = b""
        self._reader = RequestReader(service.limits)
        # The request whose head was read last: its fields, until it is processed; its command; and if it
        # has none, the gateway's own resource that it is for.
        self._fields: Fields | None = None
        self._command: Command | None = None
        self._resource: Resource | None = None
        # When the head or body that is being received must be complete; 0 if there is none.
        self._phase_deadline = 0.0
        # This connection's part of the service's ``waiting_bytes``.
        self._waiting_bytes = 0
        # Receives the connection's bytes while a website request or an upgrade uses it.
        self._handler: BytesHandler | None = None

    def _process_waiting_requests(self) -> None:
        if self._reader.buffer or self._fields is not None:
            # Later, because this is called by a session, which must not be called back.
            self._service.later(self._proceed_later)

    def _proceed_later(self) -> None:
        if self._handler is None and not self.is_full and not self._last:
            self._transport.startReading()
            self._proceed(self._service.clock())

    def _proceed(self, now: float) -> None:
        try:
            while (
                (self._reader.buffer or self._fields is not None)
                and (self._streaming or not self.is_full)
                and not self._last
                and not (self._pending and self._is_blocked())
                and self._take_request(now)
            ):
                pass
        except RequestRefused as error:
            self._last = True
            if debugging.enabled:
                _debug(self.address, error, None)
            # Without fields, the request's own heads are not known.
            self._respond(
                (CLOSES if self._fields is None else self._answers.closing).refusal(error)
            )
        except Exception:
            _log.failure("A request failed; its connection is closed")
            self._last = True
            self._transport.abortConnection()

    def _take_request(self, now: float) -> bool:
        """Process the next request. Returns False if it is incomplete."""
        fields = self._fields
        if fields is None:
            fields = self._reader.next_head()
            if fields is None:
                self._await_head(now)
                return False
            self._fields = fields
            self._phase_deadline = 0.0
            self._command = command_of(self._reader.method, self._reader.target)
            self._answers = self._service.heads_of(fields)
            if self._command is None:
                # What allows other origins is for commands.
                self._answers = response_heads(fields)
                self._resource = self._service.own.find(self._reader.method, self._reader.target)
        if self._command is None and (website := self._website()) is not None:
            if not self._pending and not isinstance(self._transport, ClosedTransport):
                self._forward(website, fields)
            return False
        body = self._reader.whole_body()
        if body is None:
            self._await_body(fields, now)
            return False
        if self._waiting_bytes:
            self._count_waiting(0)
        self._fields = None
        self._phase_deadline = 0.0
        # Longer than any answer can take (hold, gap, stalled upstream), so it need not be set again
        # when the answer leaves.
        self.deadline = now + self._service.limits.keep_alive_s
        self._last = self._answers.closes
        try:
            self._serve(fields, body, now)
        except RequestRefused as error:
            if error.closes:
                raise
            if debugging.enabled:
                _debug(self.address, error, self._command)
            self._respond(self._answers.refusal(error))
        # Between requests, thousands of connections would keep their last one's.
        self._command = None
        return True

    def _must_wait(self) -> bool:
        """Whether the next request can only be processed after a pending response."""
        if self._is_blocked():
            return True
        is_known = self._fields is not None and self._command is None
        return is_known and self._website() is not None

    # Incomplete requests

    def _await_head(self, now: float) -> None:
        self._reader.skip_line_end()
        if self._reader.buffer and not self._phase_deadline:
            self._phase_deadline = self.deadline = now + self._service.limits.head_s

    def _await_body(self, fields: Fields, now: float) -> None:
        held_bytes = self._reader.held_bytes
        if held_bytes:
            self._count_waiting(held_bytes)
        if self._phase_deadline:
            return
        if fields.chunked or fields.content_length > _SMALL_BYTES:
            self._expect_body(fields)
        self._phase_deadline = self.deadline = now + self._service.limits.body_s
        if self._reader.body_begun:
            return
        if fields.expects_continue:
            self._respond(CONTINUE)
        else:
            # FFmpeg sends head and body in two segments, and its kernel the second one only when the
            # first is acknowledged: without this each of its requests takes 40 ms more.
            self._transport.acknowledge_now()

    def _expect_body(self, fields: Fields) -> None:
        """Refuse a body that no session would accept, and close the connection, before it is received."""
        if self._command is None:
            raise NotFoundBeforeBody("no tunnel command")
        kind, session_id, _ = self._command
        if kind in _OF_NO_SESSION:
            if not fields.chunked:
                raise BodyTooLarge("clients send one byte here, or none")
            return
        try:
            self._service.tunnels.find(session_id)
        except UnknownSession as error:
            raise NotFoundBeforeBody(str(error)) from None

    def _count_waiting(self, held_bytes: int) -> None:
        """Account for the bytes of this connection's incomplete request body."""
        service = self._service
        service.waiting_bytes += held_bytes - self._waiting_bytes
        self._waiting_bytes = held_bytes
        if held_bytes and service.waiting_bytes > service.bodies_bytes:
            raise BodyLimitReached("the bound on all bodies is reached")

    # Tunnel commands

    def _serve(self, fields: Fields, body: bytes, now: float) -> None:
        if self._command is None:
            if self._resource is None:
                raise NotFound("no tunnel command")
            self._respond(self._resource.response(self._reader.method, fields, self._answers))
            return
        kind, session_id, number = self._command
        if kind is _IDENT:
            resource = self._service.own.ident()
            self._respond(resource.response(self._reader.method, fields, self._answers))
            return
        if kind is _OPEN:
            self._open(fields)
            return
        session = self._service.tunnels.find(session_id)
        if session_id != self._seen:
            session.carried_by(self._transport, fields.value(b"via"), bool(self._seen))
            self._seen = session_id
        if number is None:
            answer = session.close(now)
        else:
            if self._reader.buffer:
                self._reader.skip_line_end()
            may_hold = not self._reader.buffer
            answer = session.receive(kind, number, body, now, may_hold, self._serial)
        if answer is not None:
            if len(answer) == 1 and not self._pending and not self._last:
                # The same as ``_answer``, without its calls: nine of ten polls end here.
                self._transport.write(self._answers.one_byte[answer[0]])
            else:
                self._answer(answer)
        else:
            response = self._later_response()
            response.session = session
            response.blocks = session.is_keeping
            session.wait(number or 0, response, now)

    def _open(self, fields: Fields) -> None:
        response = self._later_response()
        response.field = options_field(fields, self._service.limits, self._service.tunnels.hold_s)
        response.field += self._service.cookie_line(self._secure)
        try:
            response.opening = self._service.tunnels.open(
                self._client_of(fields), fields, response, self._ingress()
            )
        except RequestRefused as error:
            response.refuse(error)

    def _client_of(self, fields: Fields) -> str:
        """The address of the client that has sent a request. Raises AddressDenied."""
        if self._proxies is None:
            return self.address
        return self._proxies.client_of(fields.items, self.address)

    def _ingress(self) -> Ingress:
        if not self._secure:
            return shared_ingress("rtmpt", self._listener)
        server_name = getattr(self._transport, "server_name", "")
        return shared_ingress("rtmpts", self._listener, server_name)

    # Requests for the website, and of the port test

    def _website(self) -> Website | None:
        """What handles the request, which is not a tunnel command; None if nothing does, or an own resource
        does.
        """
        if self._resource is not None:
            return None
        test = self._service.port_test
        if test is not None and test.serves(self._reader.target):
            return test
        return self._service.website

    def _forward(self, website: Website, fields: Fields) -> None:
        self._fields = None
        self._phase_deadline = 0.0
        is_trusted = self._proxies is not None
        try:
            client = self._client_of(fields)
        except AddressDenied as error:
            self.forwarded(error, self._reader.in_body)
            return
        request = Request(
            *(self._reader.method, self._reader.target, fields, self.address, self._secure),
            *(is_trusted, client),
        )
        forwarding = website.forward(self, self._reader, self._transport, request)
        self._handler = forwarding
        forwarding.start()

    def forwarded(self, error: RequestRefused | None, closes: bool) -> None:
        """The forwarding has finished: the website's response was written, or ``error`` is the response."""
        self._handler = None
        self._last = closes or self._answers.closes
        self.deadline = self._service.clock() + self._service.limits.keep_alive_s
        if error is not None:
            self._transport.write((CLOSES if self._last else self._answers).refusal(error))
        if self._last:
            self._close()
        elif self.is_full:
            self._await_room()
        else:
            self._service.later(self._proceed_later)

    def upgraded(self, relay: BytesHandler) -> None:
        """The connection was upgraded: ``relay`` handles its bytes until its end."""
        self._handler = relay


def _debug(address: str, error: RequestRefused, command: Command | None) -> None:
    """Log a refused request, with the non-secret prefix of the session id."""
    of = ""
    if command is not None and command[1]:
        kind, session_id, number = command
        prefix = session_id[:PREFIX_BYTES].decode("latin-1")
        of = f": {kind.value} of a session {prefix}..., number {number}"
    _log.debug(
        "request from {address} refused with {status}, {cause}{log_of}",
        address=address or "a local client",
        status=error.status,
        cause=str(error) or type(error).__name__,
        log_of=of,
    )
