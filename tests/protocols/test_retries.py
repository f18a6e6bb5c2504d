"""FFmpeg retries a failed exchange as a send of the same body with the next number.

The cases are those at the head of gateway.protocols.retries; none of them may touch another client.
"""

from __future__ import annotations

import pytest

from gateway.protocols.reasons import EndReason
from gateway.protocols.retries import TRIED_AGAIN_BYTES, Meaning, Retries
from gateway.telemetry.measurement.figures import Figures
from gateway.telemetry.measurement.totals import Histograms
from tests.helpers.session_recording import Conversation

# Longer than CLOSE_GRACE_S; the time limit of a gap is fifty times longer.
MOMENT_S = 0.2
# A chunk that begins a message of type 20, a command.
REQUEST = b"\x03" + bytes(6) + b"\x14" + b"\0\0\0\0 play"


@pytest.fixture
def ffmpeg() -> Conversation:
    """A client that retries; its first send is answered, and the next number is 1."""
    talk = Conversation(tries_again=True)
    talk.send(0)
    return talk


@pytest.mark.parametrize(
    ("last_body", "left_out", "body", "meaning"),
    [
        (REQUEST, 0, REQUEST, Meaning.AGAIN),
        (b"\x00", 0, b"\x00", Meaning.AGAIN),
        (REQUEST, 0, b"\x00", Meaning.ITSELF),
        (b"\x00", 0, REQUEST, Meaning.ITSELF),
        (REQUEST, 1, b"\x00", Meaning.IDLE),
        (b"\x00", 1, b"\x00", Meaning.IDLE),
        (REQUEST, 1, REQUEST, Meaning.AGAIN),
        (b"\x00", 1, REQUEST, Meaning.ITSELF),
    ],
)
def test_a_send_on_a_new_connection_is_checked_for_a_retry(
    last_body: bytes, left_out: int, body: bytes, meaning: Meaning
) -> None:
    assert lost_after(last_body).meaning(left_out, body) is meaning


def lost_after(body: bytes) -> Retries:
    """A client whose last connection was lost after a command with ``body``."""
    retries = Retries()
    retries.last_body = body
    retries.source_lost = True
    return retries


@pytest.mark.parametrize("left_out", [0, 1])
def test_the_same_body_is_not_a_retry_if_no_connection_was_lost(left_out: int) -> None:
    retries = lost_after(REQUEST)
    retries.source_lost = False
    assert retries.meaning(left_out, REQUEST) is Meaning.ITSELF


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_single_byte_00_on_a_new_connection_is_never_data(left_out: int) -> None:
    retries = lost_after(b"\x00")
    retries.source_lost = False
    assert retries.meaning(left_out, b"\x00") is not Meaning.ITSELF


@pytest.mark.parametrize("kind", [8, 9, 15, 18, 22])
@pytest.mark.parametrize("first", [b"\x04", b"\x44", b"\x84", b"\xc4"])
def test_repeated_media_is_not_a_retry(first: bytes, kind: int) -> None:
    body = first + bytes(6) + bytes([kind]) + bytes(20)
    assert lost_after(body).meaning(0, body) is Meaning.ITSELF


def test_a_body_of_the_maximum_compared_length_or_longer_is_not_a_retry() -> None:
    body = REQUEST + bytes(TRIED_AGAIN_BYTES)
    assert lost_after(body[:TRIED_AGAIN_BYTES]).meaning(0, body) is Meaning.ITSELF
    exactly = body[:TRIED_AGAIN_BYTES]
    assert lost_after(exactly).meaning(0, exactly) is Meaning.ITSELF


def test_sends_that_a_proxy_spreads_over_its_connections_are_all_sent_upstream(
    ffmpeg: Conversation,
) -> None:
    for number in range(1, 5):
        ffmpeg.source = number % 2
        assert ffmpeg.send(number, b"silence").body == b"\x01"
    assert ffmpeg.upstream.up == b"x" + 4 * b"silence"


def test_a_retry_during_a_hold_has_no_poll_gap() -> None:
    figures = Figures(Histograms())
    ffmpeg = Conversation(tries_again=True, figures=figures)
    ffmpeg.send(0)
    ffmpeg.idle(1)
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"\x00").waits
    assert len(figures.poll_gap.pending) == 1


def test_a_lost_retry_of_a_send_with_a_withheld_answer_leaves_no_gap(ffmpeg: Conversation) -> None:
    ffmpeg.fill()
    ffmpeg.cut(ffmpeg.send(1, REQUEST))
    ffmpeg.reconnect()
    again = ffmpeg.send(3, REQUEST)
    ffmpeg.say(b"words")
    ffmpeg.drain()
    assert again.body == b"\x01words"
    assert ffmpeg.send(4, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"x" + REQUEST + b"next"


def test_a_close_that_skips_a_number_waits_until_shortly_after_a_withheld_answer_is_released(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.fill()
    ffmpeg.cut(ffmpeg.send(1, REQUEST))
    ffmpeg.reconnect()
    ffmpeg.close(3)
    ffmpeg.drain()
    assert ffmpeg.ended is None
    ffmpeg.later(MOMENT_S)
    assert ffmpeg.ended is EndReason.CLIENT_CLOSED


def test_the_retry_of_an_idle_whose_connection_was_lost_is_not_sent_upstream(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.cut(ffmpeg.idle(1))
    ffmpeg.say(b"words")
    ffmpeg.reconnect()
    assert ffmpeg.send(2, b"\x00").body == b"\x01words"
    assert ffmpeg.upstream.up == b"x"


@pytest.mark.parametrize("words", [b"w", b"words"])
def test_the_retry_of_an_idle_gets_the_data_of_the_lost_answer(
    ffmpeg: Conversation, words: bytes
) -> None:
    ffmpeg.say(words)
    assert ffmpeg.idle(1).body == b"\x01" + words
    ffmpeg.say(b" and more")
    ffmpeg.reconnect()
    assert ffmpeg.send(2, b"\x00").body == b"\x01" + words + b" and more"
    assert ffmpeg.idle(3, may_hold=False).body == b"\x01"
    assert ffmpeg.idle(1).body == b"\x01"
    assert ffmpeg.upstream.up == b"x"


def test_a_retried_send_is_sent_upstream_once_and_its_answer_is_repeated(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.say(b"words")
    assert ffmpeg.send(1, REQUEST).body == b"\x01words"
    ffmpeg.reconnect()
    assert (
        ffmpeg.send(
            2,
            REQUEST,
        ).body
        == b"\x01words"
    )
    assert ffmpeg.upstream.up == b"x" + REQUEST
    assert ffmpeg.send(3, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"x" + REQUEST + b"next"


def test_a_send_retried_while_its_answer_is_withheld_gets_that_answer(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.fill()
    ffmpeg.cut(ffmpeg.send(1, REQUEST))
    ffmpeg.reconnect()
    again = ffmpeg.send(2, REQUEST)
    ffmpeg.say(b"words")
    ffmpeg.drain()
    assert again.body == b"\x01words"
    assert ffmpeg.upstream.up == b"x" + REQUEST


def test_the_retry_of_an_idle_that_never_arrived_skips_a_number_and_is_not_sent_upstream(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.say(b"words")
    ffmpeg.idle(1)
    ffmpeg.reconnect()
    ffmpeg.say(b"more")
    assert ffmpeg.send(3, b"\x00").body == b"\x01more"
    assert ffmpeg.idle(4).waits
    assert ffmpeg.upstream.up == b"x"


def test_the_retry_of_a_send_that_never_arrived_skips_a_number_and_is_sent_upstream_once(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.reconnect()
    assert ffmpeg.send(2, REQUEST).body == b"\x01"
    assert ffmpeg.send(3, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"x" + REQUEST + b"next"


def test_two_skipped_numbers_are_a_gap(ffmpeg: Conversation) -> None:
    ffmpeg.reconnect()
    assert ffmpeg.send(3, b"3").waits
    ffmpeg.source = 1
    ffmpeg.send(1, b"1")
    ffmpeg.send(2, b"2")
    assert ffmpeg.upstream.up == b"x123"
    ffmpeg.reconnect()
    ffmpeg.send(6, b"6")
    ffmpeg.later(ffmpeg.limits.gap_s)
    assert ffmpeg.ended is EndReason.SEQUENCE_GAP


def test_a_close_that_skips_a_number_ends_the_session_after_a_short_delay(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.reconnect()
    ffmpeg.close(2)
    assert ffmpeg.ended is None
    ffmpeg.later(MOMENT_S)
    assert ffmpeg.ended is EndReason.CLIENT_CLOSED


def test_data_in_the_old_connections_socket_is_processed_before_the_close(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.reconnect()
    close = ffmpeg.close(2)
    ffmpeg.source = 1
    assert ffmpeg.send(1, b"last").body == b"\x01"
    assert ffmpeg.upstream.up == b"xlast"
    assert close.body == b"\x00"
    assert ffmpeg.ended is EndReason.CLIENT_CLOSED


def test_a_send_on_the_same_connection_is_not_a_retry(ffmpeg: Conversation) -> None:
    ffmpeg.say(b"words")
    assert ffmpeg.idle(1).body == b"\x01words"
    assert ffmpeg.send(2, b"\x00").body == b"\x01"
    assert ffmpeg.send(3, b"\x00").body == b"\x01"
    assert ffmpeg.upstream.up == b"x\x00\x00"
    assert ffmpeg.send(5).waits


def test_a_send_with_a_new_body_on_a_new_connection_is_not_a_retry(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.say(b"words")
    ffmpeg.idle(1)
    ffmpeg.reconnect()
    assert ffmpeg.send(2, b"new").body == b"\x01"
    ffmpeg.source = 3
    assert ffmpeg.idle(3).waits
    assert ffmpeg.upstream.up == b"xnew"


def test_a_send_repeated_with_its_own_number_is_not_a_retry(ffmpeg: Conversation) -> None:
    ffmpeg.say(b"words")
    ffmpeg.send(1, REQUEST)
    ffmpeg.reconnect()
    assert ffmpeg.send(1, REQUEST).body == b"\x01words"
    assert ffmpeg.send(2, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"x" + REQUEST + b"next"


def test_a_client_that_repeats_commands_with_the_same_number_has_no_retries() -> None:
    talk = Conversation(tries_again=False)
    talk.send(0)
    talk.say(b"words")
    talk.idle(1)
    talk.source = 2
    assert talk.send(2, b"\x00").body == b"\x01"
    talk.source = 3
    assert talk.send(3, b"\x00").body == b"\x01"
    assert talk.upstream.up == b"x\x00\x00"
    talk.source = 4
    assert talk.send(5, b"early").waits


def test_a_retry_after_the_end_does_not_change_the_stored_answers(ffmpeg: Conversation) -> None:
    ffmpeg.say(b"last words")
    ffmpeg.upstream_ends()
    assert ffmpeg.idle(1).body == b"\x01last words"
    ffmpeg.reconnect()
    assert ffmpeg.send(2, b"\x00").status == 404
    assert ffmpeg.idle(1).body == b"\x01last words"


def test_a_retry_after_the_end_stores_no_answer_for_a_skipped_number(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.upstream_ends()
    ffmpeg.reconnect()
    assert ffmpeg.send(2, b"y").status == 404
    assert ffmpeg.send(1, b"y").status == 404
