"""How RTMP's bytes travel: plainly on a connection, or in a tunnel's requests, one at a time.

Both have one call, ``exchange``: send bytes, and return those that arrive. On a plain connection it waits
for them, at most until ``end``; a tunnel posts them, or an idle if there are none, and returns the answer.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from attrs import frozen

from gateway.errors import BadResponse
from gateway.port_test.answers import kind_of_bytes
from gateway.port_test.connections import Connection, Path
from gateway.port_test.held_idles import HeldIdles
from gateway.port_test.observations import Kind, TrialFailed
from gateway.port_test.requests import AnswerBody, Requests, read_session_id
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.connecting import AUTHENTICATION_REQUIRED, MOST_ATTEMPTS
from gateway.protocols.proxy_client.forwarding import with_credentials
from gateway.protocols.responses import Response, ResponseReader

# A proxy answers so for a server that has not answered it in time.
_TIMED_OUT: Final = frozenset({408, 502, 503, 504})
_OK: Final = 200
# For the end of the session, after everything else.
_CLOSE_S: Final = 0.2


@frozen
class Arrival:
    """Received bytes. For the answer to an idle, when they came, in ms since the request."""

    data: bytes
    idle: bool = False
    first_byte_ms: float = 0.0
    last_byte_ms: float = 0.0


class Carrier(Protocol):
    """Carries one RTMP connection."""

    async def exchange(self, data: bytes, end: float) -> Arrival:
        """Raises TrialFailed. ``end`` is a time of the event loop."""

    async def close(self) -> None:
        """End the connection; the last call."""


class PlainCarrier:
    """RTMP and RTMPS."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def exchange(self, data: bytes, end: float) -> Arrival:
        if data:
            self._connection.write(data)
        try:
            async with asyncio.timeout_at(end):
                received = await self._connection.read()
        except TimeoutError:
            return Arrival(b"")
        if not received:
            raise TrialFailed(Kind.CLOSED)
        return Arrival(received)

    async def close(self) -> None:
        self._connection.abort()


class TunnelCarrier:
    """RTMPT and RTMPTS: a session whose commands are numbered from 0.

    A command whose connection is lost is repeated once, with its number, on a new connection.
    """

    def __init__(
        self, connection: Connection, path: Path, requests: Requests, idles: HeldIdles
    ) -> None:
        self._connection: Connection | None = connection
        self._path = path
        self._requests = requests
        self._idles = idles
        self._session_id = ""
        self._number = 0

    async def open(self) -> None:
        """Open the session. Raises TrialFailed."""
        body = (await self._answer_to(self._requests.open())).data
        session_id = read_session_id(body)
        if session_id is None:
            raise TrialFailed(Kind.NOT_A_TUNNEL)
        self._session_id = session_id

    async def exchange(self, data: bytes, end: float) -> Arrival:
        # An unfinished exchange could not be continued, so it is waited for beyond ``end``.
        number = self._number
        if data:
            request = self._requests.send(self._session_id, number, data)
        else:
            request = self._requests.idle(self._session_id, number)
        answer = await self._repeatable(request)
        self._number += 1
        # Without the interval byte.
        return Arrival(answer.data[1:], not data, answer.first_byte_ms, answer.last_byte_ms)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_S):
                if self._session_id and self._connection is not None:
                    await self._answer_to(self._requests.close(self._session_id, self._number))
        except (TrialFailed, TimeoutError):
            pass  # The server ends the session when no command comes.
        finally:
            self._drop()

    async def _repeatable(self, request: bytes) -> Arrival:
        began = _now()
        try:
            return await self._answer_to(request)
        except TrialFailed as failure:
            if failure.kind is Kind.CLOSED or failure.status in _TIMED_OUT:
                self._idles.lost((_now() - began) * 1000)
            if failure.kind is not Kind.CLOSED:
                raise
        return await self._answer_to(request)

    async def _answer_to(self, request: bytes) -> Arrival:
        """The body of the answer, which must be a 200."""
        authentication = self._path.authentication
        for _ in range(MOST_ATTEMPTS):
            generation = authentication.generation
            head, arrival = await self._exchanged(with_credentials(request, authentication))
            if head.status == _OK:
                return arrival
            is_asked = head.status == AUTHENTICATION_REQUIRED
            if not is_asked or not authentication.adopt(head.items, generation):
                break
        advice = authentication.explanation(head.items) if is_asked else ""
        raise TrialFailed(Kind.STATUS, advice, head.status)

    async def _exchanged(self, request: bytes) -> tuple[Response, Arrival]:
        """The head of the answer, and its body if it is a 200."""
        connection = await self._connected()
        answer = AnswerBody(ResponseReader(Limits(), to_head=False))
        began = _now()
        connection.write(request)
        try:
            first_byte = await _receive(connection, answer)
        except BaseException:
            self._drop()
            raise
        last_byte = _now()
        assert answer.head is not None
        if answer.refusal is not None:
            self._drop()
        elif not answer.reusable:
            self._idles.closed()
            self._drop()
        return answer.head, Arrival(
            answer.received, False, (first_byte - began) * 1000, (last_byte - began) * 1000
        )

    async def _connected(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = await self._path.open()
            except TrialFailed as failure:
                # Not a failure of the way's first connection, which had these steps behind it.
                raise TrialFailed(Kind.CLOSED, failure.kind.value) from None
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


async def _receive(connection: Connection, answer: AnswerBody) -> float:
    """Read until the answer is complete, or refuses. Returns the time of its first byte."""
    first = b""
    first_at = 0.0
    while not answer.ended and answer.refusal is None:
        data = await connection.read()
        if not first:
            first, first_at = data, _now()
        if not first:
            raise TrialFailed(Kind.CLOSED)
        try:
            answer.receive(data)
        except BadResponse as error:
            if not data:
                raise TrialFailed(Kind.CLOSED) from None
            kind = kind_of_bytes(first)
            raise TrialFailed(kind, str(error)) from None
    return first_at


def _now() -> float:
    return asyncio.get_running_loop().time()
