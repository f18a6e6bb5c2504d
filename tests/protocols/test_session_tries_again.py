"""FFmpeg tries a failed exchange again as a send of the same body under the next number.

The cases are those at the head of gateway.protocols.session; none of them may touch another client.
"""

from __future__ import annotations

import pytest

from gateway.protocols.reasons import EndReason
from tests.protocols.recording import Conversation

# What the new connection is soon known by; the gap would be fifty times that.
MOMENT_S = 0.2


@pytest.fixture
def ffmpeg() -> Conversation:
    """A client that tries again; its first send is answered, the next number is 1."""
    talk = Conversation(tries_again=True)
    talk.send(0)
    return talk


def test_the_single_00_after_an_idle_that_died_held_never_goes_upstream(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.cut(ffmpeg.idle(1))
    ffmpeg.say(b"words")
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"\x00").body == b"\x01words"
    assert ffmpeg.upstream.up == b"x"


@pytest.mark.parametrize("words", [b"w", b"words"])
def test_the_answer_that_was_lost_is_given_again_to_the_single_00(
    ffmpeg: Conversation, words: bytes
) -> None:
    ffmpeg.say(words)
    assert ffmpeg.idle(1).body == b"\x01" + words
    ffmpeg.say(b" and more")
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"\x00").body == b"\x01" + words + b" and more"
    assert ffmpeg.idle(3, may_hold=False).body == b"\x01"
    assert ffmpeg.idle(1).body == b"\x01"
    assert ffmpeg.upstream.up == b"x"


def test_a_send_tried_again_goes_up_once_and_its_answer_is_given_again(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.say(b"words")
    assert ffmpeg.send(1, b"request").body == b"\x01words"
    ffmpeg.source = 2
    assert (
        ffmpeg.send(
            2,
            b"request",
        ).body
        == b"\x01words"
    )
    assert ffmpeg.upstream.up == b"xrequest"
    assert ffmpeg.send(3, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"xrequestnext"


def test_a_send_tried_again_while_its_answer_is_kept_gets_that_answer(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.fill()
    ffmpeg.cut(ffmpeg.send(1, b"request"))
    ffmpeg.source = 2
    again = ffmpeg.send(2, b"request")
    ffmpeg.say(b"words")
    ffmpeg.drain()
    assert again.body == b"\x01words"
    assert ffmpeg.upstream.up == b"xrequest"


def test_an_idle_lost_on_its_way_leaves_out_its_number_and_nothing_goes_upstream(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.say(b"words")
    ffmpeg.idle(1)
    ffmpeg.source = 2
    ffmpeg.say(b"more")
    assert ffmpeg.send(3, b"\x00").body == b"\x01more"
    assert ffmpeg.idle(4).waits
    assert ffmpeg.upstream.up == b"x"


def test_a_send_lost_on_its_way_leaves_out_its_number_and_goes_upstream_once(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"request").body == b"\x01"
    assert ffmpeg.send(3, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"xrequestnext"


def test_two_numbers_left_out_are_a_gap(ffmpeg: Conversation) -> None:
    ffmpeg.source = 2
    assert ffmpeg.send(3, b"3").waits
    ffmpeg.source = 1
    ffmpeg.send(1, b"1")
    ffmpeg.send(2, b"2")
    assert ffmpeg.upstream.up == b"x123"
    ffmpeg.source = 2
    ffmpeg.send(6, b"6")
    ffmpeg.later(ffmpeg.limits.gap_s)
    assert ffmpeg.ended is EndReason.SEQUENCE_GAP


def test_a_close_that_leaves_one_out_ends_the_session_after_a_moment(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.source = 2
    ffmpeg.close(2)
    assert ffmpeg.ended is None
    ffmpeg.later(MOMENT_S)
    assert ffmpeg.ended is EndReason.CLIENT_CLOSED


def test_what_was_still_in_the_old_connections_socket_is_taken_before_that_close(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.source = 2
    close = ffmpeg.close(2)
    ffmpeg.source = 1
    assert ffmpeg.send(1, b"last").body == b"\x01"
    assert ffmpeg.upstream.up == b"xlast"
    assert close.body == b"\x00"
    assert ffmpeg.ended is EndReason.CLIENT_CLOSED


def test_on_the_same_connection_nothing_is_taken_for_a_repetition(ffmpeg: Conversation) -> None:
    ffmpeg.say(b"words")
    assert ffmpeg.idle(1).body == b"\x01words"
    assert ffmpeg.send(2, b"\x00").body == b"\x01"
    assert ffmpeg.send(3, b"\x00").body == b"\x01"
    assert ffmpeg.upstream.up == b"x\x00\x00"
    assert ffmpeg.send(5).waits


def test_a_new_connection_that_goes_on_with_something_new_is_taken_as_it_is(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.say(b"words")
    ffmpeg.idle(1)
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"new").body == b"\x01"
    ffmpeg.source = 3
    assert ffmpeg.idle(3).waits
    assert ffmpeg.upstream.up == b"xnew"


def test_the_real_repetition_of_a_number_is_no_try_of_the_next(ffmpeg: Conversation) -> None:
    ffmpeg.say(b"words")
    ffmpeg.send(1, b"request")
    ffmpeg.source = 2
    assert ffmpeg.send(1, b"request").body == b"\x01words"
    assert ffmpeg.send(2, b"next").body == b"\x01"
    assert ffmpeg.upstream.up == b"xrequestnext"


def test_a_client_that_repeats_properly_is_left_alone() -> None:
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


def test_a_try_after_the_end_changes_nothing_that_can_be_had_again(ffmpeg: Conversation) -> None:
    ffmpeg.say(b"last words")
    ffmpeg.upstream_ends()
    assert ffmpeg.idle(1).body == b"\x01last words"
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"\x00").status == 404
    assert ffmpeg.idle(1).body == b"\x01last words"


def test_a_try_after_the_end_does_not_make_an_answer_of_a_number_never_taken(
    ffmpeg: Conversation,
) -> None:
    ffmpeg.upstream_ends()
    ffmpeg.source = 2
    assert ffmpeg.send(2, b"y").status == 404
    assert ffmpeg.send(1, b"y").status == 404
