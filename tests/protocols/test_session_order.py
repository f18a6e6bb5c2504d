"""Commands take effect in the order of their numbers, each once (DESIGN.md, Rules of a session)."""

from __future__ import annotations

from itertools import permutations

import pytest

from gateway.errors import BadRequest, NotFound
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from tests.helpers.session_recording import Conversation

HANDSHAKE = b"\x03handshake"


# The first number


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_command_has_number_0_or_1(first: int) -> None:
    talk = Conversation()
    assert talk.send(first, HANDSHAKE).body == b"\x01"
    assert talk.send(first + 1, b"more").body == b"\x01"
    assert talk.upstream.up == HANDSHAKE + b"more"


@pytest.mark.parametrize("version", [b"\x03", b"\x06", b"\x08", b"\x09"])
def test_a_send_1_with_a_handshake_begins_the_session(version: bytes) -> None:
    talk = Conversation()
    assert talk.send(1, version + b"rest").body == b"\x01"
    assert talk.upstream.up == version + b"rest"


def test_a_send_1_without_a_handshake_waits_for_command_0() -> None:
    talk = Conversation()
    one = talk.send(1, b"\xc3second")
    assert one.waits
    assert talk.upstream.up == b""
    assert talk.send(0, HANDSHAKE).body == b"\x01"
    assert one.body == b"\x01"
    assert talk.upstream.up == HANDSHAKE + b"\xc3second"


def test_an_idle_1_may_begin_the_session_and_a_late_send_0_is_still_sent_upstream() -> None:
    talk = Conversation()
    held = talk.idle(1)
    assert held.waits
    assert talk.send(0, HANDSHAKE).body == b"\x01"
    assert talk.upstream.up == HANDSHAKE
    assert talk.send(0, HANDSHAKE).body == b"\x01"
    assert talk.upstream.up == HANDSHAKE


def test_the_answer_to_a_late_command_0_carries_no_data() -> None:
    talk = Conversation()
    talk.idle(1, may_hold=False)
    talk.say(b"words")
    assert talk.idle(0).body == b"\x01"
    assert talk.idle(2).body == b"\x01words"


def test_a_late_command_0_is_refused_if_command_1_had_the_handshake() -> None:
    talk = Conversation()
    talk.send(1, HANDSHAKE)
    late = talk.send(0, b"\x03late")
    assert isinstance(late.refusal, NotFound)
    assert talk.upstream.up == HANDSHAKE


def test_a_late_command_0_does_not_extend_the_time_of_a_gap() -> None:
    talk = Conversation()
    talk.idle(1)
    early = talk.idle(3)
    talk.idle(0)
    talk.later(talk.limits.gap_s)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert early.status == 404


def test_a_session_cannot_begin_with_command_2() -> None:
    talk = Conversation()
    early = talk.send(2, HANDSHAKE)
    assert early.waits
    talk.later(talk.limits.gap_s)
    assert early.status == 404
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert talk.upstream.up == b""


# Order


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_commands_are_sent_upstream_in_the_order_of_their_numbers(
    order: tuple[int, ...],
) -> None:
    bodies = [HANDSHAKE, b"\xc3one", b"\xc3two", b"\xc3three"]
    talk = Conversation()
    replies = [talk.send(number, bodies[number]) for number in order]
    assert talk.upstream.up == b"".join(bodies)
    assert [reply.body for reply in replies] == [b"\x01"] * 4


def test_upstream_data_is_delivered_in_order_over_many_early_commands() -> None:
    limits = Limits(answer_bytes=4096)
    talk = Conversation(limits)
    talk.send(0)
    early = {number: talk.idle(number) for number in range(20, 1, -1)}
    said = bytes(range(256)) * 128
    talk.say(said)
    assert all(reply.waits for reply in early.values())
    heard = talk.idle(1).body or b""
    assert heard[:1] == b"\x01"
    for number in range(2, 21):
        if early[number].waits:
            # The last one, for which nothing was left, is held.
            assert number == 20
            continue
        answer = early[number].body or b""
        assert len(answer) <= limits.answer_bytes
        heard += answer[1:]
    assert heard[1:] == said


def test_data_received_between_two_answers_is_in_the_second_answer() -> None:
    talk = Conversation()
    talk.say(b"a")
    assert talk.send(0).body == b"\x01a"
    talk.say(b"b")
    talk.say(b"c")
    assert talk.send(1).body == b"\x01bc"
    assert talk.send(2).body == b"\x01"


def test_an_early_close_takes_effect_after_the_commands_before_it() -> None:
    talk = Conversation()
    talk.send(0)
    close = talk.close(2)
    assert close.waits
    assert talk.ended is None
    assert talk.send(1, b"last").body == b"\x01"
    assert talk.upstream.up == b"xlast"
    assert talk.ended is EndReason.CLIENT_CLOSED
    assert close.body == b"\x00"


def test_an_early_close_takes_effect_even_if_its_connection_was_lost() -> None:
    """librtmp sends its last send together with close, and reads neither answer."""
    talk = Conversation()
    talk.send(0)
    talk.cut(talk.close(2))
    talk.send(1, b"last")
    assert talk.upstream.up == b"xlast"
    assert talk.ended is EndReason.CLIENT_CLOSED
    assert talk.close(2).body == b"\x00"


def test_commands_after_a_close_get_404_and_are_not_sent_upstream() -> None:
    talk = Conversation()
    talk.send(0)
    behind = talk.send(3, b"late")
    talk.close(2)
    talk.send(1, b"y")
    assert behind.status == 404
    assert talk.upstream.up == b"xy"


# The window


def test_a_command_over_the_windows_limit_on_commands_ends_the_session() -> None:
    talk = Conversation(Limits(window_commands=3))
    talk.send(0)
    early = [talk.send(number) for number in (2, 3, 4)]
    assert talk.ended is None
    assert talk.send(5).status == 404
    assert talk.ended is EndReason.WINDOW_FULL
    assert [reply.status for reply in early] == [404] * 3


def test_a_byte_over_the_windows_limit_on_bytes_ends_the_session() -> None:
    talk = Conversation(Limits(up_buffer_bytes=8192))
    talk.send(0)
    first = talk.send(2, bytes(8000))
    second = talk.send(3, bytes(192))
    assert talk.ended is None
    assert talk.send(4, b"1").status == 404
    assert talk.ended is EndReason.WINDOW_FULL
    assert first.status == second.status == 404


def test_a_repeated_early_command_counts_once_against_the_windows_limits() -> None:
    talk = Conversation(Limits(up_buffer_bytes=8192, window_commands=2))
    talk.send(0)
    for _ in range(3):
        assert talk.send(2, bytes(5000)).waits
    assert talk.send(3, bytes(3000)).waits
    assert talk.send(1).status == 200
    assert len(talk.upstream.up) == 8002


def test_commands_after_a_filled_gap_no_longer_count_against_the_windows_limit() -> None:
    talk = Conversation(Limits(up_buffer_bytes=8192))
    talk.send(0)
    for number in range(1, 21, 2):
        assert talk.send(number + 1, bytes(8000)).waits
        assert talk.send(number).status == 200
    assert talk.ended is None


def test_a_gap_that_is_not_filled_in_time_ends_the_session() -> None:
    talk = Conversation()
    talk.send(0)
    early = talk.send(2)
    talk.later(talk.limits.gap_s - 0.01)
    assert talk.ended is None
    talk.later(0.01)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert early.status == 404


def test_more_early_commands_and_repetitions_do_not_extend_the_time_of_a_gap() -> None:
    talk = Conversation()
    talk.send(0)
    talk.send(2)
    for number in (3, 2, 0, 4):
        talk.later(talk.limits.gap_s / 5)
        talk.send(number)
    talk.later(talk.limits.gap_s / 5)
    assert talk.ended is EndReason.SEQUENCE_GAP


def test_a_partly_filled_gap_keeps_its_deadline() -> None:
    talk = Conversation()
    talk.send(0)
    talk.send(2)
    talk.send(4)
    talk.later(talk.limits.gap_s - 1)
    talk.send(1)
    assert talk.ended is None
    talk.later(1)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert talk.upstream.up == b"xxx"


def test_the_command_that_has_waited_longest_determines_the_time_of_a_gap() -> None:
    talk = Conversation()
    talk.send(0)
    talk.send(2)
    talk.later(talk.limits.gap_s - 1)
    talk.send(4)
    talk.send(1)
    talk.later(talk.limits.gap_s - 1)
    assert talk.ended is None
    assert talk.send(3).status == 200
    assert talk.upstream.up == b"xxxxx"
    talk.later(talk.limits.gap_s)
    assert talk.ended is None


def test_upstream_data_and_lost_connections_do_not_extend_the_time_of_a_gap() -> None:
    talk = Conversation()
    talk.send(0)
    early = talk.send(2)
    talk.later(1)
    talk.say(b"words")
    talk.cut(early)
    talk.later(talk.limits.gap_s - 1)
    assert talk.ended is EndReason.SEQUENCE_GAP


def test_an_early_command_whose_connection_was_lost_takes_effect_once() -> None:
    talk = Conversation()
    talk.send(0)
    early = talk.send(2, b"two")
    talk.cut(early)
    talk.send(1, b"one")
    assert talk.upstream.up == b"xonetwo"
    talk.say(b"words")
    assert talk.send(2, b"two").status == 200
    assert talk.upstream.up == b"xonetwo"


# Repetition


def test_a_repeated_command_gets_the_same_answer_and_its_body_is_sent_upstream_once() -> None:
    talk = Conversation()
    talk.say(b"words")
    first = talk.send(0, b"body")
    talk.say(b"more")
    again = talk.send(0, b"body")
    assert first.body == again.body == b"\x01words"
    assert talk.upstream.up == b"body"
    assert talk.send(1).body == b"\x01more"


def test_the_last_ten_answers_are_repeated_on_request_and_the_eleventh_is_not() -> None:
    talk = Conversation()
    answers = []
    for number in range(25):
        talk.say(b"%d" % number)
        answers.append(talk.send(number).body)
    for number in range(15, 25):
        assert talk.send(number).body == answers[number]
    assert isinstance(talk.send(14).refusal, NotFound)
    assert talk.ended is None
    assert talk.upstream.up == b"x" * 25


def test_a_repeated_early_command_is_answered_twice_and_sent_upstream_once() -> None:
    talk = Conversation()
    talk.send(0)
    first, again = talk.send(2, b"two"), talk.send(2, b"two")
    talk.send(1, b"one")
    assert first.body == again.body == b"\x01"
    assert talk.upstream.up == b"xonetwo"


def test_an_early_command_repeated_on_a_new_connection_is_answered_there() -> None:
    talk = Conversation()
    talk.send(0)
    dead = talk.send(2, b"two")
    talk.cut(dead)
    again = talk.send(2, b"two")
    talk.say(b"words")
    assert talk.send(1, b"one").body == b"\x01words"
    assert again.body == b"\x01"
    assert dead.waits


def test_the_answer_to_a_lost_early_command_carries_no_data() -> None:
    talk = Conversation(Limits(answer_bytes=4096))
    talk.send(0)
    talk.cut(talk.idle(2))
    living = talk.idle(3)
    talk.say(b"".join(b"%05d" % number for number in range(2000)))
    talk.idle(1)
    assert living.body == talk.idle(3).body
    assert living.body != talk.idle(2).body


def test_the_bytes_of_a_repeated_command_are_counted_once() -> None:
    talk = Conversation()
    talk.send(0, b"four")
    talk.send(0, b"four")
    assert talk.session.commands == 2
    assert talk.session.repeats == 1
    assert talk.session.bytes_up == 4


@pytest.mark.parametrize("kind", [Kind.IDLE, Kind.CLOSE])
def test_an_idle_or_close_with_more_than_one_byte_is_a_bad_request(kind: Kind) -> None:
    talk = Conversation()
    talk.send(0)
    assert isinstance(talk.command(kind, 1, b"\x00\x00").refusal, BadRequest)
    assert talk.ended is None
    assert talk.send(1).status == 200


@pytest.mark.parametrize("body", [b"", b"\x00"])
def test_the_body_of_an_idle_is_not_sent_upstream(body: bytes) -> None:
    talk = Conversation()
    assert talk.idle(0, body, may_hold=False).body == b"\x01"
    assert talk.upstream.written == []


def test_an_empty_send_is_answered_and_writes_nothing_upstream() -> None:
    talk = Conversation()
    assert talk.send(0, b"").body == b"\x01"
    assert talk.upstream.written == []
