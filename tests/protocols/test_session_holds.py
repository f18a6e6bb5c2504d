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


# The beginning and the end of a hold


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


def test_an_idle_is_answered_at_once_if_more_bytes_follow_on_its_connection(
    talk: Conversation,
) -> None:
    assert talk.idle(1, may_hold=False).body == b"\x01"


def test_an_idle_is_not_held_if_the_hold_time_is_0() -> None:
    talk = Conversation(hold_s=0.0)
    assert talk.idle(0).body == b"\x01"


def test_a_held_idle_is_answered_when_the_hold_time_expires(talk: Conversation) -> None:
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


def test_more_bytes_on_the_idles_connection_end_its_hold(talk: Conversation) -> None:
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


def test_an_early_idle_is_not_held_while_other_commands_wait_behind_the_next_gap(
    talk: Conversation,
) -> None:
    early = talk.idle(2)
    behind = talk.send(4)
    talk.send(1)
    assert early.body == b"\x01"
    talk.later(talk.limits.gap_s)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert behind.status == 404


def test_an_early_idle_without_later_commands_is_held_after_the_gap_is_filled(
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


def test_a_repeated_held_idle_is_answered_on_both_connections(talk: Conversation) -> None:
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


def test_an_idle_repeated_after_its_connection_was_lost_gets_the_data_received_since(
    talk: Conversation,
) -> None:
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


def test_an_idle_repeated_after_its_connection_was_lost_is_held_for_the_whole_hold_time(
    talk: Conversation,
) -> None:
    talk.cut(talk.idle(1))
    talk.later(1.0)
    again = talk.idle(1)
    assert again.waits
    talk.later(0.24)
    assert again.waits
    talk.later(0.01)
    assert again.body == b"\x01"


def test_an_idle_can_be_repeated_after_a_second_lost_connection(talk: Conversation) -> None:
    talk.cut(talk.idle(1))
    talk.cut(talk.idle(1))
    talk.say(b"words")
    assert talk.idle(1).body == b"\x01words"


def test_an_idle_whose_connection_was_lost_stays_unanswered_until_the_client_is_silent(
    talk: Conversation,
) -> None:
    talk.cut(talk.idle(1))
    talk.later(talk.limits.silent_session_s - 0.01)
    assert talk.ended is None
    talk.later(0.01)
    assert talk.ended is EndReason.CLIENT_SILENT


def test_a_held_reply_is_not_affected_by_the_loss_of_another_connection(
    talk: Conversation,
) -> None:
    talk.cut(talk.idle(1))
    living = talk.idle(1)
    talk.cut(talk.send(0))
    talk.say(b"words")
    assert living.body == b"\x01words"


# The interval byte


def test_the_interval_byte_rises_one_step_after_ten_empty_answers_in_a_row() -> None:
    talk = Conversation(hold_s=0.0)
    intervals = b"".join(talk.idle(number).body or b"" for number in range(70))
    assert intervals == b"".join(
        bytes([interval]) * times
        for interval, times in zip((1, 3, 5, 9, 0x11, 0x21), (10, 10, 10, 10, 10, 20), strict=True)
    )


def test_an_answer_with_data_resets_the_interval_byte_to_01() -> None:
    talk = Conversation(hold_s=0.0)
    for number in range(25):
        talk.idle(number)
    talk.say(b"words")
    assert talk.idle(25).body == b"\x01words"
    intervals = b"".join(talk.idle(number).body or b"" for number in range(26, 37))
    assert intervals == b"\x01" * 10 + b"\x03"


def test_a_repeated_answer_does_not_count_towards_the_interval_byte() -> None:
    talk = Conversation(hold_s=0.0)
    for number in range(5):
        talk.idle(number)
    for _ in range(20):
        assert talk.idle(4).body == b"\x01"
    assert talk.idle(5).body == b"\x01"


def test_a_repeated_answer_keeps_its_interval_byte_after_a_reset() -> None:
    talk = Conversation(Limits(replay_answers=10), hold_s=0.0)
    for number in range(15):
        talk.idle(number)
    talk.say(b"words")
    talk.idle(15)
    assert talk.idle(14).body == b"\x03"
