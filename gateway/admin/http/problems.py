"""Errors in operators' requests, with their HTTP status.

The detail is returned to the client (RFC 9457). It never contains a credential, and quotes only short parts
of the request.
"""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class Problem(GatewayError):
    """The base class. ``fields``: header fields of the response."""

    status: ClassVar[int] = 500
    # Without a body, a client that guesses paths does not learn that this is a gateway.
    has_body: ClassVar[bool] = True

    def __init__(self, detail: str = "", **fields: str) -> None:
        super().__init__(detail)
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}


class BadParameter(Problem):
    """An invalid parameter or body."""

    status = 400


class Unauthorized(Problem):
    """A missing or wrong token."""

    status = 401


class ForeignOrigin(Problem):
    """A change requested by a page of another site."""

    status = 403


class UnknownResource(Problem):
    """An unknown path or session."""

    status = 404
    has_body = False


class WrongMethod(Problem):
    """The path does not support this method."""

    status = 405


class NotSupported(Problem):
    """The gateway cannot do this with the options that it was started with."""

    status = 409


class WrongHost(Problem):
    """The request was sent to another host name (RFC 9110, 15.5.20)."""

    status = 421


class CannotReload(Problem):
    """The configuration or a file that it names is invalid, and the old one stays in use."""

    status = 422


class TooManyAnswers(Problem):
    """The limit on streamed responses is reached."""

    status = 503


class TooManyEventStreams(Problem):
    """The limit on event streams is reached."""

    status = 503
