"""Access control of a session: what reaches the server, when reading stops, and how a session is denied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred

from gateway.protocols.access import ALLOWED, AccessRequest, Verdict, Visitor
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.handshake import HANDSHAKE_BYTES
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.tunnels.access_control import AccessControl
from tests.helpers.logged import logged

HANDSHAKE = b"\x03" + bytes(HANDSHAKE_BYTES - 1)
VISITOR = Visitor("n1", "192.0.2.1")
REFUSED = Verdict("not today")


class Session:
    """A session, and the judge of its requests, who gives ``verdict``."""

    def __init__(self, verdict: Verdict | Callable[[], Deferred[Verdict]] = ALLOWED) -> None:
        self.verdict = verdict
        self.passed = b""
        self.is_held = False
        self.denied: bytes | None = None
        self.later: list[Callable[[], None]] = []
        self.access = AccessControl(self, VISITOR, self, self.later.append)
        self._writer = ChunkWriter()
        self.send(HANDSHAKE)

    def judge(self, request: AccessRequest, visitor: Visitor) -> Verdict | Deferred[Verdict]:
        assert visitor is VISITOR
        return self.verdict() if callable(self.verdict) else self.verdict

    def pass_up(self, data: bytes) -> None:
        self.passed += data

    def hold_client(self, on: bool) -> None:
        self.is_held = on

    def deny(self, answer: bytes) -> None:
        assert self.denied is None
        self.denied = answer

    def send(self, data: bytes) -> None:
        self.passed += self.access.up(data, 0.0)

    def say(self, *values: amf0.Value) -> bytes:
        """Send a command. Returns its bytes."""
        data = self._writer.write(Message(MessageType.COMMAND, amf0.encode(*values)))
        self.send(data)
        return data

    def connect(self) -> bytes:
        return self.say("connect", 1, {"app": "live"})

    def turn(self) -> None:
        """The reactor's next iteration."""
        calls, self.later[:] = self.later[:], []
        for call in calls:
            call()


def test_what_is_allowed_at_once_passes_at_once() -> None:
    session = Session()
    data = session.connect() + session.say("publish", 2, None, "cam")
    assert session.passed == HANDSHAKE + data
    assert not session.is_held


def test_a_refused_client_is_denied_after_the_call_that_passes_its_bytes() -> None:
    session = Session(REFUSED)
    session.access.down(HANDSHAKE)
    session.connect()
    assert session.is_held
    assert session.denied is None
    session.send(b"more")
    session.turn()
    assert session.denied is not None
    assert b"not today" in session.denied
    assert session.passed == HANDSHAKE


def test_what_cannot_be_read_is_denied_without_an_answer() -> None:
    """And nothing passes any more, not even what could be read."""
    session = Session()
    session.say("play", 1, None, "before connect")
    session.connect()
    session.turn()
    assert session.denied == b""
    assert session.passed == HANDSHAKE


def test_a_session_that_ends_meanwhile_is_not_denied() -> None:
    session = Session(REFUSED)
    session.connect()
    session.access.end()
    session.turn()
    assert session.denied is None


class Slow(Session):
    """A session whose verdicts take time."""

    def __init__(self) -> None:
        self.verdicts: list[Deferred[Verdict]] = []
        super().__init__(self._ask)

    def _ask(self) -> Deferred[Verdict]:
        self.verdicts.append(Deferred())
        return self.verdicts[-1]


def test_bytes_wait_for_a_verdict_that_takes_time() -> None:
    session = Slow()
    connect = session.connect()
    more = session.say("createStream", 2, None)
    assert (session.is_held, session.access.is_waiting) == (True, True)
    session.verdicts[0].callback(ALLOWED)
    session.turn()
    assert session.passed == HANDSHAKE + connect + more
    assert (session.is_held, session.access.is_waiting) == (False, False)
    session.turn()
    assert session.denied is None


def test_a_client_is_held_until_the_last_of_its_requests_is_decided() -> None:
    session = Slow()
    connect = session.connect()
    publish = session.say("publish", 2, None, "cam")
    session.verdicts[0].callback(ALLOWED)
    session.turn()
    assert session.passed == HANDSHAKE + connect
    assert session.is_held
    session.verdicts[1].callback(ALLOWED)
    session.turn()
    assert session.passed == HANDSHAKE + connect + publish
    assert not session.is_held


def test_a_late_refusal_denies() -> None:
    session = Slow()
    session.connect()
    session.verdicts[0].callback(REFUSED)
    session.turn()
    session.turn()
    assert session.denied == b""


@pytest.mark.parametrize("ends_before", [True, False])
def test_the_end_of_a_session_cancels_its_verdict(ends_before: bool) -> None:
    session = Slow()
    session.connect()
    if not ends_before:
        session.verdicts[0].callback(ALLOWED)
    session.access.end()
    session.turn()
    assert session.passed == HANDSHAKE
    assert session.denied is None


def test_a_fault_of_the_judge_refuses() -> None:
    session = Slow()
    session.access.down(HANDSHAKE)
    session.connect()
    with logged() as lines:
        session.verdicts[0].errback(RuntimeError("a fault"))
        session.turn()
        session.turn()
    assert lines[0].startswith("critical: access could not be checked")
    assert session.denied is not None
    assert b"failed to check" in session.denied
    assert session.passed == HANDSHAKE


def test_the_log_line_of_a_refusal_has_only_the_beginning_of_long_names() -> None:
    session = Session(REFUSED)
    session.access.down(HANDSHAKE)
    with logged() as lines:
        session.say("connect", 1, {"app": "a" * 30_000})
    assert lines == [
        f"info: session n1 of 192.0.2.1 refused: connect {'a' * 128}/: not today",
    ]
