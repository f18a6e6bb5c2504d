"""What can be wrong with an operator's request: each condition knows its status.

A problem's text is shown to whoever asked, in a body as RFC 9457 has it. It never repeats a credential,
and what it repeats of the request is short and quoted.
"""

from __future__ import annotations

from typing import ClassVar

from gateway.errors import GatewayError


class Problem(GatewayError):
    """A request that is not answered with what it asked for. ``fields`` go into the answer's head."""

    status: ClassVar[int] = 500
    # An empty body tells nobody who only guesses at paths that there is a gateway here.
    has_body: ClassVar[bool] = True

    def __init__(self, detail: str = "", **fields: str) -> None:
        super().__init__(detail)
        self.fields = {name.replace("_", "-"): value for name, value in fields.items()}


class BadParameter(Problem):
    """A parameter or body that means nothing."""

    status = 400


class Unauthorized(Problem):
    """No token, or a wrong one."""

    status = 401


class ForeignOrigin(Problem):
    """A change that a page of another site asks for."""

    status = 403


class NothingHere(Problem):
    """No such path, or no such session."""

    status = 404
    has_body = False


class WrongMethod(Problem):
    """The path is known, and not for this."""

    status = 405


class NotOurs(Problem):
    """What is asked for is not the gateway's to do as it was started."""

    status = 409


class WrongHost(Problem):
    """The request was meant for another name (RFC 9110, 15.5.20)."""

    status = 421


class TooManyAnswers(Problem):
    """As many answers in pieces as there may be are under way."""

    status = 503


class TooManyEventStreams(Problem):
    """As many event streams as there may be are open."""

    status = 503
