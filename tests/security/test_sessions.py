"""Limits on a client's sessions, counted in bytes and pending replies."""

from __future__ import annotations

from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from tests.helpers.session_recording import Conversation, Reply

MIB = 1024 * 1024


def test_the_pending_replies_of_one_number_are_limited_and_the_oldest_is_refused() -> None:
    talk = Conversation()
    talk.send(0)
    replies = [talk.idle(5) for _ in range(2000)]
    waiting = [reply for reply in replies if reply.waits]
    assert len(waiting) <= 64
    assert waiting == replies[-len(waiting) :]
    assert all(reply.status == 404 for reply in replies[: -len(waiting)])


def test_the_removal_of_pending_replies_examines_no_more_than_the_limit() -> None:
    class Counted(Reply):
        looked = 0

        def __eq__(self, other: object) -> bool:
            Counted.looked += 1
            return self is other

        __hash__ = Reply.__hash__

    talk = Conversation()
    talk.send(0)
    for _ in range(1000):
        assert talk.session.receive(Kind.IDLE, 5, b"", talk.now) is None
        talk.session.wait(5, Counted(), talk.now)
    assert len(talk.session._waiters) <= 64


def test_early_commands_are_limited_by_the_sessions_share_of_all_buffers() -> None:
    talk = Conversation(Limits(window_commands=1000))
    talk.send(0)
    talk.session.share(256 * 1024)
    number = 2
    while talk.ended is None:
        talk.send(number, bytes(32_000))
        number += 1
        assert talk.session.buffered_bytes <= 128 * 1024
    assert talk.ended is EndReason.WINDOW_FULL


def test_an_ended_session_keeps_only_its_answers_for_repetition() -> None:
    """The stored answers of all ended sessions together are limited (test_table)."""
    for end in ("close", "drain"):
        talk = Conversation()
        for number in range(8):
            talk.say(bytes(30_000))
            talk.send(number)
        talk.say(bytes(30_000))
        if end == "close":
            talk.close()
        else:
            talk.session.end(EndReason.DRAINED, talk.now)
        assert 200_000 < talk.session.buffered_bytes <= talk.limits.replay_bytes
        assert talk.send(5).status == 200
