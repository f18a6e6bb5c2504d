"""Held idles, the interval byte, and idles whose connection was lost (PROTOCOL.md, Held idle)."""

from __future__ import annotations

import pytest

from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from tests.helpers.session_recording import Conversation


@pytest.fixture
def talk() -> Conversation:
    """A session whose first send is answered; the next number is 1, the hold 250 ms."""
    talk = Conversation(hold_s=0.25)
    talk.send(0)
    return talk


# What holds, and what ends a hold


def test_an_idle_without_data_is_held_until_the_upstream_sends_some(talk: Conversation) -> None:
    held = talk.idle(1)
    assert held.waits
    talk.say(b"words")
    assert held.body == b"\x01words"
    talk.later(0.25)
    assert talk.send(2).body == b"\x01"


def test_an_idle_is_answered_at_once_when_there_is_data(talk: Conversation) -> None:
    talk.say(b"words")
    assert talk.idle(1).body == b"\x01words"


def test_an_idle_is_answered_at_once_when_more_has_come_behind_it(talk: Conversation) -> None:
    assert talk.idle(1, may_hold=False).body == b"\x01"


def test_no_idle_is_held_when_the_hold_is_0() -> None:
    talk = Conversation(hold_s=0.0)
    assert talk.idle(0).body == b"\x01"


def test_a_hold_ends_after_its_time(talk: Conversation) -> None:
    held = talk.idle(1)
    talk.later(0.24)
    assert held.waits
    talk.later(0.01)
    assert held.body == b"\x01"
    assert talk.ended is None


def test_a_send_is_never_held(talk: Conversation) -> None:
    assert talk.send(1, b"").body == b"\x01"


def test_the_next_command_ends_a_hold_and_gets_later_data(talk: Conversation) -> None:
    held = talk.idle(1)
    assert talk.send(2).body == b"\x01"
    assert held.body == b"\x01"


def test_the_next_idle_ends_a_hold_and_is_held_itself(talk: Conversation) -> None:
    first = talk.idle(1)
    second = talk.idle(2)
    assert first.body == b"\x01"
    assert second.waits
    talk.say(b"words")
    assert second.body == b"\x01words"


def test_an_early_command_ends_a_hold(talk: Conversation) -> None:
    held = talk.idle(1)
    assert talk.send(3).waits
    assert held.body == b"\x01"
    talk.later(talk.limits.gap_s)
    assert talk.ended is EndReason.SEQUENCE_GAP


def test_more_bytes_on_its_connection_end_a_hold(talk: Conversation) -> None:
    held = talk.idle(1)
    talk.session.release(talk.now)
    assert held.body == b"\x01"
    talk.session.release(talk.now)
    talk.say(b"words")
    assert talk.idle(2).body == b"\x01words"


def test_an_idle_is_not_held_while_other_commands_wait_behind_a_gap(talk: Conversation) -> None:
    early = talk.send(3)
    assert talk.idle(1).body == b"\x01"
    talk.later(talk.limits.gap_s)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert early.status == 404


def test_an_early_idle_is_not_held_while_others_wait_behind_the_next_gap(
    talk: Conversation,
) -> None:
    early = talk.idle(2)
    behind = talk.send(4)
    talk.send(1)
    assert early.body == b"\x01"
    talk.later(talk.limits.gap_s)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert behind.status == 404


def test_an_early_idle_with_no_command_behind_it_is_held_in_its_turn(
    talk: Conversation,
) -> None:
    early = talk.idle(2)
    talk.send(1)
    assert early.waits
    talk.later(0.25)
    assert early.body == b"\x01"


def test_a_held_idle_does_not_count_as_a_silent_client(talk: Conversation) -> None:
    for number in range(1, 400):
        held = talk.idle(number)
        talk.later(0.25)
        assert held.status == 200
    assert talk.ended is None


# A held idle that is repeated, or whose connection dies


def test_a_held_idle_repeated_is_answered_on_both_connections(talk: Conversation) -> None:
    first = talk.idle(1)
    again = talk.idle(1)
    assert first.body == again.body == b"\x01"


def test_no_data_is_used_for_an_idle_whose_connection_was_lost(talk: Conversation) -> None:
    held = talk.idle(1)
    talk.cut(held)
    talk.say(b"words")
    assert held.waits
    assert talk.send(2).body == b"\x01words"
    assert talk.idle(1).body == b"\x01"


def test_the_repetition_of_an_orphan_gets_the_data_that_came_meanwhile(talk: Conversation) -> None:
    talk.cut(talk.idle(1))
    talk.say(b"words")
    assert talk.idle(1).body == b"\x01words"
    assert talk.idle(1).body == b"\x01words"
    assert talk.send(2).body == b"\x01"


def test_a_repeated_idle_restarts_the_clients_timeout(talk: Conversation) -> None:
    talk.cut(talk.idle(1))
    talk.later(talk.limits.silent_session_s - 1)
    talk.say(b"words")
    talk.idle(1)
    talk.later(talk.limits.silent_session_s - 1)
    assert talk.ended is None


def test_the_repetition_of_an_orphan_is_held_anew(talk: Conversation) -> None:
    talk.cut(talk.idle(1))
    talk.later(1.0)
    again = talk.idle(1)
    assert again.waits
    talk.later(0.24)
    assert again.waits
    talk.later(0.01)
    assert again.body == b"\x01"


def test_the_repetition_of_an_orphan_can_die_as_well(talk: Conversation) -> None:
    talk.cut(talk.idle(1))
    talk.cut(talk.idle(1))
    talk.say(b"words")
    assert talk.idle(1).body == b"\x01words"


def test_an_orphan_is_not_answered_by_its_hold_but_ends_as_silence(talk: Conversation) -> None:
    talk.cut(talk.idle(1))
    talk.later(talk.limits.silent_session_s - 0.01)
    assert talk.ended is None
    talk.later(0.01)
    assert talk.ended is EndReason.CLIENT_SILENT


def test_the_hold_of_one_reply_outlives_the_death_of_another_connection(
    talk: Conversation,
) -> None:
    talk.cut(talk.idle(1))
    living = talk.idle(1)
    talk.cut(talk.send(0))
    talk.say(b"words")
    assert living.body == b"\x01words"


# The interval byte


def test_the_interval_goes_one_step_up_after_ten_empty_answers_in_a_row() -> None:
    talk = Conversation(hold_s=0.0)
    intervals = b"".join(talk.idle(number).body or b"" for number in range(70))
    assert intervals == b"".join(
        bytes([interval]) * times
        for interval, times in zip((1, 3, 5, 9, 0x11, 0x21), (10, 10, 10, 10, 10, 20), strict=True)
    )


def test_the_interval_is_back_at_01_with_data_and_the_steps_begin_anew() -> None:
    talk = Conversation(hold_s=0.0)
    for number in range(25):
        talk.idle(number)
    talk.say(b"words")
    assert talk.idle(25).body == b"\x01words"
    intervals = b"".join(talk.idle(number).body or b"" for number in range(26, 37))
    assert intervals == b"\x01" * 10 + b"\x03"


def test_a_repetition_is_no_step_of_the_interval() -> None:
    talk = Conversation(hold_s=0.0)
    for number in range(5):
        talk.idle(number)
    for _ in range(20):
        assert talk.idle(4).body == b"\x01"
    assert talk.idle(5).body == b"\x01"


def test_an_answer_repeated_from_a_higher_step_is_the_same_byte() -> None:
    talk = Conversation(Limits(replay_answers=10), hold_s=0.0)
    for number in range(15):
        talk.idle(number)
    talk.say(b"words")
    talk.idle(15)
    assert talk.idle(14).body == b"\x03"
