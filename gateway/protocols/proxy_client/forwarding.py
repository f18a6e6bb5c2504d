"""The requests of one connection to a proxy that forwards them, and its responses to them.

Requests get credentials. A response with status 407 is not passed on: if its challenge can be answered, all
requests without a response are sent again on a new connection, with other credentials. A proxy that answers
407 has not forwarded the request.

This module does not know the commands of a tunnel.
"""

from __future__ import annotations

from collections import deque
from typing import final

from attrs import frozen

from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import (
    AUTHENTICATION_REQUIRED,
    MOST_ATTEMPTS,
    Challenged,
    Refused,
    refusal_of,
)
from gateway.protocols.responses import Response
from gateway.protocols.tunnel_client.answers import AnswerReader

_OK = 200


def with_credentials(head: bytes, authentication: Authentication) -> bytes:
    """The head of a request, perhaps with its body, with the credentials that the proxy has asked for."""
    line, _, rest = head.partition(b"\r\n")
    method, target, _ = line.split(b" ", 2)
    return b"%b\r\n%b%b" % (line, authentication.field(method, target), rest)


@frozen
class Received:
    """``data``: responses as they were received. ``outcome``: what to do instead of reading on."""

    data: bytes
    outcome: Challenged | Refused | None = None


@final
class ForwardedRequests:
    """``Refused`` is the outcome of a 407 that cannot be answered.

    ``is_opening``: whether the first request opens the session. Then ``Refused`` is the outcome of any
    other refusal of it, too. Later refusals are passed on: the server may have sent them.
    """

    __slots__ = (
        "_attempts",
        "_authentication",
        "_is_opening",
        "_limits",
        "_reader",
        "_unanswered",
    )

    def __init__(self, authentication: Authentication, limits: Limits, is_opening: bool) -> None:
        self._authentication = authentication
        self._limits = limits
        self._is_opening = is_opening
        self._reader = AnswerReader(limits)
        # Heads without credentials, bodies, and the generation in which they were sent last.
        self._unanswered: deque[tuple[bytes, bytes, int]] = deque()
        self._attempts = 1

    def head(self, head: bytes, body: bytes) -> bytes:
        """The head of a request, with credentials. The caller sends it, and then ``body``."""
        self._unanswered.append((head, body, self._authentication.generation))
        return with_credentials(head, self._authentication)

    def again(self) -> list[tuple[bytes, bytes]]:
        """There is a new connection: heads and bodies to send on it."""
        unanswered, self._unanswered = self._unanswered, deque()
        self._reader = AnswerReader(self._limits)
        return [(self.head(head, body), body) for head, body, _ in unanswered]

    def receive(self, data: bytes) -> Received:
        """Received bytes. Raises BadResponse."""
        self._reader.receive(data)
        passed = b""
        while before := self._reader.buffer:
            outcome = self._read_on()
            if outcome is not None:
                return Received(passed, outcome)
            taken = len(before) - len(self._reader.buffer)
            if not taken:
                break
            passed += before[:taken]
        return Received(passed)

    def _read_on(self) -> Challenged | Refused | None:
        """Take bytes off the reader's buffer, if there are enough."""
        reader = self._reader
        if not self._unanswered:
            # Such as a 408 before the proxy closes a connection that was not used.
            reader.buffer = b""
            return None
        if reader.in_body:
            reader.next_piece()
        else:
            response = reader.next_head()
            outcome = self._outcome_of(response) if response else None
            if outcome is not None or response is None or response.interim:
                return outcome
        self._note_end()
        return None

    def _note_end(self) -> None:
        if not self._reader.in_body:
            self._unanswered.popleft()

    def _outcome_of(self, response: Response) -> Challenged | Refused | None:
        generation = self._unanswered[0][2]
        if response.status == AUTHENTICATION_REQUIRED:
            self._attempts += 1
            has_left = self._attempts <= MOST_ATTEMPTS
            if has_left and self._authentication.adopt(response.items, generation):
                return Challenged()
            return refusal_of(response, self._authentication)
        if response.interim:
            return None
        self._authentication.note_accepted(generation)
        self._attempts = 1
        was_opening, self._is_opening = self._is_opening, False
        if was_opening and response.status != _OK:
            return refusal_of(response, self._authentication)
        return None
