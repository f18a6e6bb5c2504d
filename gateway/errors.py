"""Exceptions of the gateway, and the HTTP status of each error that refuses a request.

The client gets the status with an empty body, because Flash takes any body of an answer to open for a
session id. The message is for the operator. These errors are caught in two places only: per request and per
connection.
"""

from __future__ import annotations

from typing import ClassVar


class GatewayError(Exception):
    """Base class: the gateway refuses or cannot do something for a cause outside itself."""


class ConfigurationError(GatewayError):
    """Invalid configuration. The message has one line for each problem, with file, key and cause."""


class RequestRefused(GatewayError):
    """A request is answered with ``status``; ``closes``: whether the connection is closed after it."""

    status: ClassVar[int] = 400
    closes: ClassVar[bool] = False


class BadRequest(RequestRefused):
    """Malformed HTTP. The connection is closed, since the start of the next request is unknown."""

    status = 400
    closes = True


class HeadTooLarge(BadRequest):
    """The request's head has too many bytes or fields."""

    status = 431


class BodyTooLarge(BadRequest):
    """The body of a command is over the limit, and is not read to its end."""

    status = 413


class ExpectationFailed(BadRequest):
    """An ``Expect`` other than ``100-continue``."""

    status = 417


class AddressDenied(RequestRefused):
    """The listener's allow and deny exclude the client address that a trusted proxy has reported."""

    status = 403


class ForeignOrigin(RequestRefused):
    """A web page of another site has sent a request of the port test."""

    status = 403


class MethodNotAllowed(RequestRefused):
    """The resource has no such method."""

    status = 405


class RateExceeded(RequestRefused):
    """A client, or all of them, use the port test more often than its limits allow."""

    status = 429


class NotFound(RequestRefused):
    """No resource has this target."""

    status = 404


class NotFoundBeforeBody(NotFound):
    """As ``NotFound``, for a request whose body has not been received and is not read."""

    closes = True


class UnknownSession(NotFound):
    """The session does not exist or has expired. FFmpeg and librtmp stop polling only on this status."""


class ServiceUnavailable(RequestRefused):
    """No session can be opened now. Clients then try their next protocol or port."""

    status = 503


class BodyLimitReached(RequestRefused):
    """The limit on the incomplete bodies of all connections is reached."""

    status = 503
    closes = True


class UpstreamUnavailable(ServiceUnavailable):
    """No upstream server accepted the connection in time."""


class UpstreamFull(ServiceUnavailable):
    """All servers have as many sessions as they may, and none has ended in time."""


class ResourcesExhausted(ServiceUnavailable):
    """File descriptors, memory for sockets or local ports are used up (descriptors.py).

    ``advice`` says what the operator can change.
    """

    def __init__(self, cause: str, advice: str = "") -> None:
        super().__init__(cause)
        self.advice = advice


class CapacityReached(ServiceUnavailable):
    """A limit on sessions (in total or for one address), or the limit on all buffers, is reached."""


class Draining(ServiceUnavailable):
    """No new sessions are accepted: the operator has drained the gateway, or it is stopping."""


class OpeningFailed(ServiceUnavailable):
    """An internal error while a session was opened. The log has the traceback."""


class WebsiteUnavailable(RequestRefused):
    """The website's server refuses connections, or closes one before its response has begun."""

    status = 502


class BadResponse(WebsiteUnavailable):
    """The website's response violates RFC 9112, or does not match the request."""


class WebsiteTimedOut(RequestRefused):
    """The website's server timed out: connecting, receiving the request, or beginning its response."""

    status = 504


class RTMPError(GatewayError):
    """Malformed RTMP, or RTMP over a limit. The connection that sent it is closed."""


class BadProxyHeader(GatewayError):
    """A required PROXY protocol header is missing or malformed. The connection is closed."""
