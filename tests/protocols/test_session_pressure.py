"""Back-pressure in both directions, and the limits on a session's buffers."""

from __future__ import annotations

import tracemalloc

import pytest

from gateway.errors import NotFound
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from tests.helpers.session_recording import Conversation

# Small bounds, so that a test can fill what it means to fill.
SMALL = Limits(
    answer_bytes=4096,
    down_buffer_bytes=16384,
    up_buffer_bytes=8192,
    replay_bytes=8192,
)
PAUSE_BYTES = 8192


@pytest.fixture
def talk() -> Conversation:
    """A session with small bounds whose first send is answered."""
    talk = Conversation(SMALL)
    talk.send(0)
    return talk


def heard(talk: Conversation, number: int, answers: int) -> bytes:
    """The data of the answers to ``answers`` idles, beginning with ``number``."""
    return b"".join(
        (talk.idle(number + count, may_hold=False).body or b"\x01")[1:] for count in range(answers)
    )


# Up


def test_the_answer_to_a_send_is_withheld_while_the_upstream_is_full(talk: Conversation) -> None:
    talk.fill()
    kept = talk.send(1, b"y")
    assert kept.waits
    assert talk.upstream.up == b"xy"
    talk.drain()
    assert kept.body == b"\x01"


def test_the_answer_to_the_send_that_fills_the_upstream_is_withheld(talk: Conversation) -> None:
    talk.upstream.high_water_bytes = 3
    assert talk.send(1, b"123").body == b"\x01"
    kept = talk.send(2, b"4")
    assert kept.waits
    talk.drain()
    assert kept.body == b"\x01"


def test_an_idle_is_answered_while_the_upstream_is_full(talk: Conversation) -> None:
    talk.fill()
    talk.say(b"words")
    assert talk.idle(1).body == b"\x01words"


def test_no_command_takes_effect_behind_a_withheld_answer(talk: Conversation) -> None:
    talk.fill()
    kept, behind, idle = talk.send(1, b"1"), talk.send(2, b"2"), talk.idle(3)
    talk.say(b"words")
    assert kept.waits
    assert behind.waits
    assert idle.waits
    assert talk.upstream.up == b"x1"
    talk.drain()
    assert talk.upstream.up == b"x12"
    assert (kept.body, behind.body) == (b"\x01words", b"\x01")
    assert idle.waits


def test_sends_behind_a_withheld_answer_are_withheld_in_turn(talk: Conversation) -> None:
    talk.fill()
    kept, behind, last = talk.send(1, b"1"), talk.send(2, b"2"), talk.send(3, b"3")
    talk.upstream.full = False
    talk.session.upstream_drained(talk.now)
    assert kept.body == b"\x01"
    assert talk.upstream.full
    assert behind.waits
    assert talk.upstream.up == b"x12"
    talk.later(talk.limits.gap_s + 1)
    assert talk.ended is None
    talk.drain()
    assert behind.body == last.body == b"\x01"
    assert talk.upstream.up == b"x123"
    assert talk.send(4).body == b"\x01"


def test_the_release_of_a_withheld_answer_restarts_the_silence_limit(talk: Conversation) -> None:
    talk.fill()
    talk.send(1)
    talk.drain()
    talk.later(talk.limits.silent_session_s - 0.01)
    assert talk.ended is None


def test_a_withheld_answer_is_not_a_gap(talk: Conversation) -> None:
    talk.fill()
    talk.send(1)
    behind = talk.send(2)
    talk.later(talk.limits.gap_s + 1)
    assert talk.ended is None
    talk.drain()
    assert behind.body == b"\x01"


def test_the_time_of_a_gap_after_a_withheld_answer_begins_when_the_answer_is_released(
    talk: Conversation,
) -> None:
    talk.fill()
    talk.send(1)
    behind = talk.send(3)
    talk.later(talk.limits.gap_s + 1)
    talk.drain()
    talk.later(talk.limits.gap_s - 0.01)
    assert talk.ended is None
    talk.later(0.01)
    assert talk.ended is EndReason.SEQUENCE_GAP
    assert behind.status == 404


def test_a_repeated_send_is_withheld_like_the_first_and_sent_upstream_once(
    talk: Conversation,
) -> None:
    talk.fill()
    first, again = talk.send(1, b"y"), talk.send(1, b"y")
    assert again.waits
    talk.say(b"words")
    talk.drain()
    assert first.body == again.body == b"\x01words"
    assert talk.upstream.up == b"xy"


def test_a_send_repeated_after_its_connection_was_lost_gets_the_withheld_answer(
    talk: Conversation,
) -> None:
    talk.fill()
    talk.cut(talk.send(1, b"y"))
    talk.say(b"words")
    talk.drain()
    again, following = talk.send(1, b"y").body or b"", talk.idle(2, may_hold=False).body or b""
    assert again[1:] + following[1:] == b"words"
    assert talk.upstream.up == b"xy"


def test_an_upstream_that_accepts_no_data_before_the_deadline_ends_the_session(
    talk: Conversation,
) -> None:
    talk.fill()
    kept = talk.send(1)
    talk.later(talk.limits.stalled_write_s - 0.01)
    assert talk.ended is None
    assert kept.waits
    talk.later(0.01)
    assert talk.ended is EndReason.UPSTREAM_STALLED
    assert kept.status == 404


def test_an_upstream_that_accepts_data_slowly_does_not_end_the_session(talk: Conversation) -> None:
    talk.fill()
    talk.upstream.unsent = 1_000_000
    kept = talk.send(1)
    for _ in range(4):
        talk.upstream.unsent -= 100_000
        talk.later(talk.limits.stalled_write_s)
        assert talk.ended is None
    assert kept.waits
    talk.later(talk.limits.stalled_write_s)
    assert talk.ended is EndReason.UPSTREAM_STALLED


def test_a_withheld_answer_is_sent_at_its_deadline_when_the_client_must_read_first(
    talk: Conversation,
) -> None:
    talk.fill()
    talk.upstream.unsent = 2 * talk.limits.up_buffer_bytes
    kept = talk.send(1)
    talk.say(bytes(PAUSE_BYTES))
    assert kept.waits
    talk.upstream.unsent = 0
    talk.later(talk.limits.stalled_write_s)
    assert kept.body is not None
    assert talk.ended is None


def test_a_withheld_answer_is_released_to_a_repeated_send_if_the_client_must_read_first(
    talk: Conversation,
) -> None:
    talk.fill()
    talk.upstream.unsent = 2 * talk.limits.up_buffer_bytes
    talk.cut(talk.send(1))
    talk.say(bytes(PAUSE_BYTES))
    talk.upstream.unsent = 0
    assert talk.send(1).body == b"\x01"
    assert len(heard(talk, 2, 3)) == PAUSE_BYTES


def test_commands_sent_while_the_upstream_is_full_are_bounded_by_the_window(
    talk: Conversation,
) -> None:
    talk.fill()
    for number in range(1, 100):
        if talk.send(number, bytes(1000)).status == 404:
            break
    assert talk.ended is EndReason.WINDOW_FULL
    assert number == 10


def test_a_withheld_answer_is_released_when_the_other_direction_fills_up(
    talk: Conversation,
) -> None:
    talk.fill()
    kept = talk.send(1)
    talk.say(bytes(PAUSE_BYTES - 1))
    assert kept.waits
    talk.say(b"1")
    assert talk.upstream.pauses == 1
    assert kept.body == b"\x01" + bytes(SMALL.answer_bytes - 1)


def test_the_answer_to_a_send_is_not_withheld_if_the_other_direction_is_full(
    talk: Conversation,
) -> None:
    talk.say(bytes(PAUSE_BYTES))
    talk.fill()
    assert talk.send(1).body == b"\x01" + bytes(SMALL.answer_bytes - 1)


def test_the_unsent_data_of_a_client_that_never_stops_sending_is_bounded_by_the_up_buffer(
    talk: Conversation,
) -> None:
    talk.fill()
    number = 1
    for number in range(1, 200):
        # The upstream fills the other direction whenever it may.
        if not talk.upstream.paused:
            talk.say(bytes(PAUSE_BYTES))
        if talk.send(number, bytes(1000)).waits:
            break
    assert number < 200
    assert SMALL.up_buffer_bytes < talk.upstream.unsent <= SMALL.up_buffer_bytes + 1000


def test_early_sends_of_lost_connections_are_bounded_by_the_up_buffer(
    talk: Conversation,
) -> None:
    talk.fill()
    for number in range(1, 41, 2):
        talk.cut(talk.send(number + 1, bytes(4000)))
        talk.idle(number, may_hold=False)
    assert talk.upstream.unsent <= SMALL.up_buffer_bytes + 4000


# Down


def test_a_session_stops_reading_at_its_mark_and_resumes_below_half_of_the_mark(
    talk: Conversation,
) -> None:
    assert talk.session.pause_bytes == PAUSE_BYTES
    talk.say(bytes(PAUSE_BYTES - 1))
    assert not talk.upstream.paused
    talk.say(b"1")
    assert talk.upstream.paused
    talk.idle(1)
    assert talk.upstream.paused
    talk.idle(2)
    assert not talk.upstream.paused
    assert talk.upstream.pauses == 1


def test_data_in_flight_when_reading_stopped_is_kept(talk: Conversation) -> None:
    first, second = b"a" * PAUSE_BYTES, b"b" * 1000
    talk.say(first)
    talk.say(second)
    assert heard(talk, 1, 3) == first + second
    assert not talk.upstream.paused


def test_a_session_pauses_and_resumes_alternately_over_many_rounds(talk: Conversation) -> None:
    total, number = 0, 1
    for _ in range(30):
        while not talk.upstream.paused:
            talk.say(bytes(3000))
            total += 3000
        while talk.upstream.paused:
            total -= len(heard(talk, number, 1))
            number += 1
    assert talk.upstream.pauses == 30
    assert total == len(heard(talk, number, 10))


def test_the_mark_for_pausing_can_change_during_the_session(talk: Conversation) -> None:
    talk.session.pause_bytes = 1000
    talk.say(bytes(999))
    assert not talk.upstream.paused
    talk.say(b"1")
    assert talk.upstream.paused
    talk.idle(1)
    assert not talk.upstream.paused


def test_data_longer_than_one_answer_is_split_without_loss(talk: Conversation) -> None:
    said = b"".join(b"%06d" % number for number in range(1300))
    for begin in range(0, len(said), 700):
        talk.say(said[begin : begin + 700])
    first, second = talk.idle(1).body or b"", talk.idle(2).body or b""
    assert len(first) == SMALL.answer_bytes
    assert first[1:] + second[1:] == said
    assert talk.idle(3, may_hold=False).body == b"\x01"


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_limit_on_an_answer_includes_its_interval_byte(talk: Conversation, more: int) -> None:
    talk.say(bytes(SMALL.answer_bytes - 1 + more))
    assert len(talk.idle(1).body or b"") == SMALL.answer_bytes + min(more, 0)
    assert len(talk.idle(2, may_hold=False).body or b"") == (2 if more == 1 else 1)


def test_data_received_in_single_bytes_has_little_memory_overhead() -> None:
    talk = Conversation(Limits(down_buffer_bytes=128 * 1024))
    talk.send(0)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        said = 0
        while not talk.upstream.paused:
            # Three, since Python keeps the single bytes ready.
            talk.say(said.to_bytes(3, "big"))
            said += 3
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said == pytest.approx(64 * 1024, abs=3)
    assert after - before < 1.25 * said


# Replay


def test_stored_answers_are_limited_in_bytes_and_the_oldest_is_removed_first(
    talk: Conversation,
) -> None:
    for number in range(1, 6):
        talk.say(b"%d" % number * 3000)
        talk.idle(number)
    assert isinstance(talk.idle(3).refusal, NotFound)
    assert talk.idle(4).body == b"\x01" + b"4" * 3000
    assert talk.idle(5).body == b"\x01" + b"5" * 3000


def test_the_newest_answer_is_always_stored() -> None:
    talk = Conversation(Limits(replay_bytes=4096))
    talk.say(bytes(60_000))
    for number in range(12):
        talk.say(bytes([number]) * 100)
        answer = talk.idle(number, may_hold=False).body
        assert talk.idle(number).body == answer
    talk.say(bytes(60_000))
    assert talk.idle(12).body == b"\x01" + bytes(60_000)
    assert talk.idle(12).body == b"\x01" + bytes(60_000)
    assert isinstance(talk.idle(11).refusal, NotFound)


def test_the_bytes_of_removed_answers_do_not_count_against_later_answers(
    talk: Conversation,
) -> None:
    for number in range(1, 60):
        talk.say(bytes(3500))
        talk.idle(number)
        if number > 1:
            assert talk.idle(number - 1).status == 200


def test_the_bytes_of_answers_older_than_ten_commands_do_not_count_against_later_answers(
    talk: Conversation,
) -> None:
    for number in range(1, 200):
        talk.say(bytes(500))
        talk.idle(number)
        if number > 10:
            assert talk.idle(number - 9).status == 200


def test_commands_repeated_after_lost_connections_get_all_data_in_order(talk: Conversation) -> None:
    """Answers of lost connections carry no data: otherwise they would displace each other."""
    replies = [talk.idle(number) for number in range(2, 6)]
    for reply in replies:
        talk.cut(reply)
    said = b"".join(b"%04d" % number for number in range(4096))[: PAUSE_BYTES * 2]
    talk.say(said)
    last = talk.idle(1).body or b""
    answers = [talk.idle(number, may_hold=False) for number in range(2, 6)]
    assert [answer.status for answer in answers] == [200] * 4
    brought = last[1:] + b"".join((answer.body or b"")[1:] for answer in answers)
    assert brought + heard(talk, 6, 5) == said
