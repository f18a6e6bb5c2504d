"""HTTP connections: requests, ordered responses, and limits."""

from __future__ import annotations

import itertools
import re
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogLevel, globalLogPublisher

from gateway.protocols.limits import Limits
from tests.helpers import logged as log
from tests.helpers.http_conversation import HOLD_S, Gateway, Upstream, Wire
from tests.protocols.malformed import MALFORMED, NEXT, Malformed

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n")


def request(
    target: bytes, body: bytes | None = b"", *fields: bytes, version: bytes = b"1.1"
) -> bytes:
    """A POST as clients send it; without Content-Length if ``body`` is None."""
    lines = [b"POST %b HTTP/%b" % (target, version), b"Host: a", *fields]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def answers(wire: Wire) -> list[tuple[int, bytes]]:
    """The status and body of every answer sent since the last call."""
    sent, wire.writes = b"".join(wire.writes), []
    found = []
    while sent:
        match = _STATUS.match(sent)
        assert match is not None, sent
        length = re.search(rb"(?m)^Content-Length: (\d+)\r$", match[2])
        end = match.end() + (int(length[1]) if length else 0)
        found.append((int(match[1]), sent[match.end() : end]))
        sent = sent[end:]
    return found


def open_session(gateway: Gateway, wire: Wire) -> tuple[bytes, Upstream]:
    wire.arrive(request(b"/open/1", b"\0"))
    ((status, body),) = answers(wire)
    assert status == 200
    return body.rstrip(b"\n"), gateway.upstreams[-1]


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def wire(gateway: Gateway) -> Wire:
    return gateway.accept()


@pytest.fixture
def session(gateway: Gateway, wire: Wire) -> tuple[bytes, Upstream]:
    return open_session(gateway, wire)


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """The logged errors; the test removes the expected ones."""
    events: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if event["log_level"] >= LogLevel.error:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)
    assert not events


# --- Commands ---


@pytest.mark.parametrize("body", [None, b"", b"\0"])
def test_open_is_answered_with_the_id_and_one_newline(gateway: Gateway, wire: Wire, body) -> None:
    wire.arrive(request(b"/open/1", body))
    ((status, said),) = answers(wire)
    assert status == 200
    assert re.fullmatch(rb"aa00[A-Za-z0-9_-]{22}\n", said)
    assert gateway.admission.living == 1


@pytest.mark.parametrize("body", [None, b"", b"\0"])
def test_ident2_gets_404_with_an_empty_body_on_a_persistent_connection(wire: Wire, body) -> None:
    wire.arrive(request(b"/fcs/ident2", body))
    assert answers(wire) == [(404, b"")]
    wire.arrive(request(b"/open/1"))
    assert answers(wire)[0][0] == 200


@pytest.mark.parametrize("first", [0, 1])
def test_the_body_of_a_send_is_sent_upstream_and_its_answer_has_upstream_data(
    wire: Wire, session, first: int
) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/send/%b/%d" % (session_id, first), b"\x03handshake"))
    assert upstream.received == [b"\x03handshake"]
    assert answers(wire) == [(200, b"\x01")]
    upstream.says(b"hello")
    wire.arrive(request(b"/send/%b/%d" % (session_id, first + 1), b"more"))
    assert upstream.received == [b"\x03handshake", b"more"]
    assert answers(wire) == [(200, b"\x01hello")]


@pytest.mark.parametrize("body", [None, b"", b"\0"])
def test_an_idle_is_held_until_the_upstream_sends_data(wire: Wire, session, body) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/idle/%b/0" % session_id, body))
    assert answers(wire) == []
    upstream.says(b"hello")
    assert answers(wire) == [(200, b"\x01hello")]
    assert upstream.received == []


def test_an_idle_is_held_no_longer_than_the_hold_time(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, _ = session
    wire.arrive(request(b"/idle/%b/0" % session_id, b"\0"))
    gateway.passes(HOLD_S / 2)
    assert answers(wire) == []
    gateway.passes(HOLD_S / 2)
    assert answers(wire) == [(200, b"\x01")]


@pytest.mark.parametrize("number", [b"", b"/0"])
@pytest.mark.parametrize("body", [None, b"", b"\0"])
def test_a_close_ends_the_session_with_or_without_a_number(
    gateway, wire, session, number, body
) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/close/" + session_id + number, body))
    assert answers(wire) == [(200, b"\0")]
    assert upstream.ended == "closed"
    assert gateway.records.ended["rtmpt", "client_closed"] == 1
    wire.arrive(request(b"/send/%b/1" % session_id, b"a"))
    assert answers(wire) == [(404, b"")]


def test_a_target_in_absolute_form_is_the_same_command(gateway: Gateway, wire: Wire) -> None:
    wire.arrive(request(b"http://media.example:80/open/1"))
    ((_, said),) = answers(wire)
    wire.arrive(request(b"HTTP://media.example/send/%b/0" % said.strip(), b"\x03"))
    assert answers(wire) == [(200, b"\x01")]
    assert gateway.upstreams[0].received == [b"\x03"]


def test_a_chunked_body_is_sent_upstream_without_chunk_framing(wire: Wire, session) -> None:
    session_id, upstream = session
    wire.arrive(
        request(b"/send/%b/0" % session_id, None, b"Transfer-Encoding: chunked")
        + b"1\r\n\x03\r\n4;x\r\nabcd\r\n0\r\n\r\n"
    )
    assert answers(wire) == [(200, b"\x01")]
    assert b"".join(upstream.received) == b"\x03abcd"


@pytest.mark.parametrize(
    "target",
    [
        *(b"/send/nobody/0", b"/idle/nobody/0", b"/close/nobody/0", b"/close/nobody"),
        *(b"/", b"/open/2", b"/open", b"/send/x", b"/send/x/y", b"/fcs/ident", b"*", b"//open/1"),
    ],
)
def test_a_command_for_an_unknown_session_gets_404_on_a_persistent_connection(
    wire: Wire, target: bytes
) -> None:
    wire.arrive(request(target, b"\0"))
    assert answers(wire) == [(404, b"")]
    wire.arrive(request(b"/fcs/ident2"))
    assert answers(wire) == [(404, b"")]
    assert not wire.write_closed


def test_a_get_is_not_a_command(gateway: Gateway, wire: Wire) -> None:
    wire.arrive(b"GET /open/1 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answers(wire) == [(404, b"")]
    assert gateway.admission.living == 0


def test_an_open_without_an_available_upstream_gets_503_on_a_persistent_connection(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.refuses = True
    wire.arrive(request(b"/open/1", b"\0"))
    assert answers(wire) == [(503, b"")]
    gateway.refuses = False
    wire.arrive(request(b"/open/1", b"\0"))
    assert answers(wire)[0][0] == 200


def test_an_open_over_the_limit_on_sessions_gets_503() -> None:
    gateway = Gateway(Limits(sessions=1))
    wire = gateway.accept()
    open_session(gateway, wire)
    wire.arrive(request(b"/open/1", b"\0"))
    assert answers(wire) == [(503, b"")]
    assert len(gateway.upstreams) == 1


def test_open_is_answered_when_the_upstream_is_connected_and_not_before(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1", b"\0"))
    assert answers(wire) == []
    gateway.connects()
    assert answers(wire)[0][0] == 200


@pytest.mark.parametrize("kind", [b"idle", b"close"])
def test_an_idle_or_close_with_more_than_one_byte_gets_400_and_closes_the_connection(
    wire, session, kind
) -> None:
    session_id, _ = session
    wire.arrive(request(b"/%b/%b/0" % (kind, session_id), b"ab"))
    assert answers(wire) == [(400, b"")]
    assert wire.write_closed


# --- Bytes ---


@given(places=st.sets(st.integers(0, 400), max_size=30))
def test_a_session_works_in_any_segmentation(places: set[int]) -> None:
    gateway = Gateway(hold_s=0.0)
    wire = gateway.accept()
    session_id, upstream = open_session(gateway, wire)
    sent = b"".join(
        (
            request(b"/send/%b/0" % session_id, b"\x03abc"),
            request(b"/send/%b/1" % session_id, None, b"Transfer-Encoding: chunked")
            + b"3\r\ndef\r\n0\r\n\r\n",
            request(b"/idle/%b/2" % session_id, b"\0"),
            request(b"/close/%b/3" % session_id, b"\0"),
        )
    )
    ends = sorted({place for place in places if 0 < place < len(sent)} | {0, len(sent)})
    for start, end in itertools.pairwise(ends):
        wire.arrive(sent[start:end])
    assert b"".join(upstream.received) == b"\x03abcdef"
    assert answers(wire) == [(200, b"\x01"), (200, b"\x01"), (200, b"\x01"), (200, b"\0")]


def test_an_answer_is_sent_at_the_last_byte_of_its_request(wire: Wire, session) -> None:
    session_id, _ = session
    for number in range(3):
        sent = request(b"/send/%b/%d" % (session_id, number), b"\x03")
        for at in range(len(sent)):
            assert answers(wire) == []
            wire.arrive(sent[at : at + 1])
        assert answers(wire) == [(200, b"\x01")]


def test_an_answer_is_sent_in_one_write(wire: Wire, session) -> None:
    session_id, upstream = session
    upstream.says(b"a" * 50_000)
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x03"))
    assert len(wire.writes) == 1
    assert answers(wire) == [(200, b"\x01" + b"a" * 50_000)]
    wire.arrive(request(b"/idle/%b/1" % session_id))
    upstream.says(b"b")
    assert len(wire.writes) == 1


def test_a_head_that_grows_with_every_request_is_served_up_to_the_limit(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    for number in range(300):
        wire.arrive(
            request(b"/send/%b/%d" % (session_id, number), b"\x03", b"X: " + b"a" * 100 * number)
        )
        assert [status for status, _ in answers(wire)] == [200]
    assert len(upstream.received) == 300
    wire.arrive(
        request(b"/send/%b/300" % session_id, b"\x03", b"X: " + b"a" * gateway.limits.head_bytes)
    )
    assert answers(wire) == [(431, b"")]
    assert wire.write_closed


# --- The connection after an answer ---


@pytest.mark.parametrize(
    ("version", "fields", "says", "closes"),
    [
        (b"1.1", (), b"", False),
        (b"1.1", (b"Connection: Keep-Alive",), b"", False),
        (b"1.1", (b"Connection: close",), b"Connection: close\r\n", True),
        (b"1.0", (), b"Connection: close\r\n", True),
        (b"1.0", (b"Connection: keep-alive",), b"Connection: keep-alive\r\n", False),
    ],
)
@pytest.mark.parametrize("target", [b"/open/1", b"/fcs/ident2", b"/idle/nobody/1"])
def test_the_connection_field_of_a_response_says_whether_the_connection_persists(
    gateway: Gateway, wire: Wire, target, version, fields, says, closes
) -> None:
    wire.arrive(request(target, b"\0", *fields, version=version) + NEXT)
    head = wire.writes[0].partition(b"\r\n\r\n")[0] + b"\r\n"
    found = re.findall(rb"Connection: [^\r]*\r\n", head)
    assert b"".join(found) == says
    assert len(answers(wire)) == (1 if closes else 2)
    assert wire.write_closed is closes


@pytest.mark.parametrize("segments", [1, 2])
def test_a_request_after_the_last_request_of_a_connection_is_not_served(
    gateway: Gateway, wire: Wire, segments: int
) -> None:
    sent = request(b"/open/1", b"", b"Connection: close"), request(b"/open/1")
    for segment in (b"".join(sent),) if segments == 1 else sent:
        wire.arrive(segment)
    assert len(answers(wire)) == 1
    assert gateway.admission.living == 1


def test_the_connection_closes_after_the_delayed_answer_to_the_last_request(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1", b"", b"Connection: close"))
    assert not wire.write_closed
    gateway.connects()
    assert answers(wire)[0][0] == 200
    assert wire.write_closed


def test_the_connection_closes_after_the_last_answer_and_not_after_an_earlier_one(
    gateway, wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1") + request(b"/open/1", b"", b"Connection: close"))
    gateway.connects()
    assert [status for status, _ in answers(wire)] == [200]
    assert not wire.write_closed
    gateway.connects()
    assert [status for status, _ in answers(wire)] == [200]
    assert wire.write_closed


def test_data_after_the_last_request_is_discarded(wire: Wire) -> None:
    wire.arrive(request(b"/fcs/ident2", b"", b"Connection: close"))
    tracemalloc.start()
    try:
        for _ in range(8):
            wire.arrive(bytes(128 * 1024))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 256 * 1024


def test_a_connection_closed_by_the_gateway_is_read_for_two_seconds_and_then_aborted(
    gateway: Gateway, wire: Wire
) -> None:
    wire.arrive(request(b"/fcs/ident2", b"", b"Connection: close"))
    assert wire.write_closed
    wire.arrive(b"more that nobody asked for" * 100)
    assert wire.unread == 0
    assert not wire.aborted
    gateway.passes(2.0)
    assert wire.aborted


def test_an_unacknowledged_last_answer_has_the_same_deadline_as_any_answer(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    upstream.says(b"a" * 60_000)
    wire.acknowledged_late = 60_000
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x03", b"Connection: close"))
    assert wire.write_closed
    gateway.passes(gateway.limits.stalled_write_s - 1)
    assert not wire.aborted
    gateway.passes(3)
    assert wire.aborted


# --- Refused requests ---


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda malformed: malformed.name)
def test_a_malformed_request_gets_one_answer_and_has_no_effect(
    gateway: Gateway, wire: Wire, malformed: Malformed
) -> None:
    wire.arrive(malformed.wire + NEXT)
    assert answers(wire) == [(malformed.status, b"")]
    assert wire.write_closed
    wire.arrive(request(b"/open/1"))
    assert answers(wire) == []
    assert gateway.records.opened.total() == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(b"/open/1", None, b"X : a"), 400),
        (request(b"/open/1", None, b"Content-Length: 1048577"), 413),
        (request(b"/open/1", None, b"Expect: 200-ok"), 417),
        (request(b"/open/1", None, *[b"X: a"] * 100), 431),
    ],
)
def test_a_refused_request_closes_the_connection_with_a_close_field(
    wire: Wire, sent: bytes, status: int
) -> None:
    wire.arrive(sent)
    assert b"\r\nConnection: close\r\n" in wire.writes[0]
    assert answers(wire) == [(status, b"")]
    assert wire.write_closed


def test_a_refused_request_is_answered_after_the_requests_before_it(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1") + b"nonsense\r\n\r\n" + NEXT)
    assert answers(wire) == []
    assert not wire.write_closed
    gateway.connects()
    assert [status for status, _ in answers(wire)] == [200, 400]
    assert wire.write_closed


def test_requests_before_a_malformed_one_are_served(gateway: Gateway, wire: Wire) -> None:
    wire.arrive(request(b"/open/1") + request(b"/fcs/ident2") + b"nonsense\r\n\r\n" + NEXT)
    assert [status for status, _ in answers(wire)] == [200, 404, 400]


# --- Order ---


def test_pipelined_requests_are_answered_in_order(wire: Wire, session) -> None:
    session_id, upstream = session
    upstream.says(b"hello")
    wire.arrive(
        request(b"/send/%b/0" % session_id, b"\x03")
        + request(b"/fcs/ident2")
        + request(b"/send/%b/1" % session_id, b"a")
        + request(b"/close/%b/2" % session_id)
    )
    assert answers(wire) == [(200, b"\x01hello"), (404, b""), (200, b"\x01"), (200, b"\0")]
    assert upstream.received == [b"\x03", b"a"]


def test_the_last_send_of_librtmp_with_a_close_in_the_same_segment_is_sent_upstream(
    wire: Wire, session
) -> None:
    session_id, upstream = session
    wire.arrive(
        request(b"/send/%b/0" % session_id, b"\x03last")
        + request(b"/close/%b/1" % session_id, b"\0")
    )
    assert upstream.received == [b"\x03last"]
    assert upstream.ended == "closed"


def test_answers_wait_for_a_pending_open_before_them(gateway: Gateway, wire: Wire) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1") + request(b"/fcs/ident2") + request(b"/open/1"))
    assert answers(wire) == []
    gateway.dials.pop(1).callback(None)
    assert answers(wire) == []
    gateway.connects()
    assert [status for status, _ in answers(wire)] == [200, 404, 200]


def test_more_bytes_on_the_connection_of_a_held_idle_end_its_hold(wire: Wire, session) -> None:
    session_id, _ = session
    wire.arrive(request(b"/idle/%b/0" % session_id))
    assert answers(wire) == []
    wire.arrive(b"P")
    assert answers(wire) == [(200, b"\x01")]


@pytest.mark.parametrize("behind", [b"P", request(b"/fcs/ident2")])
def test_an_idle_followed_by_more_bytes_is_not_held(wire: Wire, session, behind: bytes) -> None:
    session_id, _ = session
    wire.arrive(request(b"/idle/%b/0" % session_id) + behind)
    assert answers(wire)[0] == (200, b"\x01")


def test_a_command_on_another_connection_ends_a_hold(gateway: Gateway, wire: Wire, session) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/idle/%b/0" % session_id))
    other = gateway.accept()
    other.arrive(request(b"/send/%b/1" % session_id, b"\x03"))
    assert answers(wire) == [(200, b"\x01")]
    assert answers(other) == [(200, b"\x01")]
    assert upstream.received == [b"\x03"]


def test_pipelined_commands_in_the_wrong_order_are_both_answered(wire: Wire, session) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x03"))
    wire.arrive(
        request(b"/send/%b/2" % session_id, b"two") + request(b"/send/%b/1" % session_id, b"one")
    )
    assert answers(wire) == [(200, b"\x01")] * 3
    assert upstream.received == [b"\x03", b"one", b"two"]


def test_an_early_command_waits_for_the_missing_command_on_another_connection(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    other = gateway.accept()
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x03"))
    wire.arrive(request(b"/send/%b/2" % session_id, b"two") + request(b"/fcs/ident2"))
    assert answers(wire) == [(200, b"\x01")]
    other.arrive(request(b"/send/%b/1" % session_id, b"one"))
    assert answers(other) == [(200, b"\x01")]
    assert answers(wire) == [(200, b"\x01"), (404, b"")]
    assert upstream.received == [b"\x03", b"one", b"two"]


def test_sessions_that_share_a_connection_are_answered_in_the_order_of_the_requests(
    gateway, wire
) -> None:
    first, first_upstream = open_session(gateway, wire)
    second, second_upstream = open_session(gateway, wire)
    wire.arrive(request(b"/idle/%b/0" % first))
    assert answers(wire) == []
    wire.arrive(request(b"/idle/%b/0" % second))
    assert answers(wire) == [(200, b"\x01")]
    second_upstream.says(b"second")
    assert answers(wire) == [(200, b"\x01second")]
    wire.arrive(
        request(b"/send/%b/1" % first, b"\x03a") + request(b"/send/%b/1" % second, b"\x03b")
    )
    assert answers(wire) == [(200, b"\x01")] * 2
    assert (first_upstream.received, second_upstream.received) == ([b"\x03a"], [b"\x03b"])


# --- FFmpeg, which tries again under the next number (protocols/retries.py) ---

_FFMPEGS_OWN = b"Icy-MetaData: 1"
# A chunk that begins a command.
_COMMAND = b"\x03" + bytes(6) + b"\x14" + b"\0\0\0\0play"


def try_again(gateway: Gateway, wire: Wire, end: Callable[[Wire], None], *fields: bytes) -> bytes:
    """The data sent upstream for a send, and for the same body on another connection after ``end``."""
    wire.arrive(request(b"/open/1", b"\0", _FFMPEGS_OWN))
    session_id = answers(wire)[0][1].rstrip(b"\n")
    wire.arrive(request(b"/send/%b/0" % session_id, _COMMAND, *fields))
    end(wire)
    gateway.accept().arrive(request(b"/send/%b/1" % session_id, _COMMAND))
    return b"".join(gateway.upstreams[-1].received)


@pytest.mark.parametrize("end", [Wire.end, Wire.lose], ids=["closed", "lost"])
def test_a_send_retried_after_its_connection_was_lost_is_sent_upstream_once(
    gateway: Gateway, wire: Wire, end
) -> None:
    assert try_again(gateway, wire, end) == _COMMAND


def test_a_send_of_the_same_body_while_the_last_connection_is_open_is_sent_upstream(
    gateway: Gateway, wire: Wire
) -> None:
    assert try_again(gateway, wire, lambda wire: None) == 2 * _COMMAND


def test_a_connection_closed_by_the_gateway_does_not_count_as_lost(
    gateway: Gateway, wire: Wire
) -> None:
    assert try_again(gateway, wire, Wire.lose, b"Connection: close") == 2 * _COMMAND


def test_requests_over_the_limit_on_pipelining_are_served_after_earlier_answers() -> None:
    gateway = Gateway(Limits(pipelined_requests=2))
    wire = gateway.accept()
    gateway.dialling = True
    wire.arrive(request(b"/open/1") * 3 + request(b"/fcs/ident2"))
    assert len(gateway.dials) == 2
    gateway.connects()
    assert len(gateway.dials) == 2
    gateway.connects()
    gateway.connects()
    assert [status for status, _ in answers(wire)] == [200, 200, 200, 404]


def test_requests_after_a_withheld_send_are_not_read(gateway: Gateway, wire: Wire, session) -> None:
    session_id, upstream = session
    upstream.tunnel.pauseProducing()
    other = gateway.accept()
    for number in range(100):
        (wire, other)[number % 2].arrive(
            request(b"/send/%b/%d" % (session_id, number), bytes(30_000))
        )
        gateway.turn()
    assert not wire.reading
    assert not other.reading
    assert len(upstream.received) == 1
    upstream.tunnel.resumeProducing()
    for _ in range(100):
        gateway.turn()
        wire.turn()
        other.turn()
    assert b"".join(upstream.received) == bytes(3_000_000)
    assert [status for status, _ in answers(wire) + answers(other)] == [200] * 100


def test_a_missing_command_is_read_behind_an_early_one_while_a_send_is_withheld(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    upstream.tunnel.pauseProducing()
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x030"))
    other = gateway.accept()
    for number in (2, 1, 3):
        other.arrive(request(b"/send/%b/%d" % (session_id, number), b"%d" % number))
    assert gateway.sessions.find(session_id).buffered_bytes == 2
    upstream.tunnel.resumeProducing()
    gateway.turn()
    assert b"".join(upstream.received) == b"\x030123"
    assert [status for status, _ in answers(other)] == [200] * 3


def test_a_send_for_an_unknown_session_is_refused_before_its_body_arrives(wire: Wire) -> None:
    wire.arrive(request(b"/send/nobody/1", bytes(100_000))[:50_000])
    assert answers(wire) == [(404, b"")]
    assert wire.write_closed


@pytest.mark.parametrize(
    ("target", "status"), [(b"/open/1", 413), (b"/fcs/ident2", 413), (b"/page", 404)]
)
def test_a_large_body_of_a_request_that_is_not_a_send_is_refused_before_it_arrives(
    wire: Wire, target: bytes, status: int
) -> None:
    wire.arrive(request(target, bytes(100_000))[:500])
    assert answers(wire) == [(status, b"")]
    assert wire.write_closed


def test_the_incomplete_bodies_of_all_connections_have_a_common_limit(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    gateway.service.bodies_bytes = 100_000
    sends = [request(b"/send/%b/%d" % (session_id, number), bytes(60_000)) for number in range(2)]
    other = gateway.accept()
    wire.arrive(sends[0][:-1])
    other.arrive(sends[1][:-1])
    assert answers(other) == [(503, b"")]
    other.lose()
    wire.arrive(sends[0][-1:])
    assert answers(wire) == [(200, b"\x01")]
    assert gateway.service.waiting_bytes == 0
    wire.arrive(sends[1][:-1])
    assert gateway.service.waiting_bytes == len(bytes(60_000)) - 1
    wire.lose()
    assert gateway.service.waiting_bytes == 0
    assert upstream.received == [bytes(60_000)]


def test_a_client_that_reads_slowly_is_kept_and_a_client_that_stops_reading_is_aborted(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    upstream.says(bytes(60_000))
    wire.room = 0
    wire.arrive(request(b"/idle/%b/0" % session_id))
    for _ in range(3):
        wire.writes.append(wire.unsent[:20_000])
        wire.unsent = wire.unsent[20_000:] or b"x"
        gateway.passes(gateway.limits.stalled_write_s)
        assert not wire.aborted
    gateway.passes(gateway.limits.stalled_write_s)
    assert wire.aborted


def test_the_memory_for_a_client_that_pipelines_without_end_is_bounded() -> None:
    """Requests that may not be processed yet wait in the kernel's receive buffer."""
    gateway = Gateway(Limits(pipelined_requests=2))
    wire = gateway.accept()
    gateway.dialling = True
    for _ in range(300):
        wire.arrive(request(b"/send/nobody/0", b"a" * 4096))
        if not wire.reading:
            break
        wire.arrive(request(b"/open/1"))
    assert not wire.reading
    while gateway.dials:
        gateway.connects()
        wire.turn()
    assert wire.reading
    assert wire.unread == 0


# --- Expect: 100-continue ---


def test_100_continue_is_sent_only_before_the_body(wire: Wire, session) -> None:
    session_id, upstream = session
    wire.arrive(
        request(b"/send/%b/0" % session_id, None, b"Expect: 100-continue", b"Content-Length: 2")
    )
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    assert answers(wire) == [(100, b"")]
    wire.arrive(b"\x03")
    wire.arrive(b"a")
    assert answers(wire) == [(200, b"\x01")]
    assert upstream.received == [b"\x03a"]


@pytest.mark.parametrize("body", [b"\x03", b"\x03a"])
def test_100_continue_is_not_sent_if_the_body_has_arrived(wire: Wire, session, body: bytes) -> None:
    session_id, _ = session
    head = request(b"/send/%b/0" % session_id, None, b"Expect: 100-continue", b"Content-Length: 2")
    wire.arrive(head + body)
    wire.arrive(b"\x03a"[len(body) :])
    assert answers(wire) == [(200, b"\x01")]


def test_100_continue_is_not_sent_for_a_body_over_the_limit(wire: Wire) -> None:
    wire.arrive(request(b"/open/1", None, b"Expect: 100-continue", b"Content-Length: 1048577"))
    assert answers(wire) == [(413, b"")]


def test_100_continue_is_not_sent_to_an_http_1_0_client(wire: Wire) -> None:
    fields = b"Expect: 100-continue", b"Content-Length: 1"
    wire.arrive(request(b"/open/1", None, *fields, version=b"1.0"))
    assert answers(wire) == []
    wire.arrive(b"\0")
    assert [status for status, _ in answers(wire)] == [200]


def test_100_continue_is_not_sent_without_a_body(wire: Wire) -> None:
    wire.arrive(request(b"/fcs/ident2", b"", b"Expect: 100-continue"))
    assert answers(wire) == [(404, b"")]


def test_100_continue_is_sent_after_earlier_answers(gateway: Gateway, wire: Wire) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1"))
    wire.arrive(request(b"/fcs/ident2", None, b"Expect: 100-continue", b"Content-Length: 1"))
    assert answers(wire) == []
    gateway.connects()
    assert [status for status, _ in answers(wire)] == [200, 100]
    wire.arrive(b"\0")
    assert answers(wire) == [(404, b"")]


# --- Acknowledging at once ---


def test_a_tcp_acknowledgement_is_sent_at_once_for_a_head_without_its_body(
    wire: Wire, session
) -> None:
    session_id, _ = session
    for number in range(3):
        before = wire.acknowledged
        sent = request(b"/send/%b/%d" % (session_id, number), b"\x03abc")
        wire.arrive(sent[:-4])
        assert wire.acknowledged == before + 1
        wire.arrive(sent[-4:-2])
        wire.arrive(sent[-2:])
        assert wire.acknowledged == before + 1
    assert len(answers(wire)) == 3


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_no_immediate_tcp_acknowledgement_is_sent_if_the_body_has_begun(
    wire: Wire, session, missing: int
) -> None:
    session_id, _ = session
    sent = request(b"/send/%b/0" % session_id, b"\x03abc")
    wire.arrive(sent[: len(sent) - missing])
    wire.arrive(sent[len(sent) - missing :])
    assert wire.acknowledged == 0


def test_no_immediate_tcp_acknowledgement_is_sent_for_an_incomplete_head(wire: Wire) -> None:
    wire.arrive(b"POST /open/1 HTTP/1.1\r\n")
    assert wire.acknowledged == 0


# --- A client that does not read ---


def test_a_connection_is_not_read_or_served_while_the_kernels_send_buffer_is_full(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    wire.room = 10
    wire.arrive(
        request(b"/send/%b/0" % session_id, b"\x03") + request(b"/send/%b/1" % session_id, b"a")
    )
    assert not wire.reading
    wire.arrive(request(b"/send/%b/2" % session_id, b"b"))
    gateway.turn()
    assert upstream.received == [b"\x03"]
    wire.drain()
    assert upstream.received == [b"\x03", b"a", b"b"]
    assert answers(wire) == [(200, b"\x01")] * 3
    assert wire.reading


def test_a_connection_is_paused_at_the_first_byte_the_kernel_does_not_accept(
    wire: Wire, session
) -> None:
    session_id, _ = session
    wire.room = len(request(b"/fcs/ident2"))
    wire.arrive(request(b"/fcs/ident2") + request(b"/send/%b/0" % session_id, b"\x03"))
    assert wire.high_water_bytes == 0


def test_a_client_that_never_reads_is_aborted_at_the_deadline(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, _ = session
    wire.room = 0
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x03"))
    gateway.passes(gateway.limits.stalled_write_s - 0.1)
    assert not wire.aborted
    gateway.passes(0.1)
    assert wire.aborted


def test_a_client_that_reads_in_time_is_not_aborted(gateway: Gateway, wire: Wire, session) -> None:
    session_id, _ = session
    for number in range(5):
        wire.room = 0
        wire.arrive(request(b"/send/%b/%d" % (session_id, number), b"\x03"))
        gateway.passes(gateway.limits.stalled_write_s - 1)
        assert not wire.aborted
        wire.drain()
        assert answers(wire) == [(200, b"\x01")]
    gateway.passes(gateway.limits.stalled_write_s + 1)
    assert not wire.aborted


def test_a_client_that_never_reads_is_aborted_even_if_an_answer_is_pending(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.dialling = True
    wire.room = 0
    wire.arrive(request(b"/open/1") * 2)
    gateway.connects()
    gateway.passes(gateway.limits.stalled_write_s)
    assert wire.aborted


def test_later_answers_do_not_extend_the_deadline_of_a_client_that_never_reads(
    gateway, wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1") * 2)
    wire.room = 0
    gateway.connects()
    gateway.passes(gateway.limits.stalled_write_s - 5)
    gateway.connects()
    gateway.passes(5)
    assert wire.aborted


def test_a_client_has_the_usual_time_to_read_the_last_answer(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    upstream.says(b"a" * 60_000)
    wire.room = 20_000
    wire.arrive(request(b"/send/%b/0" % session_id, b"\x03", b"Connection: close"))
    gateway.passes(gateway.limits.stalled_write_s - 1)
    assert not wire.aborted
    wire.drain()
    assert answers(wire) == [(200, b"\x01" + b"a" * 60_000)]
    assert wire.write_closed


# --- Deadlines ---


def dripping(gateway: Gateway, wire: Wire, sent: Iterator[bytes]) -> float:
    """The seconds until a client that sends one piece a second is aborted."""
    begun = gateway.clock.now
    for piece in sent:
        wire.arrive(piece)
        gateway.passes(1.0)
        if wire.aborted:
            break
    return gateway.clock.now - begun


def test_a_connection_without_any_byte_is_aborted_at_the_deadline(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.passes(gateway.limits.first_bytes_s - 0.1)
    assert not wire.aborted
    gateway.passes(0.1)
    assert wire.aborted


def test_a_head_sent_at_one_byte_a_second_is_aborted_at_its_deadline(
    gateway: Gateway, wire: Wire
) -> None:
    endless = (
        bytes([octet]) for octet in b"POST /open/1 HTTP/1.1\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    )
    assert dripping(gateway, wire, endless) == gateway.limits.head_s


def test_a_head_sent_at_one_line_a_second_is_aborted_at_its_deadline(
    gateway: Gateway, wire: Wire
) -> None:
    lines = (line for line in [b"POST /open/1 HTTP/1.1\r\n", *[b"X: a\r\n"] * 60])
    assert dripping(gateway, wire, lines) == gateway.limits.head_s


def test_empty_lines_before_a_head_do_not_extend_its_deadline(gateway: Gateway, wire: Wire) -> None:
    assert dripping(gateway, wire, iter([b"\r", b"\n", *[b"P"] * 60])) == gateway.limits.head_s


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
def test_a_body_sent_at_one_byte_a_second_is_aborted_at_its_deadline(
    gateway: Gateway, wire: Wire, framing: bytes
) -> None:
    wire.arrive(request(b"/open/1", None, framing))
    assert (
        dripping(gateway, wire, iter([b"1", b"0", b"\r", b"\n", *[b"a"] * 60]))
        == gateway.limits.body_s
    )


def test_the_deadline_of_a_body_begins_at_the_end_of_its_head(gateway: Gateway, wire: Wire) -> None:
    sent = request(b"/open/1", None, b"Content-Length: 2")
    wire.arrive(sent[:-1])
    gateway.passes(gateway.limits.head_s - 1)
    wire.arrive(sent[-1:] + b"a")
    gateway.passes(gateway.limits.body_s - 1)
    assert not wire.aborted
    wire.arrive(b"b")
    assert [status for status, _ in answers(wire)] == [200]


def test_a_persistent_connection_is_closed_after_the_time_between_requests(gateway, wire) -> None:
    for _ in range(3):
        wire.arrive(request(b"/fcs/ident2"))
        gateway.passes(gateway.limits.keep_alive_s - 0.1)
        assert not wire.aborted
    wire.arrive(request(b"/fcs/ident2"))
    gateway.passes(gateway.limits.keep_alive_s)
    assert wire.aborted


def test_the_next_head_has_its_own_deadline_after_a_body_in_two_parts(
    gateway: Gateway, wire: Wire
) -> None:
    sent = request(b"/fcs/ident2", b"ab")
    wire.arrive(sent[:-1])
    wire.arrive(sent[-1:])
    gateway.passes(1)
    wire.arrive(b"P")
    gateway.passes(gateway.limits.head_s)
    assert wire.aborted


@pytest.mark.parametrize("begun", [b"P", b"\r"])
def test_the_deadline_of_a_head_begins_at_its_first_byte(gateway, wire, begun: bytes) -> None:
    wire.arrive(request(b"/fcs/ident2"))
    gateway.passes(gateway.limits.keep_alive_s - 1)
    wire.arrive(begun)
    gateway.passes(gateway.limits.head_s - 1)
    assert not wire.aborted
    gateway.passes(1)
    assert wire.aborted


@pytest.mark.parametrize("apart", [False, True])
def test_a_line_end_behind_a_body_is_ignored(gateway: Gateway, wire: Wire, session, apart) -> None:
    """RFC 9112, 2.2: old clients send one."""
    session_id, upstream = session
    idle = request(b"/idle/%b/0" % session_id, b"\0")
    for piece in (idle, b"\r\n") if apart else (idle + b"\r\n",):
        wire.arrive(piece)
    assert answers(wire) == []
    upstream.says(b"hello")
    assert answers(wire) == [(200, b"\x01hello")]
    gateway.passes(gateway.limits.silent_session_s - 1)
    wire.arrive(request(b"/idle/%b/1" % session_id))
    assert not wire.aborted


def test_a_line_end_that_is_part_of_a_body_is_kept(gateway: Gateway, wire: Wire, session) -> None:
    session_id, upstream = session
    gateway.dialling = True
    wire.arrive(request(b"/open/1"))
    wire.arrive(request(b"/send/%b/0" % session_id, b"\r\n\r\n\r\n")[:-6])
    for _ in range(3):
        wire.arrive(b"\r\n")
    assert upstream.received == [b"\r\n\r\n\r\n"]


def test_bytes_in_the_same_segment_after_a_request_begin_the_deadline_of_the_next_head(
    gateway: Gateway, wire: Wire
) -> None:
    wire.arrive(request(b"/fcs/ident2") + b"P")
    gateway.passes(gateway.limits.head_s)
    assert wire.aborted


def test_a_connection_with_a_pending_answer_is_not_aborted(gateway: Gateway, wire: Wire) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1"))
    gateway.passes(gateway.limits.keep_alive_s + 1)
    assert not wire.aborted
    gateway.connects()
    assert answers(wire)[0][0] == 200
    gateway.passes(gateway.limits.keep_alive_s + 1)
    assert wire.aborted


@pytest.mark.parametrize(
    "begun", [b"POST /open", request(b"/open/1", None, b"Content-Length: 9") + b"a"]
)
def test_a_slow_request_is_aborted_at_its_deadline_even_if_an_earlier_answer_is_pending(
    gateway: Gateway, wire: Wire, begun: bytes
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1") + begun)
    gateway.passes(gateway.limits.head_s)
    assert wire.aborted


def test_a_client_that_does_not_read_does_not_extend_the_deadline_of_its_head(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1") + b"POST /open")
    wire.room = 0
    gateway.connects()
    wire.drain()
    gateway.passes(gateway.limits.head_s)
    assert wire.aborted


# --- Lost connections ---


def test_a_connection_lost_during_an_open_abandons_the_session(
    gateway: Gateway, wire: Wire
) -> None:
    gateway.dialling = True
    wire.arrive(request(b"/open/1"))
    wire.lose()
    gateway.connects()
    assert gateway.upstreams[0].ended == "aborted"
    assert gateway.records.ended["rtmpt", "abandoned"] == 1
    assert gateway.admission.living == 0


def test_a_connection_lost_during_a_failing_open_logs_no_error(
    gateway: Gateway, wire: Wire, logged
) -> None:
    gateway.dialling = gateway.refuses = True
    wire.arrive(request(b"/open/1"))
    wire.lose()
    gateway.connects()
    assert gateway.admission.living == 0


def test_a_session_continues_after_the_loss_of_the_connection_that_opened_the_session(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    wire.lose()
    other = gateway.accept()
    other.arrive(request(b"/send/%b/0" % session_id, b"\x03"))
    assert answers(other) == [(200, b"\x01")]
    assert upstream.received == [b"\x03"]


def test_no_data_is_lost_with_the_connection_of_a_held_idle(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/idle/%b/0" % session_id))
    wire.lose()
    upstream.says(b"hello")
    other = gateway.accept()
    other.arrive(request(b"/idle/%b/0" % session_id))
    assert answers(other) == [(200, b"\x01hello")]


@pytest.mark.parametrize("missing", [1, 3, 30])
def test_an_incomplete_send_of_a_lost_connection_is_not_sent_upstream(
    gateway, wire, session, missing
) -> None:
    session_id, upstream = session
    sent = request(b"/send/%b/0" % session_id, b"\x03abc")
    wire.arrive(sent[:-missing])
    wire.lose()
    assert upstream.received == []
    other = gateway.accept()
    other.arrive(sent)
    assert upstream.received == [b"\x03abc"]
    assert answers(other) == [(200, b"\x01")]


def test_commands_received_before_a_loss_take_effect_even_if_the_client_does_not_read(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    wire.room = 0
    wire.arrive(request(b"/send/%b/0" % session_id, b"first"))
    assert not wire.reading
    upstream.tunnel.pauseProducing()
    last = request(b"/send/%b/1" % session_id, b"last") + request(b"/close/%b/2" % session_id)
    # As the transport reads out what the kernel still has.
    wire.protocol.dataReceived(last + request(b"/page"))
    wire.lose()
    upstream.tunnel.resumeProducing()
    assert upstream.received == [b"first", b"last"]
    assert upstream.ended == "closed"
    assert gateway.records.ended["rtmpt", "client_closed"] == 1


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_commands_behind_a_withheld_send_take_effect_if_their_connection_is_closed(
    gateway: Gateway, wire: Wire, session, is_pipelined: bool
) -> None:
    session_id, upstream = session
    upstream.tunnel.pauseProducing()
    first = request(b"/send/%b/0" % session_id, b"\x03first")
    behind = request(b"/send/%b/1" % session_id, b"last") + request(b"/close/%b/2" % session_id)
    for data in (first + behind,) if is_pipelined else (first, behind):
        wire.arrive(data)
    wire.end()
    wire.lose()
    upstream.tunnel.resumeProducing()
    assert upstream.received == [b"\x03first", b"last"]
    assert upstream.ended == "closed"
    assert gateway.records.ended["rtmpt", "client_closed"] == 1


def test_a_session_survives_if_it_has_no_room_for_the_commands_of_a_lost_connection() -> None:
    gateway = Gateway(Limits(window_commands=8))
    wire = gateway.accept()
    session_id, upstream = open_session(gateway, wire)
    upstream.tunnel.pauseProducing()
    commands = [request(b"/send/%b/%d" % (session_id, number), b"\x03") for number in range(20)]
    wire.arrive(b"".join(commands))
    wire.lose()
    other = gateway.accept()
    other.arrive(b"".join(commands))
    upstream.tunnel.resumeProducing()
    gateway.turn()
    assert b"".join(upstream.received) == b"\x03" * 20
    assert [status for status, _ in answers(other)] == [200] * 20


def test_an_answer_cut_off_by_a_lost_connection_is_repeated_whole_on_the_next_connection(
    gateway: Gateway, wire: Wire, session
) -> None:
    session_id, upstream = session
    upstream.says(b"hello")
    wire.room = 50
    sent = request(b"/send/%b/0" % session_id, b"\x03")
    wire.arrive(sent)
    wire.lose()
    other = gateway.accept()
    other.arrive(sent)
    assert answers(other) == [(200, b"\x01hello")]
    assert upstream.received == [b"\x03"]


def test_a_client_that_half_closes_gets_its_response_and_a_close(
    wire: Wire,
) -> None:
    wire.arrive(request(b"/fcs/ident2"))
    wire.end()
    assert wire.closing
    assert not wire.aborted
    assert answers(wire) == [(404, b"")]


def test_a_lost_connection_no_longer_counts_toward_the_limit(gateway: Gateway, wire: Wire) -> None:
    assert len(gateway.connections) == 1
    wire.lose()
    assert len(gateway.connections) == 0


def test_the_upstreams_last_data_is_answered_and_then_404(wire: Wire, session) -> None:
    session_id, upstream = session
    upstream.says(b"bye")
    upstream.closes()
    wire.arrive(request(b"/idle/%b/0" % session_id))
    wire.arrive(request(b"/idle/%b/1" % session_id))
    assert answers(wire) == [(200, b"\x01bye"), (404, b"")]


def test_a_held_idle_gets_404_when_the_upstream_ends(wire: Wire, session) -> None:
    session_id, upstream = session
    wire.arrive(request(b"/idle/%b/0" % session_id))
    upstream.closes()
    assert answers(wire) == [(404, b"")]
    wire.arrive(request(b"/fcs/ident2"))
    assert answers(wire) == [(404, b"")]


# --- Faults ---


class Broken:
    """Tunnels whose commands raise an exception."""

    hold_s = 0.25

    def open(self, *_: object) -> object:
        raise ZeroDivisionError("a fault")

    def find(self, session_id: bytes) -> object:
        raise ZeroDivisionError("a fault")


@pytest.mark.parametrize("target", [b"/open/1", b"/send/x/0"])
def test_an_exception_in_a_request_closes_only_its_connection_and_is_logged(
    gateway: Gateway, wire: Wire, logged: list[dict[str, Any]], target: bytes
) -> None:
    other = gateway.accept()
    sound, gateway.service.tunnels = gateway.service.tunnels, Broken()
    wire.arrive(request(target, b"\0") + NEXT)
    gateway.service.tunnels = sound
    assert wire.aborted
    assert answers(wire) == []
    (event,) = logged
    assert event["log_failure"].type is ZeroDivisionError
    assert (
        "in open" in event["log_failure"].getTraceback()
        or "in find" in event["log_failure"].getTraceback()
    )
    logged.clear()
    wire.lose()
    other.arrive(request(b"/open/1"))
    assert answers(other)[0][0] == 200


def test_a_connection_serves_no_request_after_an_exception(
    gateway: Gateway, logged: list[dict[str, Any]]
) -> None:
    gateway = Gateway(Limits(pipelined_requests=1))
    wire = gateway.accept()
    gateway.dialling = True
    wire.arrive(request(b"/open/1") + request(b"/send/x/0") + request(b"/open/1"))
    (dial,) = gateway.dials
    dial.callback(None)
    assert gateway.soon
    sound, gateway.service.tunnels = gateway.service.tunnels, Broken()
    wire.arrive(b"P")
    gateway.service.tunnels = sound
    assert wire.aborted
    gateway.turn()
    assert len(gateway.dials) == 1
    assert len(logged) == 1
    logged.clear()


# --- Debug lines ---


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            request(b"/idle/0000SECRETSECRET/7"),
            "refused with 404, no such session: idle of a session 0000..., number 7",
        ),
        (request(b"/nothing"), "refused with 404, no tunnel command"),
        (b"nonsense\r\n\r\n", "refused with 400, "),
    ],
)
def test_a_refused_request_has_a_debug_line_without_the_session_id(
    gateway: Gateway, said: bytes, words: str
) -> None:
    with log.logged() as without:
        gateway.accept().arrive(said)
    assert without == []
    with log.logged(debug=True) as lines:
        gateway.accept().arrive(said)
    (line,) = lines
    assert line.startswith("debug: request from ")
    assert words in line
    assert "SECRET" not in line


def test_a_served_command_has_no_debug_line(gateway: Gateway, wire: Wire) -> None:
    session, _ = open_session(gateway, wire)
    with log.logged(debug=True) as lines:
        wire.arrive(request(b"/send/%b/1" % session, b"hello"))
    assert lines == []
