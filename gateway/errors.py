"""The conditions this field knows, each with the answer it gets.

A client gets the status with an empty body, since Flash takes any body of an answer to open for a
session id; an operator gets the message. They are caught at two borders only: the request and the
connection.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """Anything the gateway refuses, or cannot do, for a cause outside itself."""


class ConfigurationError(GatewayError):
    """The operator's file or options: the message names file, key and cause, one line each."""


class RequestRefused(GatewayError):
    """A request that gets a status other than 200, and whether the connection can go on after it."""

    status: ClassVar[int] = 400
    closes: ClassVar[bool] = False


class BadRequest(RequestRefused):
    """Not HTTP as DESIGN.md reads it; what follows on the connection cannot be trusted."""

    status = 400
    closes = True


class HeadTooLarge(BadRequest):
    """Too many bytes or fields before the empty line."""

    status = 431


class BodyTooLarge(BadRequest):
    """A command's body over the limit; its end may never be seen."""

    status = 413


class ExpectationFailed(BadRequest):
    """An ``Expect`` other than ``100-continue``."""

    status = 417


class AddressDenied(RequestRefused):
    """The listener does not admit the address that a trusted proxy names as the client's."""

    status = 403


class NotFound(RequestRefused):
    """Nothing here answers to this target."""

    status = 404


class NothingTakesIt(NotFound):
    """As ``NotFound``, of a request whose body has yet to come: it is not read to its end."""

    closes = True


class UnknownSession(NotFound):
    """No such session, or none any more; FFmpeg and librtmp stop on this and on nothing softer."""


class ServiceUnavailable(RequestRefused):
    """No session can be opened now: the client should try its next way."""

    status = 503


class BodiesFull(RequestRefused):
    """All bodies that have not come whole yet are over their bound together."""

    status = 503
    closes = True


class UpstreamUnavailable(ServiceUnavailable):
    """No upstream server took the connection in time."""


class ResourcesExhausted(ServiceUnavailable):
    """This process or machine has no file descriptor, socket or local port left; no server is at fault.

    ``advice`` says what to change.
    """

    def __init__(self, cause: str, advice: str = "") -> None:
        super().__init__(cause)
        self.advice = advice


class CapacityReached(ServiceUnavailable):
    """A cap on sessions, in all or for one address, or the bound on all buffers is reached."""


class Draining(ServiceUnavailable):
    """No new sessions are taken: the operator wants it so, or the gateway is about to end."""


class OpeningFailed(ServiceUnavailable):
    """A fault of the gateway's own while a session was opened; the log has its traceback."""


class WebsiteUnavailable(RequestRefused):
    """The website's server does not take connections, or breaks off before its answer has begun."""

    status = 502


class BadAnswer(WebsiteUnavailable):
    """What the website's server says is not HTTP as RFC 9112 has it, or no answer to the request."""


class WebsiteTimedOut(RequestRefused):
    """The website's server takes too long to connect, to take the request, or to begin its answer."""

    status = 504


class RTMPError(GatewayError):
    """Bytes that are not RTMP as Adobe's specification and its clients have it, or past a bound.

    It ends the one connection that sent them; nothing after the bad byte can be trusted.
    """


class BadProxyHeader(GatewayError):
    """No PROXY protocol header where a trusted proxy owes one; it ends the connection, unanswered."""
