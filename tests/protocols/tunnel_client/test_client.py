"""The client of a session: what it asks for, and when."""

from __future__ import annotations

from math import inf

import pytest

from gateway.protocols.limits import Limits
from gateway.protocols.responses import MOST_INTERIM
from gateway.protocols.tunnel_client.client import SEND_BYTES
from gateway.protocols.tunnel_client.interfaces import End
from gateway.protocols.tunnel_options import MOST_LANES, ClientFigures, idle_body
from tests.protocols.tunnel_client.dialogue import (
    AGREED,
    BEHIND_A_PROXY,
    Dialogue,
    answer,
    chunked,
)

EMPTY = answer(b"\x01")
NOT_FOUND = answer(b"", status=b"404 Not Found")


def test_the_open_request_names_the_client_and_asks_to_resume() -> None:
    raw = Dialogue().raw[0]
    assert raw.startswith(b"POST /open/1 HTTP/1.1\r\nHost: host\r\n")
    assert b"\r\nContent-Type: application/x-fcs\r\n" in raw
    assert b"\r\nX-Forwarded-For: 192.0.2.1\r\n" in raw
    assert b"\r\nRTMPT-Options: resume\r\n" in raw
    assert raw.endswith(b"\r\nContent-Length: 1\r\n\r\n\x00")


@pytest.mark.parametrize("body", [b"ID\n", b"ID\r\n", b"ID"])
def test_the_id_may_end_in_a_line_end(body: bytes) -> None:
    dialogue = Dialogue()
    dialogue.says(answer(body))
    assert dialogue.is_open
    dialogue.write(b"x")
    assert dialogue.sent[-1] == (0, "send/0", b"x")


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (answer(b"", status=b"503 Service Unavailable"), "it answers to open with status 503"),
        (answer(b"a/b\n"), "its answer to open is not a session id"),
        (answer(b"a b\n"), "its answer to open is not a session id"),
        (answer(b"\n"), "its answer to open is not a session id"),
        (answer(b"x" * 100_000), "its answer to open is not a session id"),
        (b"\x03" * 1537, "its answer is not one of HTTP: malformed status line"),
        (b"HTTP/1.1 200 OK\r\n\r\nID\n", "its answer is not one of HTTP: an answer without its"),
        (b"x" * 40_000, "its answer is not one of HTTP: head over the limit"),
    ],
)
def test_an_open_that_fails_ends_the_session_with_its_cause(said: bytes, cause: str) -> None:
    dialogue = Dialogue()
    dialogue.says(said + b"\r\n\r\n" if said[:1] == b"\x03" else said)
    assert (dialogue.is_open, dialogue.end) == (False, End.LOST)
    assert dialogue.cause.startswith(cause)


FIGURES = ClientFigures(0.1, 0.2)


def test_what_was_measured_is_told_once_by_an_idle_behind_the_sends() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"x")
    dialogue.client.tell(FIGURES, dialogue.now)
    dialogue.write(b"y")
    assert dialogue.sent == [
        (0, "send/0", b"x"),
        (0, "idle/1", idle_body(1, False, FIGURES)),
        (0, "send/2", b"y"),
    ]


def test_what_was_measured_waits_for_a_place() -> None:
    dialogue = Dialogue().open()
    for _ in range(4):
        dialogue.write(b"x")
    dialogue.client.tell(FIGURES, dialogue.now)
    assert dialogue.commands()[-1] == "send/3"
    dialogue.says(EMPTY)
    assert dialogue.sent[-1] == (0, "idle/4", idle_body(3, False, FIGURES))


def test_a_server_that_agrees_to_nothing_is_not_told_what_was_measured() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.client.tell(FIGURES, dialogue.now)
    assert dialogue.sent == []
    dialogue.write(b"x")
    dialogue.says(EMPTY)
    dialogue.now += 1.0
    dialogue.client.expire(dialogue.now)
    assert dialogue.sent[-1] == (0, "idle/1", b"\x00")


def test_each_write_is_one_send_and_nothing_is_polled_between() -> None:
    dialogue = Dialogue().open()
    for number in range(4):
        dialogue.write(b"%d" % number)
    assert dialogue.commands() == ["send/0", "send/1", "send/2", "send/3"]
    # As the gateway answers to held sends.
    for number in range(4, 20):
        dialogue.says(EMPTY)
        dialogue.write(b"%d" % number)
        dialogue.later(0.01)
    assert dialogue.commands() == [f"send/{number}" for number in range(4, 20)]


def test_no_more_commands_than_agreed_are_unanswered_and_writes_wait_together() -> None:
    dialogue = Dialogue().open()
    for _ in range(4):
        dialogue.write(b"x")
    dialogue.write(b"one")
    dialogue.write(b"two")
    assert len(dialogue.commands()) == 4
    assert (dialogue.client.unsent, dialogue.client.unacknowledged) == (6, 10)
    dialogue.says(EMPTY)
    assert dialogue.sent == [(0, "send/4", b"onetwo")]
    assert dialogue.client.unsent == 0
    assert dialogue.drains > 0


def test_a_send_is_no_larger_than_those_that_every_server_takes() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"x" * (2 * SEND_BYTES + 1))
    assert [len(body) for _, _, body in dialogue.sent] == [SEND_BYTES, SEND_BYTES, 1]


def test_a_server_without_options_gets_one_command_at_a_time_on_one_connection() -> None:
    dialogue = Dialogue().open(b"")
    for text in (b"a", b"b", b"c"):
        dialogue.write(text)
    assert dialogue.commands() == ["send/0"]
    dialogue.says(EMPTY)
    assert dialogue.sent == [(0, "send/1", b"bc")]
    assert dialogue.connects == [0]


def test_behind_a_proxy_a_command_does_not_wait_behind_a_held_one() -> None:
    dialogue = Dialogue().open(BEHIND_A_PROXY)
    dialogue.write(b"a")
    dialogue.write(b"b")
    assert dialogue.connects == [0, 1]
    dialogue.connected(1)
    dialogue.write(b"c")
    # What is written while another connection is opened becomes one send.
    dialogue.write(b"d")
    dialogue.connected(2)
    assert dialogue.sent == [
        *((0, "send/0", b"a"), (1, "send/1", b"b"), (2, "send/2", b"c")),
    ]
    dialogue.says(EMPTY)
    assert dialogue.sent[-1] == (0, "send/3", b"d")


def test_behind_a_proxy_there_are_as_many_connections_as_commands_up_to_a_limit() -> None:
    dialogue = Dialogue().open(b"RTMPT-Options: resume=100\r\n")
    dialogue.write(b"0")
    for link in range(1, 2 * MOST_LANES):
        dialogue.write(b"%d" % link)
        if link < MOST_LANES:
            dialogue.connected(link)
    assert dialogue.connects == list(range(MOST_LANES))
    assert [link for link, _, _ in dialogue.sent] == list(range(MOST_LANES))


def test_a_player_behind_a_proxy_needs_one_connection() -> None:
    dialogue = Dialogue().open(BEHIND_A_PROXY)
    dialogue.write(b"play")
    for _ in range(20):
        dialogue.says(answer(b"\x01data"))
    assert dialogue.connects == [0]
    assert dialogue.received_data == b"data" * 20


def test_after_data_and_after_a_held_idle_the_next_poll_is_sent_at_once() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.later(0.005)
    dialogue.says(answer(b"\x01data"))
    assert dialogue.commands() == ["send/0", "idle/1"]
    dialogue.later(0.1)
    dialogue.says(EMPTY)
    assert dialogue.commands() == ["idle/2"]


@pytest.mark.parametrize(
    ("interval", "pause_s"),
    [(0, 0.016), (1, 0.016), (3, 0.048), (5, 0.08), (0x21, 0.528), (0xFF, 0.528)],
)
def test_a_server_that_does_not_hold_is_polled_at_the_pace_that_it_asks_for(
    interval: int, pause_s: float
) -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"play")
    dialogue.says(answer(bytes([interval])))
    dialogue.commands()
    dialogue.later(pause_s - 0.001)
    assert dialogue.commands() == []
    dialogue.later(0.002)
    assert dialogue.commands() == ["idle/1"]


def test_an_idle_says_whether_all_earlier_answers_have_arrived() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.says(answer(b"\x01data"))
    assert dialogue.sent[-1] == (0, "idle/1", b"\x01")
    dialogue.client.pause(dialogue.now)
    dialogue.later(10.1)
    # The idle of a paused session, behind an unanswered one.
    assert dialogue.sent[-1] == (0, "idle/2", b"\x02")


def test_an_idle_says_nothing_of_answers_to_a_server_that_does_not_keep_them() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"play")
    dialogue.says(answer(b"\x01data"))
    assert dialogue.sent[-1] == (0, "idle/1", b"\x00")


def test_while_much_arrives_the_next_command_is_sent_before_the_answer_ends() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.says(chunked(b"\x02data")[:-5])
    assert dialogue.commands() == ["send/0"]
    dialogue.says(b"2710\r\n" + bytes(10_000) + b"\r\n")
    assert dialogue.commands() == []
    dialogue.says(b"7530\r\n" + bytes(30_000) + b"\r\n")
    assert dialogue.sent == [(0, "idle/1", b"\x02")]
    dialogue.says(b"2710\r\n" + bytes(10_000) + b"\r\n")
    assert dialogue.commands() == ["idle/1"]


def test_while_little_arrives_the_next_command_is_sent_after_some_time() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.says(chunked(b"\x02data")[:-5])
    dialogue.later(0.3)
    # Nothing has arrived that the server does not know of.
    assert dialogue.commands() == ["send/0"]
    dialogue.says(b"1\r\nx\r\n")
    dialogue.says(b"1\r\nx\r\n")
    assert dialogue.commands() == ["idle/1"]


def test_a_server_that_keeps_no_answers_gets_no_command_before_the_answer_ends() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"play")
    dialogue.says(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
    dialogue.says(bytes(40_000))
    assert dialogue.commands() == ["send/0"]


def kept(dialogue: Dialogue) -> None:
    """A streamed answer of half a second arrives at once."""
    dialogue.later(0.5)
    dialogue.says(chunked(b"\x02da", b"ta"))


def test_a_path_that_keeps_streamed_answers_until_their_end_gets_whole_ones() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.later(0.1)
    # The first one shows the round trip time.
    dialogue.says(chunked(b"\x02data"))
    assert dialogue.sent[-1] == (0, "idle/1", b"\x01")
    kept(dialogue)
    assert dialogue.sent[-1] == (0, "idle/2", b"\x01")
    kept(dialogue)
    assert dialogue.sent[-1] == (0, "idle/3", b"\x81")


@pytest.mark.parametrize("case", ["gradually", "soon", "ended by a command", "repeated"])
def test_streamed_answers_that_arrive_otherwise_are_not_taken_for_kept_ones(case: str) -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    for _ in range(6):
        dialogue.later(0.1 if case == "soon" else 0.5)
        said = chunked(b"\x02da", b"ta")
        if case == "ended by a command":
            dialogue.write(b"ack")
        if case == "repeated":
            dialogue.loses()
            dialogue.connected(0)
        if case == "gradually":
            dialogue.says(said[:-5])
            dialogue.later(0.1)
            said = said[-5:]
        dialogue.says(said)
        if case == "ended by a command":
            dialogue.says(EMPTY)
    assert all(body != b"\x81" for _, _, body in dialogue.sent)


def test_a_session_that_never_writes_is_polled_all_the_same() -> None:
    dialogue = Dialogue().open()
    dialogue.later(1.5)
    assert dialogue.commands() == ["idle/0"]


def test_a_paused_session_is_not_polled_except_to_stay_alive() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.client.pause(dialogue.now)
    dialogue.says(answer(b"\x01data"))
    dialogue.commands()
    dialogue.later(9.0)
    assert dialogue.commands() == []
    dialogue.later(2.0)
    assert dialogue.commands() == ["idle/1"]
    dialogue.client.resume(dialogue.now)
    dialogue.says(EMPTY)
    dialogue.later(0.02)
    assert dialogue.commands() == ["idle/2"]


def test_data_is_received_as_it_arrives_whole_or_byte_by_byte() -> None:
    said = chunked(b"\x01ab", b"c", b"defg") + answer(b"\x01hi") + EMPTY
    for size in (1, 7, 1 << 20):
        dialogue = Dialogue().open()
        for _ in range(3):
            dialogue.write(b"x")
        for at in range(0, len(said), size):
            dialogue.says(said[at : at + size])
        assert dialogue.received_data == b"abcdefghi"
        assert dialogue.end is None, dialogue.cause


def test_a_chunk_is_received_before_the_answer_ends() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.says(chunked(b"\x01data")[:-5])
    assert dialogue.received_data == b"data"
    # The answer has begun, and does not keep a send waiting.
    dialogue.write(b"ack")
    assert dialogue.commands() == ["send/0", "send/1"]


def test_data_of_a_later_answer_waits_for_the_earlier_one() -> None:
    dialogue = Dialogue().open(BEHIND_A_PROXY)
    dialogue.write(b"a")
    dialogue.write(b"b")
    dialogue.connected(1)
    dialogue.says(answer(b"\x01second"), link=1)
    assert dialogue.received_data == b""
    dialogue.says(answer(b"\x01first"))
    assert dialogue.received_data == b"firstsecond"


def test_data_ahead_of_its_turn_is_limited() -> None:
    dialogue = Dialogue(Limits(down_buffer_bytes=8192)).open(BEHIND_A_PROXY)
    dialogue.write(b"a")
    dialogue.write(b"b")
    dialogue.connected(1)
    dialogue.says(answer(b"\x01" + bytes(9000)), link=1)
    assert (dialogue.end, dialogue.cause) == (End.LOST, "its answers are over the limit")


def test_a_server_that_ends_the_session_is_reported_behind_its_data() -> None:
    dialogue = Dialogue().open()
    for _ in range(3):
        dialogue.write(b"x")
    dialogue.says(answer(b"\x01last words"))
    dialogue.says(NOT_FOUND)
    assert (dialogue.received_data, dialogue.end) == (b"last words", End.CLOSED)
    assert dialogue.client.deadline == inf


def test_a_close_follows_all_data_and_ends_the_session_with_its_answer() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"a")
    dialogue.write(b"b")
    dialogue.client.close(dialogue.now)
    dialogue.write(b"ignored")
    dialogue.says(EMPTY)
    assert dialogue.sent[-1] == (0, "send/1", b"b")
    dialogue.says(EMPTY)
    assert dialogue.commands() == ["send/0", "send/1", "close/2"]
    assert dialogue.end is None
    dialogue.says(answer(b"\x00"))
    assert (dialogue.end, dialogue.received_data) == (End.CLOSED, b"")
    assert dialogue.closes == [0]


def test_an_abort_tells_the_server_and_waits_for_nothing() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.client.abort()
    assert dialogue.commands() == ["send/0", "close"]
    assert (dialogue.end, dialogue.closes) == (End.ABORTED, [0])


def test_an_interim_response_is_skipped() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.says(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"\x01data"))
    assert dialogue.received_data == b"data"


def test_interim_responses_without_end_end_the_session() -> None:
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    dialogue = Dialogue().open()
    for _ in range(2):
        dialogue.write(b"a")
        dialogue.says(interim * MOST_INTERIM + answer(b"\x01data"))
    assert dialogue.received_data == b"datadata"
    dialogue.write(b"a")
    dialogue.says(interim * (MOST_INTERIM + 1))
    assert dialogue.end is End.LOST
    assert dialogue.cause.endswith("too many interim responses")


def test_the_server_decides_how_many_commands_within_a_limit() -> None:
    dialogue = Dialogue().open(b"RTMPT-Options: resume=999, direct\r\n")
    for _ in range(200):
        dialogue.write(b"x")
    assert len(dialogue.commands()) == 128


def test_the_data_of_unanswered_sends_is_limited() -> None:
    dialogue = Dialogue().open(b"RTMPT-Options: resume=1000, direct\r\n")
    dialogue.write(bytes(5 * 1024 * 1024))
    sent = sum(len(body) for _, _, body in dialogue.sent)
    assert sent == 128 * SEND_BYTES
    dialogue.says(EMPTY)
    assert len(dialogue.commands()) == sent // SEND_BYTES + 1


@pytest.mark.parametrize("value", [b"resume=0", b"resume", b"resume=-1", b"other=4", b""])
def test_options_that_say_nothing_are_none(value: bytes) -> None:
    dialogue = Dialogue().open(b"RTMPT-Options: %b\r\n" % value)
    dialogue.write(b"a")
    dialogue.write(b"b")
    assert dialogue.commands() == ["send/0"]


def test_an_answer_without_an_interval_byte_is_empty() -> None:
    dialogue = Dialogue().open(AGREED)
    dialogue.write(b"a")
    dialogue.says(answer(b""))
    dialogue.later(0.02)
    assert dialogue.commands() == ["send/0", "idle/1"]
