"""Handles one request of the admin server: calls the resource, and writes its response.

A streamed body waits while the client does not read, for a limited time. Between two pieces the reactor
runs, so a long response does not delay sessions. An exception ends one request; its traceback is logged,
and not sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final, final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString
from zope.interface import implementer

from gateway.admin.http.access_control import AccessControl
from gateway.admin.http.problems import BadParameter, Problem, TooManyAnswers
from gateway.admin.http.responses import COMMON_FIELDS, Response, problem_response
from gateway.admin.resources.endpoints import Call
from gateway.admin.time_slices import TimeSlices

_log = Logger()

# The same as for clients of tunnels that acknowledge nothing.
STALLED_S: Final = 15.0
# Fields that must not be repeated. A repeated Host is refused by the access control.
_SINGLE_FIELDS: Final = (b"Origin", b"Sec-Fetch-Site", b"Authorization")
_NO_BODY: Final = frozenset({204, 304})


@final
class Slots:
    """The limit on concurrent streamed responses."""

    def __init__(self, most: int) -> None:
        self._free = most

    def take(self) -> None:
        """The caller must call ``give_back``. Raises TooManyAnswers."""
        if not self._free:
            raise TooManyAnswers(
                "too many long answers are under way; try again soon", Retry_After="10"
            )
        self._free -= 1

    def give_back(self) -> None:
        self._free += 1


@final
@implementer(IPushProducer)
class RequestHandler:
    """``request`` is Twisted's. ``answer`` handles the calls that ``guard`` permits."""

    def __init__(
        self,
        request: Any,
        reactor: Any,
        guard: AccessControl,
        answer: Callable[[Call], Awaitable[Response]],
        time_slices: TimeSlices,
        slots: Slots,
    ) -> None:
        self._request = request
        self._reactor = reactor
        self._guard = guard
        self._answer = answer
        self._time_slices = time_slices
        self._slots = slots
        # Set while the client does not read; called when it does again.
        self._room: Deferred[None] | None = None
        self._work: Deferred[None] | None = None
        self._is_lost = False

    def begin(self) -> None:
        """The request is complete: handle it."""
        self._work = Deferred.fromCoroutine(self._serve())
        self._work.addErrback(self._fail)

    def lost(self) -> None:
        """The connection was lost."""
        self._is_lost = True
        if self._work is not None:
            self._work.cancel()

    # The connection calls

    def pauseProducing(self) -> None:
        if self._room is None:
            self._room = Deferred()

    def resumeProducing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.called:
            room.callback(None)

    def stopProducing(self) -> None:
        """Part of IPushProducer; ``lost`` does the work."""

    async def _serve(self) -> None:
        request = self._request
        try:
            answer = await self._ask()
            if not isinstance(answer.body, bytes) and request.method != b"HEAD":
                await self._stream(answer, answer.body)
                return
        except Problem as problem:
            answer = problem_response(problem)
        self._write_head(answer)
        if isinstance(answer.body, bytes):
            request.write(answer.body)
        request.finish()

    async def _stream(self, answer: Response, pieces: AsyncIterator[bytes]) -> None:
        """Write a streamed body. Raises TooManyAnswers before anything is written."""
        self._slots.take()
        try:
            self._write_head(answer)
            await self._write_pieces(pieces)
        finally:
            self._slots.give_back()
        self._request.finish()

    async def _ask(self) -> Response:
        request = self._request
        method = request.method.decode("latin-1")
        self._check_fields()
        self._guard.check(method, "https" if request.isSecure() else "http", self._field)
        path, _, query = request.uri.partition(b"?")
        accept = self._field("accept") or ""
        body = request.content.read()
        return await self._answer(Call(method, path.decode("latin-1"), query, body, accept))

    def _check_fields(self) -> None:
        """Raises BadParameter for repeated fields, of which a proxy could use another value."""
        for name in _SINGLE_FIELDS:
            if len(self._request.requestHeaders.getRawHeaders(name) or ()) > 1:
                raise BadParameter(f"{name.decode()} is there twice")

    def _field(self, name: str) -> str | None:
        values = self._request.requestHeaders.getRawHeaders(name.encode())
        if values is None or len(values) != 1:
            return None
        return str(values[0].decode("utf-8", "surrogateescape"))

    def _write_head(self, answer: Response) -> None:
        request = self._request
        request.setResponseCode(answer.status)
        request.setHeader("Date", datetimeToString())
        for name, value in {**COMMON_FIELDS, **answer.fields}.items():
            request.setHeader(name, value)
        if answer.content_type:
            request.setHeader("Content-Type", answer.content_type)
        if isinstance(answer.body, bytes) and answer.status not in _NO_BODY:
            request.setHeader("Content-Length", str(len(answer.body)))

    async def _write_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        request: Any = self._request
        closing: Any = aclosing(pieces)
        request.registerProducer(self, True)
        async with closing:
            async for piece in pieces:
                if piece:
                    request.write(piece)
                await self._taken()
                await self._time_slices.yield_to_reactor()
        request.unregisterProducer()

    async def _taken(self) -> None:
        """Wait until the write buffer has room. Raises TimeoutError."""
        if self._room is not None:
            await self._room.addTimeout(STALLED_S, self._reactor)

    def _fail(self, failure: Failure) -> None:
        if self._is_lost and failure.check(CancelledError):
            return
        if not failure.check(TimeoutError):
            _log.failure("An operator's request failed", failure)
        if self._is_lost:
            return
        if self._request.startedWriting:
            # The only way to show that the body is incomplete.
            self._request.transport.abortConnection()
            return
        self._write_head(Response(500))
        self._request.finish()
