"""A CONNECT request (RFC 9110, 9.3.6), and the proxy's answer: bytes in, an outcome out.

    2xx                                    ``Connected``: the connection leads to the server
    407 with challenges that are answered  ``Challenged``: a new attempt, on a new connection, may succeed
    another status                         ``Refused``

The page of a refusal is not read: some proxies reset the connection after it.
"""

from __future__ import annotations

from typing import Final, final

from attrs import frozen

from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.responses import Response, ResponseReader

AUTHENTICATION_REQUIRED: Final = 407
# One for the challenge, and one for a nonce that has expired.
MOST_ATTEMPTS: Final = 3
_SHOWN_REASON: Final = 60


@frozen
class Connected:
    """``rest``: bytes behind the answer, which are the server's."""

    rest: bytes


@frozen
class Challenged:
    """The proxy wants other credentials, and they are known now."""


@frozen
class Refused:
    """``reason``: the phrase behind the status, made printable; ``advice`` may be empty."""

    status: int
    reason: str
    advice: str = ""

    def __str__(self) -> str:
        said = f"{self.status} {self.reason}".rstrip()
        return f"{said} ({self.advice})" if self.advice else said


Outcome = Connected | Challenged | Refused


@final
class Connecting:
    """One attempt. ``authority``: the server's host and port, as in a Host field."""

    __slots__ = ("_authentication", "_authority", "_generation", "_reader")

    def __init__(self, authority: str, authentication: Authentication, limits: Limits) -> None:
        self._authority = authority.encode("ascii")
        self._authentication = authentication
        self._generation = 0
        # As for the answer to HEAD: what follows is the connection's, or a page that is not read.
        self._reader = ResponseReader(limits, to_head=True)

    def request(self) -> bytes:
        """The bytes to send. Called once."""
        self._generation = self._authentication.generation
        return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (
            *(self._authority, self._authority),
            self._authentication.field(b"CONNECT", self._authority),
        )

    def receive(self, data: bytes) -> Outcome | None:
        """Received bytes. None until the answer's head is complete. Raises BadResponse."""
        self._reader.receive(data)
        while (response := self._reader.next_head()) is not None:
            if not response.interim:
                return self._outcome_of(response)
        return None

    def _outcome_of(self, response: Response) -> Outcome:
        authentication = self._authentication
        if 200 <= response.status < 300:
            authentication.note_accepted(self._generation)
            return Connected(self._reader.buffer)
        is_asked = response.status == AUTHENTICATION_REQUIRED
        if is_asked and authentication.adopt(response.items, self._generation):
            return Challenged()
        return refusal_of(response, authentication)


def refusal_of(response: Response, authentication: Authentication) -> Refused:
    """The refusal in a proxy's answer, with advice about credentials for a 407."""
    is_about_credentials = response.status == AUTHENTICATION_REQUIRED
    advice = authentication.explanation(response.items) if is_about_credentials else ""
    reason = response.reason.decode("ascii", "replace").replace("\ufffd", "?").replace("\t", " ")
    return Refused(response.status, reason.strip()[:_SHOWN_REASON], advice)
