"""Streamed answers: when they begin, how they are filled, and what ends them."""

from __future__ import annotations

import pytest

from gateway.errors import UnknownSession
from gateway.protocols.clients import FFMPEG, LIBRTMP, OTHER, Client, Framing
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.protocols.reasons import EndReason
from gateway.protocols.stream_policy import Delivery, StreamPolicy, policy_for
from gateway.protocols.streamed_answer import MOST_BYTES
from gateway.protocols.streaming import PAUSE_S, PLAYING_BYTES, REST_S
from tests.helpers.session_recording import Conversation, Reply
from tests.protocols.test_clients import FFMPEG_HEAD, LIBRTMP_HEAD, fields_of, with_field

CHUNKED = StreamPolicy(Framing.CHUNKED, Delivery.STREAMED)
DECLARED = StreamPolicy(Framing.DECLARED, Delivery.STREAMED)


def playing(policy: StreamPolicy, limits: Limits | None = None) -> Conversation:
    """A session whose play is under way: command 0 has fetched the first bytes."""
    talk = Conversation(limits, policy=policy)
    talk.say(bytes(PLAYING_BYTES))
    talk.may_stream = False
    assert talk.send(0, b"\x03").body is not None
    talk.may_stream = True
    return talk


def streaming(policy: StreamPolicy, number: int = 1) -> tuple[Conversation, Reply]:
    talk = playing(policy)
    reply = talk.idle(number)
    talk.say(b"first")
    return talk, reply


# Begin


@pytest.mark.parametrize("policy", [CHUNKED, DECLARED], ids=["chunked", "declared"])
def test_a_streamed_answer_begins_with_the_first_bytes_and_grows_as_data_arrives(
    policy: StreamPolicy,
) -> None:
    talk = playing(policy)
    reply = talk.idle(1)
    assert reply.waits
    talk.say(b"one")
    assert (reply.streamed, reply.pieces) == (b"\x01one", 1)
    talk.say(b"two")
    assert (reply.streamed, reply.pieces) == (b"\x01onetwo", 2)
    assert talk.session.position == "streaming"


def test_answers_are_not_streamed_before_playing_has_begun() -> None:
    talk = Conversation(policy=CHUNKED)
    reply = talk.idle(0)
    talk.say(bytes(PLAYING_BYTES - 1))
    assert reply.body is not None
    assert talk.session.streaming == "not_playing"
    reply = talk.idle(1)
    talk.say(b"x")
    assert reply.streamed == b"\x01x"
    assert talk.session.streaming == "streamed"


def test_a_publisher_gets_whole_answers() -> None:
    talk = Conversation(policy=CHUNKED)
    assert talk.send(0, bytes(PLAYING_BYTES)).body == b"\x01"
    talk.say(bytes(2 * PLAYING_BYTES))
    assert talk.send(1, b"media").body is not None
    assert talk.session.streaming == "not_playing"


def test_a_client_that_cannot_read_streamed_answers_gets_whole_answers() -> None:
    talk = playing(StreamPolicy(None, Delivery.CLIENT))
    reply = talk.idle(1)
    talk.say(b"data")
    assert reply.body == b"\x01data"
    assert talk.session.streaming == "client"


def test_the_answer_to_the_next_command_begins_at_once_if_data_is_waiting() -> None:
    talk = playing(CHUNKED)
    talk.say(b"waiting")
    assert talk.idle(1).streamed == b"\x01waiting"


def test_an_answer_is_whole_if_more_bytes_follow_on_its_connection() -> None:
    talk = playing(CHUNKED)
    talk.say(b"waiting")
    assert talk.idle(1, may_hold=False).body == b"\x01waiting"


def test_an_answer_that_is_not_next_on_its_connection_is_whole() -> None:
    talk = playing(CHUNKED)
    talk.may_stream = False
    talk.say(b"waiting")
    assert talk.idle(1).body == b"\x01waiting"
    reply = talk.idle(2)
    talk.say(b"more")
    assert reply.body == b"\x01more"


def test_the_answer_to_a_players_send_is_held_until_there_is_data() -> None:
    talk = playing(CHUNKED)
    reply = talk.send(1, b"acknowledgement")
    assert talk.upstream.written[-1] == b"acknowledgement"
    assert reply.waits
    talk.say(b"media")
    assert reply.streamed == b"\x01media"


def test_a_held_send_is_answered_when_the_hold_time_expires() -> None:
    talk = playing(CHUNKED)
    reply = talk.send(1, b"pause")
    talk.later(0.25)
    assert reply.body == b"\x01"


# The end of a chunked answer


def test_a_chunked_answer_ends_after_its_maximum_duration() -> None:
    talk, reply = streaming(CHUNKED)
    while reply.finished is None:
        talk.later(0.02)
        talk.say(b".")
    assert reply.finished is True
    assert talk.session.streamed_answers == 1
    assert talk.session.streamed_bytes == len(reply.streamed or b"") - 1
    # With the first data after it.
    assert 0.4 <= talk.session.streamed_s < 0.4 + 0.021


def test_the_last_piece_of_a_chunked_answer_is_written_with_its_end() -> None:
    talk, reply = streaming(CHUNKED)
    # Without sweeps, which would end it during this pause.
    talk.now += 0.5
    talk.say(b"-last")
    assert reply.finished is True
    assert (reply.streamed, reply.pieces) == (b"\x01first-last", 1)


def test_no_deadline_expires_while_a_chunked_answer_is_filled() -> None:
    talk, reply = streaming(CHUNKED)
    for _ in range(15):
        talk.later(0.025)
        talk.say(b".")
        assert talk.session.deadline == talk.now + PAUSE_S
    assert reply.finished is None


@pytest.mark.parametrize(
    ("round_trip_s", "lasts_s"), [(0.0, 0.4), (0.03, 0.4), (0.1, 1.2), (0.2, 2.4), (1.0, 4.0)]
)
def test_a_streamed_answer_lasts_twelve_round_trips_within_bounds(
    round_trip_s: float, lasts_s: float
) -> None:
    talk = playing(CHUNKED)
    talk.round_trip_s = round_trip_s
    reply = talk.idle(1)
    began = talk.now
    while reply.finished is None:
        talk.say(b".")
        talk.later(0.01)
    assert talk.now - began == pytest.approx(lasts_s, abs=0.021)


def test_a_chunked_answer_ends_when_the_upstream_pauses() -> None:
    talk, reply = streaming(CHUNKED)
    talk.later(PAUSE_S - 0.01)
    assert reply.finished is None
    talk.later(0.011)
    assert reply.finished is True


def test_data_between_two_answers_marks_the_connection_as_idle() -> None:
    talk, reply = streaming(CHUNKED)
    talk.later(PAUSE_S + 0.001)
    assert reply.finished is True
    talk.say(b"waits for the next command")
    talk.say(b"as does this")
    assert reply.idle_marks == 2
    following = talk.idle(2)
    talk.say(b"streamed")
    assert (reply.idle_marks, following.idle_marks) == (2, 0)


def test_a_connection_is_not_marked_as_idle_after_the_end_of_streaming_or_of_the_session() -> None:
    for last in ("whole", "over"):
        talk, reply = streaming(CHUNKED)
        talk.later(PAUSE_S + 0.001)
        if last == "whole":
            talk.session.read_whole(Delivery.PROXY)
        else:
            talk.session.end(EndReason.DRAINED, talk.now)
        talk.say(b"data")
        assert reply.idle_marks == 0


def test_a_command_ends_a_chunked_answer() -> None:
    talk, reply = streaming(CHUNKED)
    following = talk.idle(2)
    assert reply.finished is True
    assert following.waits


def test_more_bytes_on_the_same_connection_end_a_chunked_answer() -> None:
    talk, reply = streaming(CHUNKED)
    talk.session.release(talk.now)
    assert reply.finished is True


def test_an_early_command_ends_a_chunked_answer() -> None:
    talk, reply = streaming(CHUNKED)
    talk.idle(4)
    assert reply.finished is True


# Declared lengths


def test_a_declared_answer_ends_when_its_length_is_filled() -> None:
    talk, reply = streaming(DECLARED)
    assert reply.length is not None
    left = reply.length - len(reply.streamed or b"")
    talk.say(bytes(left - 1))
    talk.later(5.0)
    assert reply.finished is None
    talk.say(b"last, and more")
    assert reply.finished is True
    assert talk.idle(2).streamed == b"\x01ast, and more"


def test_a_declared_length_follows_from_the_sessions_rate_and_the_duration_of_an_answer() -> None:
    talk = playing(DECLARED)
    talk.round_trip_s = 0.1
    number, lengths = 1, []
    reply = talk.idle(number)
    for _ in range(1000):
        talk.say(bytes(1250))
        talk.later(0.01)
        if reply.finished:
            lengths.append(reply.length)
            number += 1
            reply = talk.idle(number)
    assert lengths[-1] == pytest.approx(125_000, rel=0.25)


def test_a_burst_does_not_make_the_next_length_much_larger() -> None:
    talk = playing(DECLARED)
    reply = talk.idle(1)
    talk.say(bytes(100_000))
    assert reply.finished is True
    following = talk.idle(2)
    assert following.length is not None
    assert following.length <= 4 * 65_536 + 1


def test_a_send_during_a_declared_answer_takes_effect_at_once_and_gets_the_next_answer() -> None:
    talk, reply = streaming(DECLARED)
    behind = talk.send(2, b"acknowledgement")
    assert talk.upstream.written[-1] == b"acknowledgement"
    assert reply.finished is None
    assert behind.waits
    assert reply.length is not None
    talk.say(bytes(reply.length))
    assert reply.finished is True
    assert behind.waits, "librtmp's buffer must be empty when the next head arrives"
    talk.later(REST_S)
    assert behind.streamed is not None


def test_a_send_after_the_end_of_a_declared_answer_gets_its_answer_without_a_delay() -> None:
    talk, reply = streaming(DECLARED)
    behind = talk.send(2, b"acknowledgement")
    assert reply.length is not None
    talk.say(bytes(reply.length))
    later = talk.send(3, b"another")
    assert behind.body is not None
    talk.say(b"more")
    assert later.streamed is not None, "nothing but the older one had to rest"


def test_the_older_of_two_sends_during_a_declared_answer_gets_an_empty_answer() -> None:
    talk, reply = streaming(DECLARED)
    older, newer = talk.send(2, b"a"), talk.send(3, b"b")
    assert older.body == b"\x01"
    assert newer.waits
    assert reply.finished is None


def test_data_that_waits_for_a_full_connection_is_written_to_the_unfinished_answer_only() -> None:
    talk, reply = streaming(DECLARED)
    reply.takes = False
    talk.say(b"-second")
    talk.say(b"-third")
    older, newer = talk.send(2, b"a"), talk.send(3, b"b")
    assert older.body == b"\x01"
    assert newer.waits
    reply.takes = True
    talk.session.stream_drained(talk.now)
    assert reply.streamed == b"\x01first-second-third"


def test_sends_during_unfinished_answers_prove_that_no_proxy_buffers_the_answers() -> None:
    talk = playing(DECLARED)
    reply = talk.idle(1)
    for number in (2, 3):
        talk.say(b"x")
        behind = talk.send(number, b"acknowledgement")
        assert reply.length is not None
        assert reply.length < MOST_BYTES
        assert not reply.is_direct
        talk.say(bytes(reply.length - len(reply.streamed or b"")))
        talk.say(b"y")
        talk.later(REST_S)
        reply = behind
    assert reply.length == MOST_BYTES + 1
    assert reply.is_direct


def test_a_close_during_a_declared_answer_takes_effect_at_once() -> None:
    talk, reply = streaming(DECLARED)
    talk.close(2)
    assert talk.ended is EndReason.CLIENT_CLOSED
    assert reply.finished is False


def test_a_declared_answer_stays_open_while_the_player_is_paused() -> None:
    talk, reply = streaming(DECLARED)
    talk.later(300.0)
    assert talk.ended is None
    talk.say(b"-resumed")
    assert reply.streamed == b"\x01first-resumed"


# Ends


def test_all_received_data_is_sent_when_the_upstream_ends() -> None:
    talk, reply = streaming(CHUNKED)
    talk.say(b"-last")
    talk.upstream_ends()
    assert (reply.streamed, reply.finished) == (b"\x01first-last", True)
    assert talk.ended is EndReason.UPSTREAM_CLOSED


def test_the_end_of_the_upstream_closes_the_connection_of_a_declared_answer() -> None:
    talk, reply = streaming(DECLARED)
    talk.say(b"-last")
    talk.upstream_ends()
    assert (reply.streamed, reply.finished) == (b"\x01first-last", False)


def test_the_upstreams_last_data_waits_for_a_slow_client() -> None:
    talk, reply = streaming(CHUNKED)
    reply.takes = False
    talk.say(b"-taken")
    talk.say(b"-kept")
    talk.upstream_ends()
    assert talk.ended is None
    reply.takes = True
    talk.session.stream_drained(talk.now)
    assert (reply.streamed, reply.finished) == (b"\x01first-taken-kept", True)
    assert talk.ended is EndReason.UPSTREAM_CLOSED


@pytest.mark.parametrize("policy", [CHUNKED, DECLARED], ids=["chunked", "declared"])
def test_a_drain_writes_the_received_upstream_data(policy: StreamPolicy) -> None:
    talk, reply = streaming(policy)
    reply.takes = False
    talk.say(b"-second")
    talk.say(b"-third")
    talk.session.end(EndReason.DRAINED, talk.now)
    assert reply.streamed == b"\x01first-second-third"
    assert reply.finished is (policy is CHUNKED)


# A slow client


def test_a_slow_client_pauses_the_upstream_within_the_bounds() -> None:
    limits = Limits(down_buffer_bytes=8192)
    talk = playing(CHUNKED, limits)
    reply = talk.idle(1)
    talk.say(b"first")
    reply.takes = False
    talk.say(b"x")
    talk.say(bytes(4096))
    assert talk.upstream.paused
    # The first answer, which was a whole one, is kept for its repetition.
    assert talk.session.buffered_bytes - (PLAYING_BYTES + 1) <= limits.down_buffer_bytes
    reply.takes = True
    talk.session.stream_drained(talk.now)
    assert not talk.upstream.paused
    assert reply.streamed == b"\x01firstx" + bytes(4096)


def test_an_answer_does_not_end_before_a_slow_client_has_read_all_data() -> None:
    talk, reply = streaming(CHUNKED)
    reply.takes = False
    talk.say(b"x")
    talk.later(10.0)
    assert reply.finished is None
    reply.takes = True
    talk.session.stream_drained(talk.now)
    assert reply.finished is True


def test_a_pause_of_the_upstream_ends_the_answer_of_a_slow_client_that_has_caught_up() -> None:
    talk, reply = streaming(CHUNKED)
    reply.takes = False
    talk.say(b"x")
    talk.later(0.1)
    reply.takes = True
    talk.say(b"y")
    talk.session.stream_drained(talk.now)
    assert reply.finished is None
    talk.later(PAUSE_S + 0.001)
    assert reply.finished is True


@pytest.mark.parametrize(("waiting_bytes", "lasts_s"), [(16 * 1024, 1.2), (16 * 1024 + 1, 3.6)])
def test_an_answer_that_begins_with_more_than_16_kib_lasts_three_times_as_long(
    waiting_bytes: int, lasts_s: float
) -> None:
    talk = playing(CHUNKED)
    talk.round_trip_s = 0.1
    talk.say(bytes(waiting_bytes))
    reply, began = talk.idle(1), talk.now
    while reply.finished is None:
        talk.say(bytes(1000))
        talk.later(0.01)
    assert talk.now - began == pytest.approx(lasts_s, abs=0.02)


def test_a_client_with_much_waiting_data_gets_longer_answers() -> None:
    """On a slow network, each gap between two answers delays the client's catching up."""
    talk = playing(CHUNKED)
    talk.round_trip_s = 0.1
    reply = talk.idle(1)
    while reply.finished is None:
        talk.say(bytes(1000))
        talk.later(0.01)
    for _ in range(50):
        talk.say(bytes(1000))
        talk.later(0.01)
    behind, began = talk.idle(2), talk.now
    while behind.finished is None:
        talk.say(bytes(1000))
        talk.later(0.01)
    assert talk.now - began == pytest.approx(4.0, abs=0.02)


# Cuts


@pytest.mark.parametrize("policy", [CHUNKED, DECLARED], ids=["chunked", "declared"])
def test_a_connection_lost_during_a_streamed_answer_ends_the_session(policy: StreamPolicy) -> None:
    talk, reply = streaming(policy)
    talk.cut(reply)
    talk.say(b"lost")
    talk.later(0.2)
    assert talk.ended is EndReason.CLIENT_LOST


def test_commands_received_before_the_loss_of_a_connection_take_effect() -> None:
    talk, reply = streaming(DECLARED)
    talk.cut(reply)
    assert talk.send(2, b"last words").body == b"\x01"
    assert talk.upstream.written[-1] == b"last words"
    assert talk.close(3).body == b"\x00"
    assert talk.ended is EndReason.CLIENT_CLOSED


def test_an_idle_after_a_lost_streamed_answer_gets_404_since_data_is_missing() -> None:
    talk, reply = streaming(CHUNKED)
    talk.cut(reply)
    refused = talk.idle(2)
    assert isinstance(refused.refusal, UnknownSession)


def test_a_streamed_answer_is_not_repeated() -> None:
    talk, reply = streaming(CHUNKED)
    talk.later(2 * PAUSE_S)
    assert reply.finished is True
    assert talk.idle(1).status == 404


def test_a_retry_of_ffmpeg_after_a_streamed_answer_ends_the_session() -> None:
    """FFmpeg retries an exchange if it has not read the head of the answer, so the data is lost."""
    talk = Conversation(tries_again=True, policy=CHUNKED)
    talk.say(bytes(PLAYING_BYTES))
    talk.may_stream = False
    talk.send(0, b"\x03")
    talk.may_stream = True
    reply = talk.idle(1)
    talk.say(b"data")
    talk.later(2 * PAUSE_S)
    assert reply.finished is True
    talk.reconnect()
    assert talk.send(2, b"\x00").status == 404
    assert talk.ended is EndReason.CLIENT_LOST


def test_a_command_on_another_connection_ends_streaming() -> None:
    talk = playing(CHUNKED)
    talk.session.carried_by(None, None)
    assert talk.session.streaming == "streamed"
    talk.session.carried_by(None, None)
    assert talk.session.streaming == "connections"
    reply = talk.idle(1)
    talk.say(b"data")
    assert reply.body == b"\x01data"


def test_a_connection_that_carried_another_session_gets_whole_answers() -> None:
    talk = playing(CHUNKED)
    talk.session.carried_by(None, None, is_shared=True)
    assert talk.session.streaming == "connections"


# The policy

VIA = b"Via: 1.1 proxy"


@pytest.mark.parametrize(
    ("client", "head", "mode", "framing", "cause"),
    [
        (FFMPEG, FFMPEG_HEAD, StreamedAnswers.DIRECT, Framing.CHUNKED, Delivery.STREAMED),
        (LIBRTMP, LIBRTMP_HEAD, StreamedAnswers.DIRECT, Framing.DECLARED, Delivery.STREAMED),
        (OTHER, FFMPEG_HEAD, StreamedAnswers.ALWAYS, None, Delivery.CLIENT),
        (FFMPEG, FFMPEG_HEAD, StreamedAnswers.NEVER, None, Delivery.OFF),
        (FFMPEG, with_field(FFMPEG_HEAD, VIA), StreamedAnswers.DIRECT, None, Delivery.PROXY),
        (
            FFMPEG,
            with_field(FFMPEG_HEAD, VIA),
            StreamedAnswers.ALWAYS,
            Framing.CHUNKED,
            Delivery.STREAMED,
        ),
    ],
)
def test_the_policy_follows_client_configuration_and_proxies(
    client: Client, head: bytes, mode: StreamedAnswers, framing: Framing | None, cause: Delivery
) -> None:
    policy = policy_for(client, fields_of(head), mode, 1.0, Limits())
    assert (policy.framing, policy.cause) == (framing, cause)


def test_streamed_answers_always_ignores_changing_connections() -> None:
    policy = policy_for(FFMPEG, fields_of(FFMPEG_HEAD), StreamedAnswers.ALWAYS, 1.0, Limits())
    talk = playing(policy)
    for _ in range(3):
        talk.session.carried_by(None, None)
    assert talk.session.streaming == "streamed"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_poll_after_the_last_data_of_an_upstream_that_closed_between_two_answers_is_refused(
    when: str,
) -> None:
    talk, reply = streaming(DECLARED)
    held = talk.send(2, b"acknowledgement")
    talk.say(bytes((reply.length or 0) - len(reply.streamed or b"")))
    assert (reply.finished, held.waits) == (True, True)
    talk.say(b"last")
    talk.upstream_ends()
    if when == "after":
        talk.later(REST_S)
        assert (held.body, talk.ended) == (b"\x01last", EndReason.UPSTREAM_CLOSED)
    following = talk.idle(3)
    assert held.body == b"\x01last"
    assert following.status == 404
    assert talk.ended is EndReason.UPSTREAM_CLOSED


def test_more_bytes_behind_the_last_answer_end_a_session_whose_upstream_has_closed() -> None:
    talk, reply = streaming(DECLARED)
    held = talk.send(2, b"acknowledgement")
    talk.say(bytes((reply.length or 0) - len(reply.streamed or b"")))
    talk.say(b"last")
    talk.upstream_ends()
    talk.session.release(talk.now)
    assert held.body == b"\x01last"
    assert talk.ended is EndReason.UPSTREAM_CLOSED
