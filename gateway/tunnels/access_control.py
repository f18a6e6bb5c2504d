"""Access control of a session: passes the client's bytes to the gate, and the gate's requests to a judge.

A verdict can take time, as that of a callback does. Meanwhile the client's bytes are stored, and no more
are read. A refused client gets the gate's answer, and its session ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.errors import RTMPError
from gateway.protocols.access import AccessRequest, Verdict, Visitor
from gateway.protocols.rtmp.access_gate import AccessGate

_log = Logger()

_FAULT = Verdict("the gateway failed to check this")
# Of a name in a log line: as in the lines of sessions. Clients' names can have 64 KiB.
_SHOWN_CHARACTERS = 128


class Judge(Protocol):
    """Decides on requests."""

    def judge(self, request: AccessRequest, visitor: Visitor) -> Verdict | Deferred[Verdict]: ...


class Controlled(Protocol):
    """The session. Its methods may be called while the gate is not."""

    def pass_up(self, data: bytes) -> None:
        """Send the client's bytes to the server."""

    def hold_client(self, on: bool) -> None:
        """Stop reading from the client, or continue."""

    def deny(self, answer: bytes) -> None:
        """End the session, after ``answer`` has been sent to the client."""


@final
class AccessControl:
    """The access control of one session. ``later`` calls a function in the reactor's next iteration: a
    session must not end while it passes its client's bytes here.
    """

    __slots__ = (
        "_ended",
        "_gate",
        "_is_refused",
        "_judge",
        "_later",
        "_session",
        "_verdict",
        "_visitor",
        "is_waiting",
    )

    def __init__(
        self,
        session: Controlled,
        visitor: Visitor,
        judge: Judge,
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._session = session
        self._visitor = visitor
        self._judge = judge
        self._later = later
        self._gate = AccessGate()
        self._verdict: Deferred[Verdict] | None = None
        self._ended = self._is_refused = False
        # Whether a verdict, or the end of the session, is awaited.
        self.is_waiting = False

    def up(self, data: bytes, now: float) -> bytes:
        """Take bytes from the client. Returns those that are for the server now."""
        if self._is_refused:
            return b""
        try:
            return self._until_waiting(self._gate.up(data, now))
        except RTMPError as error:
            self._refuse_unreadable(error)
            return b""

    def down(self, data: bytes) -> None:
        """Take bytes from the server, which are sent to the client unchanged."""
        self._gate.down(data)

    def end(self) -> None:
        """The session has ended."""
        self._ended = True
        if self._verdict is not None:
            self._verdict.cancel()

    def _until_waiting(self, out: bytes) -> bytes:
        """Judge the gate's requests until one takes time or is refused. Returns ``out`` and their bytes."""
        while not self.is_waiting and (request := self._gate.request) is not None:
            verdict = self._judge.judge(request, self._visitor)
            if isinstance(verdict, Deferred):
                self._await(verdict, request)
            elif verdict.refusal:
                self._refuse(request, verdict)
            else:
                out += self._gate.allow(verdict.stream)
        return out

    def _await(self, verdict: Deferred[Verdict], request: AccessRequest) -> None:
        self._verdict = verdict
        self._hold()
        # Called at once if the verdict is there already.
        verdict.addErrback(self._fail).addCallback(
            lambda given: self._later(lambda: self._resume(request, given))
        )

    def _fail(self, failure: Failure) -> Verdict:
        if not failure.check(CancelledError):
            _log.failure("access could not be checked", failure)
        return _FAULT

    def _resume(self, request: AccessRequest, verdict: Verdict) -> None:
        if self._ended:
            return
        self._verdict = None
        self.is_waiting = False
        if verdict.refusal:
            self._refuse(request, verdict)
            return
        try:
            data = self._until_waiting(self._gate.allow(verdict.stream))
        except RTMPError as error:
            self._refuse_unreadable(error)
            return
        if data:
            self._session.pass_up(data)
        if not self.is_waiting:
            self._session.hold_client(False)

    def _refuse(self, request: AccessRequest, verdict: Verdict) -> None:
        _log.info(
            "session {alias} of {address} refused: {action} {application}/{stream}: {cause}",
            alias=self._visitor.alias,
            address=self._visitor.address or "a local client",
            action=request.action.value,
            application=request.application[:_SHOWN_CHARACTERS],
            stream=request.name[:_SHOWN_CHARACTERS],
            cause=verdict.refusal,
        )
        self._deny(self._gate.refuse(verdict.refusal))

    def _refuse_unreadable(self, error: RTMPError) -> None:
        _log.info(
            "session {alias} of {address} refused: it cannot be checked: {error}",
            alias=self._visitor.alias,
            address=self._visitor.address or "a local client",
            error=error,
        )
        self._deny(b"")

    def _deny(self, answer: bytes) -> None:
        self._is_refused = True
        self._hold()
        self._later(lambda: self._end_session(answer))

    def _end_session(self, answer: bytes) -> None:
        if not self._ended:
            self._session.deny(answer)

    def _hold(self) -> None:
        self.is_waiting = True
        self._session.hold_client(True)


# Creates the access control of a new session; None if nothing is checked.
Control = Callable[[Controlled, Visitor], AccessControl | None]


def uncontrolled(session: Controlled, visitor: Visitor) -> None:
    """Nothing is checked."""
