"""Lost connections and late answers, seen from the client of a session."""

from __future__ import annotations

import pytest

from gateway.protocols.limits import Limits
from gateway.protocols.tunnel_client.interfaces import End
from tests.protocols.tunnel_client.dialogue import BEHIND_A_PROXY, Dialogue, answer, chunked

EMPTY = answer(b"\x01")
LIMITS = Limits()


def test_unanswered_commands_are_repeated_in_order_on_a_new_connection() -> None:
    dialogue = Dialogue().open()
    for text in (b"a", b"b", b"c"):
        dialogue.write(text)
    dialogue.says(EMPTY)
    dialogue.commands()
    dialogue.loses()
    assert dialogue.connects == [0, 0]
    # What is written without a connection becomes one send.
    dialogue.write(b"d")
    dialogue.write(b"e")
    dialogue.connected(0)
    assert dialogue.sent == [
        (0, "send/1", b"b"),
        (0, "send/2", b"c"),
        (0, "send/3", b"de"),
    ]


def test_both_connections_commands_are_repeated_in_order() -> None:
    dialogue = Dialogue().open(BEHIND_A_PROXY)
    dialogue.write(b"a")
    dialogue.write(b"b")
    dialogue.connected(1)
    dialogue.loses(1)
    dialogue.loses(0)
    dialogue.commands()
    dialogue.connected(0)
    dialogue.connected(1)
    assert dialogue.commands() == ["send/0", "send/1"]


@pytest.mark.parametrize("arrived", range(1, 12))
def test_what_has_arrived_of_an_answer_is_skipped_when_it_is_repeated(arrived: int) -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    body = b"\x010123456789"
    head = len(answer(body)) - len(body)
    dialogue.says(answer(body)[: head + arrived])
    dialogue.loses()
    if arrived < len(body):
        dialogue.connected(0)
        dialogue.says(answer(body))
    assert dialogue.received_data == b"0123456789"


def test_a_streamed_answer_may_be_repeated_whole_and_be_longer() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.says(chunked(b"\x01ab", b"cd")[:-5])
    dialogue.loses()
    dialogue.connected(0)
    dialogue.says(answer(b"\x01abcdef"))
    assert dialogue.received_data == b"abcdef"
    assert dialogue.end is None


def test_an_answer_that_is_repeated_shorter_ends_the_session() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"play")
    dialogue.says(chunked(b"\x01abcd")[:-5])
    dialogue.loses()
    dialogue.connected(0)
    dialogue.says(answer(b"\x01ab"))
    assert (dialogue.end, dialogue.cause) == (End.LOST, "it repeats another answer")
    assert dialogue.received_data == b"abcd"


def test_a_server_without_options_ends_with_a_connection_that_owes_an_answer() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"a")
    dialogue.loses()
    assert dialogue.end is End.LOST
    assert dialogue.cause == "the connection was lost before the answer was complete"


def test_a_connection_that_is_lost_between_commands_is_replaced_for_the_next_one() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"a")
    dialogue.says(EMPTY)
    dialogue.loses()
    assert (dialogue.connects, dialogue.end) == ([0], None)
    dialogue.write(b"b")
    assert dialogue.connects == [0, 0]
    dialogue.connected(0)
    assert dialogue.commands() == ["send/0", "send/1"]


def test_a_connection_that_the_server_ends_with_an_answer_is_not_used_again() -> None:
    dialogue = Dialogue().open()
    for text in (b"a", b"b"):
        dialogue.write(text)
    dialogue.commands()
    dialogue.says(answer(b"\x01", b"Connection: close\r\n"))
    assert (dialogue.closes, dialogue.connects) == (
        [0],
        [
            0,
            0,
        ],
    )
    dialogue.connected(0)
    assert dialogue.commands() == ["send/1"]


def test_a_server_without_persistent_connections_gets_one_command_on_each() -> None:
    dialogue = Dialogue().open()
    closing = answer(b"\x01", b"Connection: close\r\n")
    dialogue.write(b"a")
    dialogue.says(closing)
    dialogue.write(b"b")
    dialogue.connected(0)
    dialogue.write(b"c")
    dialogue.connected(1)
    dialogue.write(b"d")
    assert [(link, target) for link, target, _ in dialogue.sent[1:]] == [
        (0, "send/1"),
        (1, "send/2"),
    ]
    dialogue.says(closing, link=0)
    dialogue.connected(0)
    assert dialogue.sent[-1] == (0, "send/3", b"d")


def test_without_persistent_connections_the_next_one_is_opened_before_it_is_needed() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.says(answer(b"\x01", b"Connection: close\r\n"))
    dialogue.write(b"b")
    dialogue.connected(0)
    assert dialogue.commands() == ["send/0", "send/1"]
    assert dialogue.connects == [0, 0, 1]
    dialogue.connected(1)
    dialogue.write(b"c")
    assert dialogue.sent == [(1, "send/2", b"c")]


@pytest.mark.parametrize("status", [b"502 Bad Gateway", b"503 Unavailable", b"504 Timeout"])
def test_a_command_that_a_proxy_could_not_forward_is_repeated(status: bytes) -> None:
    dialogue = Dialogue().open(BEHIND_A_PROXY)
    dialogue.write(b"a")
    dialogue.says(answer(b"sorry", status=status))
    assert dialogue.closes == [0]
    dialogue.connected(0)
    assert dialogue.commands() == ["send/0", "send/0"]
    dialogue.says(answer(b"\x01data"))
    assert dialogue.received_data == b"data"


def test_without_options_a_proxys_refusal_ends_the_session() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"a")
    dialogue.says(answer(b"sorry", status=b"502 Bad Gateway"))
    assert dialogue.end is End.CLOSED


def test_a_server_that_cannot_be_reached_again_ends_the_session_in_time() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.loses(end=End.VANISHED)
    attempts = 0
    begun = dialogue.now
    while dialogue.end is None:
        if len(dialogue.connects) > attempts + 1:
            attempts = len(dialogue.connects) - 1
            dialogue.client.lost(0, dialogue.now, End.VANISHED)
        dialogue.later(0.01)
        assert dialogue.now < begun + 2 * LIMITS.vanished_s
    assert dialogue.end is End.VANISHED
    assert dialogue.now - begun == pytest.approx(LIMITS.vanished_s, abs=1.0)
    # The pauses between the attempts grow up to a second.
    assert 10 < attempts < 25


def test_a_server_that_answers_nothing_ends_the_session() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.later(LIMITS.silent_session_s - 0.1)
    assert dialogue.end is None
    dialogue.later(0.2)
    assert (dialogue.end, dialogue.cause) == (End.LOST, "it does not answer in time")


def test_a_server_that_accepts_connections_and_answers_nothing_ends_the_session() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    begun = dialogue.now
    while dialogue.end is None:
        dialogue.later(0.1)
        if len(dialogue.connects) > len(dialogue.closes):
            dialogue.connected(0)
        assert dialogue.now - begun < 2 * LIMITS.silent_session_s
    assert dialogue.now - begun == pytest.approx(LIMITS.silent_session_s, abs=0.2)


def test_the_deadline_of_an_answer_begins_when_the_one_before_it_is_complete() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.write(b"b")
    for _ in range(2):
        dialogue.says(b"HTTP/1.1 200 OK\r\nContent-Length: 40001\r\n\r\n\x01")
        for _ in range(40):
            dialogue.later(1.0)
            dialogue.says(bytes(1000))
    assert dialogue.end is None


def test_an_answer_that_makes_progress_may_take_longer() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n\x01")
    for _ in range(60):
        dialogue.says(bytes(1000))
        dialogue.later(1.0)
    assert dialogue.end is None
    dialogue.later(2 * LIMITS.silent_session_s)
    assert dialogue.end is End.LOST


def test_a_paused_session_has_no_late_answers() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.client.pause(dialogue.now)
    dialogue.later(5 * LIMITS.silent_session_s)
    assert dialogue.end is None


@pytest.mark.parametrize("resumes", [False, True])
def test_a_loss_after_a_long_pause_has_its_own_time_for_recovery(resumes: bool) -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.loses()
    dialogue.connected(0)
    dialogue.client.pause(dialogue.now)
    dialogue.later(4 * LIMITS.vanished_s)
    if resumes:
        dialogue.client.resume(dialogue.now)
    dialogue.loses()
    dialogue.later(1.0)
    assert dialogue.end is None
    dialogue.commands()
    dialogue.connected(0)
    assert "send/0" in dialogue.commands()


def test_a_response_without_a_request_closes_the_connection_and_not_the_session() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.says(answer(b"", status=b"408 Request Timeout"))
    assert (dialogue.closes, dialogue.end) == ([0], None)
    dialogue.write(b"a")
    dialogue.connected(0)
    assert dialogue.commands() == ["send/0"]


def test_a_connection_without_a_byte_is_replaced_after_the_hold_and_two_seconds() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    dialogue.later(2.2)
    assert dialogue.closes == []
    dialogue.later(1.2)
    assert (dialogue.closes, dialogue.connects) == ([0], [0, 0])
    dialogue.connected(0)
    assert dialogue.commands() == ["send/0", "send/0"]
    dialogue.says(answer(b"\x01data"))
    assert dialogue.received_data == b"data"


def test_a_connection_is_not_replaced_while_answers_arrive_or_while_it_is_not_read() -> None:
    dialogue = Dialogue().open()
    dialogue.write(b"a")
    for _ in range(10):
        dialogue.later(1.0)
        dialogue.says(EMPTY)
    dialogue.client.pause(dialogue.now)
    dialogue.later(8.0)
    assert dialogue.closes == []


def test_a_connection_whose_peer_acknowledges_data_is_not_replaced() -> None:
    dialogue = Dialogue().open()
    dialogue.write(bytes(30_000))
    for left in range(30_000, 0, -1000):
        dialogue.unacknowledged_bytes = left
        dialogue.later(1.0)
        if dialogue.now > 120.0:
            break
    assert dialogue.closes == []
    # It has acknowledged nothing since.
    dialogue.later(4.0)
    assert dialogue.closes == [0]


def test_while_there_is_no_answer_connections_are_replaced_ever_more_rarely() -> None:
    dialogue = Dialogue(Limits(silent_session_s=60.0)).open()
    dialogue.write(b"a")
    for _ in range(590):
        dialogue.later(0.1)
        if len(dialogue.connects) > len(dialogue.closes) + 1:
            raise AssertionError("two connections")
        if len(dialogue.closes) == len(dialogue.connects) - 1:
            dialogue.connected(0)
    # After 2.25, 4.5, 9 and 15 seconds more.
    assert 4 <= len(dialogue.closes) <= 6
    assert dialogue.end is None


def test_a_server_that_does_not_keep_answers_may_be_quiet() -> None:
    dialogue = Dialogue().open(b"")
    dialogue.write(b"a")
    dialogue.later(20.0)
    assert (dialogue.closes, dialogue.end) == ([], None)
