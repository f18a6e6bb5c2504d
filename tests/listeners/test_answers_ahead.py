"""Answers to the sends of a publishing FFmpeg, which leave when the body has begun to arrive."""

from __future__ import annotations

import pytest

from gateway.protocols.session import PUBLISHING_BYTES
from tests.listeners.conversation import Gateway
from tests.listeners.test_streamed_answers import HEADS, Player

BODY = bytes(range(256)) * 64


class Publisher(Player):
    """A client that has sent its first media."""

    def __init__(self, gateway: Gateway, program: str = "ffmpeg") -> None:
        super().__init__(gateway, program)
        self.send(bytes(PUBLISHING_BYTES))
        self.take()

    def begin(self, body: bytes = BODY) -> bytes:
        """A send's head and its first bytes arrive; the rest of the body."""
        target = b"/send/%b/%d" % (self.session_id, self.number)
        self.number += 1
        self.wire.arrive(HEADS[self.program] % (target, len(body)))
        assert self.take() == b"", "answered before a byte of the body"
        self.wire.arrive(body[:1000])
        return body[1000:]

    @property
    def up(self) -> bytes:
        return b"".join(self.upstream.received[2:])


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(Gateway())


def test_a_send_is_answered_when_its_body_has_begun(publisher: Publisher) -> None:
    rest = publisher.begin()
    assert publisher.take().endswith(b"\r\n\r\n\x01")
    publisher.wire.arrive(rest)
    assert publisher.take() == b""
    assert publisher.up == BODY


def test_the_next_send_may_follow_before_the_body_is_whole(publisher: Publisher) -> None:
    first, second = b"a" * 5000, b"b" * 5000
    rest = publisher.begin(first)
    assert publisher.take()
    target = b"/send/%b/%d" % (publisher.session_id, publisher.number)
    publisher.wire.arrive(rest + HEADS["ffmpeg"] % (target, len(second)) + second)
    publisher.gateway.turn()
    assert publisher.take().endswith(b"\r\n\r\n\x01")
    assert publisher.up == first + second


def test_what_the_upstream_said_rides_on_the_answer(publisher: Publisher) -> None:
    publisher.says(b"status")
    publisher.begin()
    assert publisher.take().endswith(b"\r\n\r\n\x01status")


def test_an_upstream_that_takes_no_more_is_waited_for(publisher: Publisher) -> None:
    session = publisher.gateway.sessions.find(publisher.session_id)
    session.upstream_full()
    publisher.begin()
    assert publisher.take() == b""


def test_only_a_client_that_gives_up_on_a_cut_is_answered_ahead() -> None:
    publisher = Publisher(Gateway(), "librtmp")
    rest = publisher.begin()
    assert publisher.take() == b""
    publisher.wire.arrive(rest)
    assert publisher.take().endswith(b"\r\n\r\n\x01")


def test_a_session_that_ends_meanwhile_leaves_no_second_answer(publisher: Publisher) -> None:
    rest = publisher.begin()
    assert publisher.take()
    publisher.upstream.closes()
    publisher.gateway.passes(publisher.gateway.limits.silent_session_s + 1)
    publisher.wire.arrive(rest)
    assert publisher.take() == b""


def test_a_body_that_is_cut_never_reaches_the_upstream(publisher: Publisher) -> None:
    publisher.begin()
    publisher.wire.lose()
    assert publisher.up == b""
