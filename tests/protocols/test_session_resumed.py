"""A session whose client resumes (tunnel_options): held sends, small answers, kept streams."""

from __future__ import annotations

from gateway.protocols.clients import Framing
from gateway.protocols.limits import Limits
from gateway.protocols.reasons import EndReason
from gateway.protocols.stream_policy import Delivery, StreamPolicy
from gateway.protocols.streaming import PLAYING_BYTES
from gateway.protocols.tunnel_options import ALL_ARRIVED, SMALL_BYTES, streamed_answer_bytes
from tests.helpers.session_recording import Conversation, Reply

WHOLE = StreamPolicy(None, Delivery.CLIENT, resumes=True)
STREAMED = StreamPolicy(Framing.CHUNKED, Delivery.STREAMED, resumes=True)
MEDIA = bytes(PLAYING_BYTES)


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


def test_an_answer_is_small_unless_all_earlier_ones_have_arrived() -> None:
    session = Conversation(policy=WHOLE)
    held = session.send(0, b"\x03")
    session.say(bytes(20_000))
    assert held.body is not None
    assert len(held.body) == SMALL_BYTES
    assert len(session.idle(1, b"\x00").body or b"") == SMALL_BYTES
    # A send with the same body says nothing about answers.
    assert len(session.send(2, ALL_ARRIVED).body or b"") == SMALL_BYTES
    assert len(session.idle(3, ALL_ARRIVED).body or b"") == 20_001 - 3 * (SMALL_BYTES - 1)


def test_all_answers_under_way_are_kept_whatever_their_size() -> None:
    session = Conversation(policy=WHOLE)
    session.send(0, b"\x03")
    session.say(bytes(1_000_000))
    replies = [session.idle(1, ALL_ARRIVED)]
    replies += [session.send(number, b"x") for number in range(2, 10)]
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
    assert repeated.body == b"\x01onetwo"
    assert session.idle(3, ALL_ARRIVED).streamed == b"\x01three"


def test_a_streamed_answer_is_repeated_before_its_loss_is_noticed() -> None:
    session, reply = playing()
    session.say(b"one")
    assert session.idle(2, ALL_ARRIVED).body == b"\x01one"
    assert reply.finished
    assert session.ended is None


def test_a_complete_streamed_answer_is_repeated_too() -> None:
    session, reply = playing()
    session.say(b"one")
    session.later(1.0)
    assert reply.finished
    assert session.idle(2, ALL_ARRIVED).body == b"\x01one"


def test_a_streamed_answer_ends_before_it_is_too_large_to_be_kept() -> None:
    session, reply = playing()
    for _ in range(10):
        session.say(bytes(60_000))
    assert reply.streamed is not None
    assert reply.finished
    assert len(reply.streamed) == streamed_answer_bytes(session.limits)
    session.cut(reply)
    assert session.idle(2, ALL_ARRIVED).body == reply.streamed


def test_an_answer_is_not_streamed_while_earlier_ones_may_have_to_be_repeated() -> None:
    session, _ = playing()
    reply = session.idle(3, b"\x00")
    session.say(b"one")
    assert (reply.streamed, reply.body) == (None, b"\x01one")


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
    assert reply.streamed == b"\x01one"
    session.session.carried_by(object(), None, True)
    assert session.session.streaming == Delivery.CONNECTIONS.value


def test_a_session_that_is_not_resumed_ends_as_usual() -> None:
    session, reply = playing()
    session.say(b"one")
    session.cut(reply)
    session.later(Limits().silent_session_s + 1)
    assert session.ended is EndReason.CLIENT_SILENT
