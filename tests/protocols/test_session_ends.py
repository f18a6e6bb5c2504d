"""Every session ends once, for one reason, and without loss."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest

from gateway.errors import NotFound, UnknownSession
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from tests.helpers.session_recording import LONGEST_S, Conversation, Reply

SMALL = Limits(answer_bytes=4096)


@pytest.fixture
def talk() -> Conversation:
    """A session whose first send is answered."""
    talk = Conversation(SMALL)
    talk.send(0)
    return talk


# The upstream ends


def test_the_upstreams_last_data_is_delivered_and_then_every_command_is_refused(
    talk: Conversation,
) -> None:
    talk.say(b"last words")
    talk.upstream_ends()
    assert talk.ended is None
    assert talk.idle(1).body == b"\x01last words"
    assert talk.ended is EndReason.UPSTREAM_CLOSED
    refused = talk.idle(2)
    assert isinstance(refused.refusal, UnknownSession)
    assert refused.status == 404
    assert talk.send(3).status == 404


def test_last_data_longer_than_an_answer_is_delivered_whole(talk: Conversation) -> None:
    said = b"".join(b"%05d" % number for number in range(2000))
    talk.say(said)
    talk.upstream_ends()
    brought = b""
    for number in range(1, 10):
        answer = talk.idle(number)
        if answer.status != 200:
            break
        brought += (answer.body or b"")[1:]
    assert brought == said
    assert number == 4


def test_the_last_answer_is_repeated_after_the_end(talk: Conversation) -> None:
    talk.say(b"last words")
    talk.upstream_ends()
    talk.idle(1)
    assert talk.idle(1).body == b"\x01last words"
    assert talk.send(0).body == b"\x01"
    assert talk.idle(2).status == 404


def test_without_undelivered_data_the_session_ends_at_once_and_refuses_the_held_idle(
    talk: Conversation,
) -> None:
    held = talk.idle(1)
    talk.upstream_ends(EndReason.UPSTREAM_LOST)
    assert held.status == 404
    assert talk.ended is EndReason.UPSTREAM_LOST
    assert talk.upstream.ends == [EndReason.UPSTREAM_LOST]


def test_a_withheld_send_gets_the_last_data(talk: Conversation) -> None:
    talk.fill()
    kept = talk.send(1)
    talk.say(b"last words")
    talk.upstream_ends()
    assert kept.body == b"\x01last words"
    assert talk.ended is EndReason.UPSTREAM_CLOSED


def test_an_early_command_gets_the_last_data_in_its_turn(talk: Conversation) -> None:
    early = talk.idle(2)
    said = bytes(range(256)) * 20
    talk.say(said)
    talk.upstream_ends()
    first = talk.idle(1)
    assert (first.body or b"")[1:] + (early.body or b"")[1:] == said
    assert talk.ended is EndReason.UPSTREAM_CLOSED


def test_commands_after_the_last_data_get_404(talk: Conversation) -> None:
    behind = talk.idle(2)
    talk.say(b"last words")
    talk.upstream_ends()
    assert talk.idle(1).body == b"\x01last words"
    assert behind.status == 404


def test_a_command_whose_connection_was_lost_gets_the_last_data_when_it_is_repeated(
    talk: Conversation,
) -> None:
    talk.cut(talk.idle(1))
    talk.say(b"last words")
    talk.upstream_ends()
    assert talk.ended is None
    assert talk.idle(1).body == b"\x01last words"
    assert talk.ended is EndReason.UPSTREAM_CLOSED


def test_client_data_after_the_end_of_the_upstream_is_discarded(talk: Conversation) -> None:
    talk.say(b"last words")
    talk.upstream_ends()
    assert talk.send(1, b"late").body == b"\x01last words"
    assert talk.upstream.up == b"x"
    assert talk.session.bytes_up == 1


def test_a_session_whose_last_data_is_not_fetched_ends_with_the_upstreams_reason(
    talk: Conversation,
) -> None:
    talk.say(b"last words")
    talk.upstream_ends(EndReason.UPSTREAM_LOST)
    talk.later(talk.limits.silent_session_s)
    assert talk.ended is EndReason.UPSTREAM_LOST


def test_an_upstream_that_ends_while_paused_is_read_to_the_end() -> None:
    talk = Conversation(Limits(answer_bytes=4096, down_buffer_bytes=8192))
    talk.say(bytes(5000))
    assert talk.upstream.paused
    talk.upstream_ends()
    answers = [talk.send(number).body or b"" for number in range(2)]
    assert sum(len(answer) - 1 for answer in answers) == 5000
    assert talk.ended is EndReason.UPSTREAM_CLOSED


# The client closes


def test_a_close_is_answered_with_one_zero_byte_and_ends_the_session(talk: Conversation) -> None:
    assert talk.close(1).body == b"\x00"
    assert talk.upstream.ends == [EndReason.CLIENT_CLOSED]
    assert talk.idle(2).status == 404


def test_a_repeated_close_gets_the_same_answer(talk: Conversation) -> None:
    assert talk.close(1).body == talk.close(1).body == b"\x00"
    assert talk.upstream.ends == [EndReason.CLIENT_CLOSED]


def test_a_close_without_a_number_takes_effect_at_once_and_can_be_repeated(
    talk: Conversation,
) -> None:
    held = talk.idle(1)
    assert talk.close().body == talk.close().body == b"\x00"
    assert held.status == 404
    assert talk.upstream.ends == [EndReason.CLIENT_CLOSED]


def test_a_close_without_a_number_gets_404_if_the_upstream_ended_the_session(
    talk: Conversation,
) -> None:
    talk.upstream_ends()
    assert isinstance(talk.close().refusal, UnknownSession)


def test_a_close_may_be_the_first_command() -> None:
    talk = Conversation()
    assert talk.close(0).body == b"\x00"
    assert talk.ended is EndReason.CLIENT_CLOSED


def test_a_close_ends_the_hold_of_the_idle_before_it(talk: Conversation) -> None:
    held = talk.idle(1)
    talk.close(2)
    assert held.body == b"\x01"


def test_a_close_waits_for_data_sent_before_it(talk: Conversation) -> None:
    talk.fill()
    kept = talk.send(1, b"y")
    close = talk.close(2)
    assert close.waits
    talk.drain()
    assert kept.body == b"\x01"
    assert close.body == b"\x00"
    assert talk.ended is EndReason.CLIENT_CLOSED


# The clock


def test_a_session_without_any_command_ends_as_abandoned() -> None:
    talk = Conversation()
    talk.later(talk.limits.unused_session_s - 0.01)
    assert talk.ended is None
    talk.later(0.01)
    assert talk.ended is EndReason.ABANDONED


def test_a_session_without_commands_ends_after_the_silence_limit(talk: Conversation) -> None:
    talk.later(talk.limits.silent_session_s - 0.01)
    assert talk.ended is None
    talk.later(0.01)
    assert talk.ended is EndReason.CLIENT_SILENT


def test_upstream_data_does_not_restart_the_clients_timeout(talk: Conversation) -> None:
    for _ in range(30):
        talk.later(1.0)
        talk.say(b"words")
    assert talk.ended is EndReason.CLIENT_SILENT


def test_each_command_restarts_the_clients_timeout(talk: Conversation) -> None:
    for number in range(1, 10):
        talk.later(talk.limits.silent_session_s - 0.01)
        assert talk.send(number).status == 200


def _fresh(_: Conversation) -> None:
    return


def _ordinary(talk: Conversation) -> None:
    talk.send(0)


def _holding(talk: Conversation) -> None:
    talk.idle(0)


def _orphaned(talk: Conversation) -> None:
    talk.cut(talk.idle(0))


def _keeping(talk: Conversation) -> None:
    talk.fill()
    talk.send(0)


def _waiting(talk: Conversation) -> None:
    talk.send(0)
    talk.send(2)


def _waiting_behind_a_hold(talk: Conversation) -> None:
    talk.send(0)
    talk.send(3)
    talk.idle(1)


def _waiting_to_begin(talk: Conversation) -> None:
    talk.send(1)


def _ending(talk: Conversation) -> None:
    talk.send(0)
    talk.say(b"last words")
    talk.upstream_ends()


POSITIONS = [
    _fresh,
    _ordinary,
    _holding,
    _orphaned,
    _keeping,
    _waiting,
    _waiting_behind_a_hold,
    _waiting_to_begin,
    _ending,
]


@pytest.mark.parametrize("take", POSITIONS)
def test_every_state_has_a_deadline(take: Callable[[Conversation], None]) -> None:
    talk = Conversation()
    take(talk)
    talk.later(LONGEST_S)
    assert len(talk.upstream.ends) == 1


# The end


@pytest.mark.parametrize("take", POSITIONS)
@pytest.mark.parametrize("reason", [EndReason.DRAINED, EndReason.ENDED_BY_OPERATOR])
def test_a_session_that_is_ended_twice_keeps_the_first_reason_and_notifies_the_upstream_once(
    take: Callable[[Conversation], None], reason: EndReason
) -> None:
    talk = Conversation()
    take(talk)
    talk.session.end(reason, talk.now)
    talk.session.end(EndReason.FAULT, talk.now)
    talk.upstream_ends()
    talk.session.expire(talk.session.deadline)
    talk.session.upstream_drained(talk.now)
    talk.session.upstream_data(b"late", talk.now)
    talk.session.release(talk.now)
    assert talk.ended is reason
    assert talk.upstream.ends == [reason]
    assert talk.session.deadline == talk.now + talk.limits.silent_session_s


def test_all_pending_replies_get_404_when_the_session_ends(talk: Conversation) -> None:
    talk.fill()
    waiting = [talk.send(1), talk.send(1), talk.send(2), talk.idle(5)]
    talk.session.end(EndReason.DRAINED, talk.now)
    assert [reply.status for reply in waiting] == [404] * 4
    assert all(str(reply.refusal) == EndReason.DRAINED.value for reply in waiting)


def test_a_command_that_got_404_at_the_end_gets_404_when_it_is_repeated() -> None:
    """The slot for the stored answer still has the answer of ten commands before."""
    talk = Conversation(hold_s=0.25)
    for number in range(12):
        talk.say(b"%d" % number)
        talk.send(number)
    assert talk.idle(12).waits
    talk.upstream_ends()
    assert isinstance(talk.idle(12).refusal, NotFound)
    assert talk.send(11).body == b"\x0111"


def test_a_withheld_send_that_got_404_at_the_end_gets_404_when_it_is_repeated() -> None:
    talk = Conversation()
    for number in range(12):
        talk.say(b"%d" % number)
        talk.send(number)
    talk.fill()
    assert talk.send(12).waits
    talk.session.end(EndReason.DRAINED, talk.now)
    assert isinstance(talk.send(12).refusal, NotFound)


def test_an_idle_of_a_lost_connection_gets_404_if_it_is_repeated_after_the_end() -> None:
    talk = Conversation()
    for number in range(12):
        talk.say(b"%d" % number)
        talk.send(number)
    talk.cut(talk.idle(12))
    talk.later(talk.limits.silent_session_s)
    assert isinstance(talk.idle(12).refusal, NotFound)


def test_the_first_command_gets_404_if_the_session_has_already_ended() -> None:
    talk = Conversation()
    talk.upstream_ends()
    for number in (0, 1):
        for kind in (Kind.SEND, Kind.IDLE, Kind.CLOSE):
            assert isinstance(talk.command(kind, number, b"").refusal, UnknownSession)
    assert talk.upstream.written == []


class _WatchedBody(bytearray):
    """A body that can have weak references, unlike bytes."""


def test_the_end_of_a_session_frees_the_window() -> None:
    talk = Conversation()
    talk.send(0)
    watched = [_WatchedBody(b"early"), _WatchedBody(b"early too")]
    gone = [weakref.ref(body) for body in watched]
    for number, body in enumerate(watched, 2):
        talk.send(number, body)
    del watched, body
    assert all(watch() is not None for watch in gone)
    talk.session.end(EndReason.DRAINED, talk.now)
    gc.collect()
    assert [watch() for watch in gone] == [None, None]


def test_the_end_of_a_session_frees_unanswered_data_and_later_data_is_not_stored() -> None:
    talk = Conversation()
    before, after = _WatchedBody(10_000), _WatchedBody(10_000)
    gone = [weakref.ref(before), weakref.ref(after)]
    talk.say(before)
    talk.session.end(EndReason.DRAINED, talk.now)
    talk.say(after)
    del before, after
    gc.collect()
    assert [watch() for watch in gone] == [None, None]


def test_the_end_of_a_session_frees_the_replies(talk: Conversation) -> None:
    talk.fill()
    watch = weakref.ref(talk.send(1))
    gc.collect()
    assert isinstance(watch(), Reply)
    talk.session.end(EndReason.DRAINED, talk.now)
    gc.collect()
    assert watch() is None


# The counters


def test_a_session_counts_its_commands_repetitions_and_bytes(talk: Conversation) -> None:
    talk.say(b"12345")
    talk.send(1, b"abc")
    talk.send(1, b"abc")
    talk.idle(2, may_hold=False)
    talk.send(4, b"early")
    session = talk.session
    assert (session.commands, session.repeats) == (5, 1)
    assert (session.bytes_up, session.bytes_down) == (4, 5)
    talk.send(3, b"late")
    talk.close()
    assert (session.commands, session.repeats) == (7, 1)
    assert session.bytes_up == len(talk.upstream.up) == 13
