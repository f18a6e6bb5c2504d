"""A session whose client resumes (tunnel_options): held sends, small answers, kept streams."""

from __future__ import annotations

import pytest

from gateway.errors import BadRequest
from gateway.protocols.clients import Framing
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.stream_policy import Delivery, StreamPolicy
from gateway.protocols.streaming import PLAYING_BYTES
from gateway.protocols.tunnel_options import (
    LEAST_ANSWER_BYTES,
    ClientFigures,
    idle_body,
    most_commands,
)
from gateway.telemetry.measurement.figures import Figures
from gateway.telemetry.measurement.totals import Histograms
from tests.helpers.session_recording import Conversation, Reply

WHOLE = StreamPolicy(None, Delivery.CLIENT, resumes=True)
STREAMED = StreamPolicy(Framing.CHUNKED, Delivery.STREAMED, resumes=True)
MEDIA = bytes(PLAYING_BYTES)
ALL_ARRIVED = idle_body(0, whole=False)
SAYS_NOTHING = b"\x00"
# What all answers that have not arrived may have together.
KEPT_BYTES = Limits().down_buffer_bytes // 2


def playing() -> tuple[Conversation, Reply]:
    """A session that has sent a player's first data, and holds the idle 2."""
    session = Conversation(policy=STREAMED)
    session.send(0, b"\x03")
    session.idle(1, ALL_ARRIVED)
    session.say(MEDIA)
    return session, session.idle(2, ALL_ARRIVED)


def test_a_send_is_held_until_the_next_command() -> None:
    session = Conversation(policy=WHOLE)
    first, second = session.send(0, b"\x03"), session.send(1, b"y")
    assert (first.body, second.waits) == (b"\x01", True)
    assert session.upstream.up == b"\x03y"


def test_a_held_send_carries_the_next_data() -> None:
    session = Conversation(policy=WHOLE)
    reply = session.send(0, b"\x03")
    session.say(b"answer")
    assert reply.body == b"\x01answer"


def test_a_held_send_is_answered_at_the_end_of_the_hold() -> None:
    session = Conversation(policy=WHOLE, hold_s=0.25)
    reply = session.send(0, b"\x03")
    session.later(0.24)
    assert reply.waits
    session.later(0.02)
    assert reply.body == b"\x01"


def test_the_sends_of_other_clients_are_answered_at_once() -> None:
    assert Conversation().send(0, b"\x03").body == b"\x01"


def test_answers_that_have_not_arrived_leave_less_and_less_room() -> None:
    session = Conversation(policy=WHOLE)
    session.send(0, b"\x03")
    session.say(bytes(1_000_000))
    sizes = [len(session.idle(number, SAYS_NOTHING).body or b"") for number in range(1, 60)]
    assert sizes[0] == session.limits.answer_bytes
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == LEAST_ANSWER_BYTES
    assert sum(sizes) <= KEPT_BYTES


@pytest.mark.parametrize("unanswered", [0, 1, 5])
def test_an_idle_makes_room_by_saying_which_answers_have_arrived(unanswered: int) -> None:
    session = Conversation(policy=WHOLE)
    session.send(0, b"\x03")
    session.say(bytes(2_000_000))
    for number in range(1, 60):
        session.idle(number, SAYS_NOTHING)
    body = session.idle(60, idle_body(unanswered, whole=False)).body
    assert len(body or b"") == session.limits.answer_bytes
    for number in range(60 - unanswered, 60):
        assert len(session.idle(number, SAYS_NOTHING).body or b"") == LEAST_ANSWER_BYTES
    assert session.idle(59 - unanswered, SAYS_NOTHING).status == 404


def test_what_the_client_has_measured_is_passed_to_the_figures() -> None:
    figures = Figures(Histograms())
    session = Conversation(policy=WHOLE, figures=figures)
    session.send(0, b"\x03")
    session.idle(1, idle_body(0, False, ClientFigures(0.1, None)))
    session.idle(2, ALL_ARRIVED)
    assert figures.client_figures == ClientFigures(0.1, None)


def test_an_idle_or_close_says_no_more_than_it_can() -> None:
    session = Conversation(policy=WHOLE)
    said = idle_body(0, False, ClientFigures(0.1, None))
    assert isinstance(session.idle(0, said + b"\x00").refusal, BadRequest)
    assert isinstance(session.command(Kind.CLOSE, 0, said).refusal, BadRequest)
    assert isinstance(Conversation().idle(0, said).refusal, BadRequest)


def test_what_a_send_carries_says_nothing_of_answers() -> None:
    session = Conversation(policy=WHOLE)
    session.send(0, b"\x03")
    session.say(bytes(1_000_000))
    replies = [session.send(number, ALL_ARRIVED) for number in range(1, 60)]
    assert len(replies[-1].body or b"") == LEAST_ANSWER_BYTES


def test_all_answers_under_way_are_kept_whatever_their_size() -> None:
    session = Conversation(policy=WHOLE)
    session.send(0, b"\x03")
    session.say(bytes(1_000_000))
    last = most_commands(session.limits)
    replies = [session.send(number, b"x") for number in range(1, last + 1)]
    for number, reply in enumerate(replies, start=1):
        assert session.send(number, b"x").body == reply.body


def test_a_streamed_answer_whose_connection_is_lost_is_repeated_as_far_as_it_was() -> None:
    session, reply = playing()
    session.say(b"one")
    session.say(b"two")
    session.cut(reply)
    session.say(b"three")
    assert session.ended is None
    repeated = session.idle(2, ALL_ARRIVED)
    assert repeated.body == b"\x02onetwo"
    assert session.idle(3, ALL_ARRIVED).streamed == b"\x02three"


def test_a_streamed_answer_is_repeated_before_its_loss_is_noticed() -> None:
    session, reply = playing()
    session.say(b"one")
    assert session.idle(2, ALL_ARRIVED).body == b"\x02one"
    assert reply.finished
    assert session.ended is None


def test_a_complete_streamed_answer_is_repeated_too() -> None:
    session, reply = playing()
    session.say(b"one")
    session.later(1.0)
    assert reply.finished
    assert session.idle(2, ALL_ARRIVED).body == b"\x02one"


def test_a_streamed_answer_ends_before_it_is_too_large_to_be_kept() -> None:
    session, reply = playing()
    for _ in range(10):
        session.say(bytes(60_000))
    assert reply.streamed is not None
    assert reply.finished
    assert 0.8 * KEPT_BYTES / 2 < len(reply.streamed) <= KEPT_BYTES / 2
    session.cut(reply)
    assert session.idle(2, ALL_ARRIVED).body == reply.streamed


def test_the_next_answer_is_streamed_before_the_last_one_has_arrived() -> None:
    session, reply = playing()
    session.say(b"one")
    following = session.idle(3, idle_body(1, whole=False))
    session.say(b"two")
    assert (reply.streamed, reply.finished, following.streamed) == (b"\x02one", True, b"\x02two")
    # Its connection and the last one's are lost.
    session.cut(following)
    assert session.idle(2, ALL_ARRIVED).body == b"\x02one"
    assert session.idle(3, SAYS_NOTHING).body == b"\x02two"


def test_an_answer_is_not_streamed_while_there_is_little_room_for_it() -> None:
    session, _ = playing()
    for number in range(3, 60):
        session.say(bytes(60_000))
        reply = session.send(number, b"ack")
    assert reply.streamed is None
    assert session.idle(60, ALL_ARRIVED).streamed is not None


def test_a_client_that_asks_for_whole_answers_gets_them() -> None:
    session, reply = playing()
    session.say(b"one")
    reply = session.idle(3, idle_body(0, whole=True))
    session.say(b"two")
    assert (reply.streamed, reply.body) == (None, b"\x01two")
    assert session.session.streaming == Delivery.BUFFERED.value
    # A send is held, and its answer kept, as before.
    assert session.send(4, b"x").waits


def test_a_streamed_answer_goes_on_while_the_upstream_pauses_for_less_than_a_hold() -> None:
    session, reply = playing()
    session.say(b"one")
    session.later(0.2)
    session.say(b"two")
    assert not reply.finished
    session.later(0.3)
    assert reply.finished


def test_a_send_ends_a_streamed_answer_and_is_held_in_its_place() -> None:
    session, reply = playing()
    session.say(b"one")
    send = session.send(3, b"ack")
    assert (reply.finished, send.waits) == (True, True)


def test_another_connection_changes_nothing() -> None:
    session, reply = playing()
    session.session.carried_by(object(), None)
    session.session.carried_by(object(), None)
    session.say(b"one")
    assert reply.streamed == b"\x02one"
    session.session.carried_by(object(), None, True)
    assert session.session.streaming == Delivery.STREAMED.value


def test_a_session_that_is_not_resumed_ends_as_usual() -> None:
    session, reply = playing()
    session.say(b"one")
    session.cut(reply)
    session.later(Limits().silent_session_s + 1)
    assert session.ended is EndReason.CLIENT_SILENT
