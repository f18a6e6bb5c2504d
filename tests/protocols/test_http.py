"""The request parser: valid and refused requests, in any segmentation."""

from __future__ import annotations

import time
import tracemalloc
from itertools import pairwise

import pytest
from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, BodyTooLarge, ExpectationFailed, HeadTooLarge
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits
from tests.protocols.malformed import (
    MALFORMED,
    NEXT,
    ODD_BUT_WELL_FORMED,
    Malformed,
    WellFormed,
    asked,
    chunked,
    post,
)

SMALL = Limits(head_bytes=1024, head_fields=8, body_bytes=4096)
NEXT_READ = (b"POST", b"/smuggled", b"")

Read = tuple[bytes, bytes, bytes]


@frozen
class Outcome:
    """The requests that were read, and the refusal after them."""

    requests: tuple[Read, ...]
    refused: type[Exception] | None


def read(segments: list[bytes], limits: Limits = Limits()) -> Outcome:
    """Give the segments to a reader, and pull all requests that are whole after each."""
    reader = RequestReader(limits)
    requests: list[Read] = []
    in_body = False
    try:
        for segment in segments:
            reader.receive(segment)
            while in_body or reader.next_head() is not None:
                body = reader.whole_body()
                in_body = body is None
                if body is None:
                    break
                requests.append((reader.method, reader.target, body))
    except BadRequest as error:
        return Outcome(tuple(requests), type(error))
    return Outcome(tuple(requests), None)


def whole(wire: bytes) -> list[bytes]:
    return [wire]


def byte_by_byte(wire: bytes) -> list[bytes]:
    return [wire[at : at + 1] for at in range(len(wire))]


def cut(wire: bytes, places: set[int]) -> list[bytes]:
    """The wire in segments that end at these places, counted modulo its length."""
    ends = sorted({place % (len(wire) + 1) for place in places} | {0, len(wire)})
    return [wire[start:end] for start, end in pairwise(ends)]


def sized_head(size: int) -> bytes:
    """A request of exactly ``size`` bytes and no body."""
    bare = post(b"X: ")
    return post(b"X: " + b"a" * (size - len(bare)))


def in_chunks(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# --- Valid requests ---

CLIENTS = {
    "ffmpeg": (
        (
            b"POST /send/aa00AAAAAAAAAAAAAAAAAAAAAA/7 HTTP/1.1\r\nUser-Agent: Lavf/59.27.100\r\n"
            b"Accept: */*\r\nContent-Length: 4\r\nHost: 127.0.0.1:8080\r\nCache-Control: no-cache\r\n"
            b"Content-Type: application/x-fcs\r\n\r\n\x03\0\r\n"
        ),
        (b"POST", b"/send/aa00AAAAAAAAAAAAAAAAAAAAAA/7", b"\x03\0\r\n"),
    ),
    "librtmp": (
        (
            b"POST /open/1 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nUser-Agent: Shockwave Flash\r\n"
            b"Connection: Keep-Alive\r\nCache-Control: no-cache\r\nContent-type: application/x-fcs\r\n"
            b"Content-length: 1\r\n\r\n\0"
        ),
        (b"POST", b"/open/1", b"\0"),
    ),
    "a proxy": (
        (
            b"POST http://media.example:80/idle/aa00/12 HTTP/1.0\r\nHost: media.example:80\r\n"
            b"Via: 1.0 cache (squid)\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: keep-alive\r\n"
            b"Content-Length: 0\r\n\r\n"
        ),
        (b"POST", b"http://media.example:80/idle/aa00/12", b""),
    ),
}


@pytest.mark.parametrize("segmented", [whole, byte_by_byte])
@pytest.mark.parametrize("client", CLIENTS)
def test_a_request_is_read_and_the_bytes_after_its_end_begin_the_next_request(
    client, segmented
) -> None:
    wire, expected = CLIENTS[client]
    assert read(segmented(wire)) == Outcome((expected,), None)
    assert read(segmented(wire + NEXT)) == Outcome((expected, NEXT_READ), None)


@pytest.mark.parametrize("segmented", [whole, byte_by_byte])
@pytest.mark.parametrize("odd", ODD_BUT_WELL_FORMED, ids=lambda odd: odd.name)
def test_unusual_but_valid_requests_are_accepted(odd: WellFormed, segmented) -> None:
    outcome = read(segmented(odd.wire + NEXT))
    assert outcome.refused is None
    assert [body for _, _, body in outcome.requests] == [odd.body, b""]
    assert outcome.requests[1] == NEXT_READ


@pytest.mark.parametrize("odd", ODD_BUT_WELL_FORMED, ids=lambda odd: odd.name)
def test_a_request_is_not_complete_before_its_last_byte(odd: WellFormed) -> None:
    assert read(byte_by_byte(odd.wire)[:-1]).requests == ()
    assert len(read(byte_by_byte(odd.wire)).requests) == 1


def test_field_names_are_lowered_and_field_values_are_stripped() -> None:
    reader = RequestReader(Limits())
    reader.receive(post(b"X-Forwarded-FOR:\t 192.0.2.1, b \t", b"X: a", b"x: B"))
    fields = reader.next_head()
    assert fields is not None
    assert fields.items == (
        *((b"host", b"a"), (b"x-forwarded-for", b"192.0.2.1, b")),
        *((b"x", b"a"), (b"x", b"B")),
    )
    assert fields.value(b"x") == b"a"
    assert fields.value(b"y") is None


@pytest.mark.parametrize(
    ("version", "connection", "persistent"),
    [
        (b"1.1", (), True),
        (b"1.1", (b"keep-alive",), True),
        (b"1.1", (b"close",), False),
        (b"1.1", (b"Close",), False),
        (b"1.1", (b"x ,\tclose",), False),
        (b"1.1", (b"x", b"close"), False),
        (b"1.1", (b"closed",), True),
        (b"1.1", (b"close, keep-alive",), False),
        (b"1.0", (), False),
        (b"1.0", (b"Keep-Alive",), True),
        (b"1.0", (b"x, keep-alive",), True),
        (b"1.0", (b"close",), False),
        (b"1.0", (b"keep-alive, close",), False),  # RFC 9112, 9.3: close decides
    ],
)
def test_whether_a_connection_persists(version, connection, persistent) -> None:
    reader = RequestReader(Limits())
    lines = (b"Connection: " + value for value in connection)
    reader.receive(asked(b"POST / HTTP/" + version, b"Host: a", *lines))
    fields = reader.next_head()
    assert fields is not None
    assert fields.version == int(version[2:])
    assert fields.persistent is persistent


@pytest.mark.parametrize(
    ("line", "expects"),
    [(b"HTTP/1.1", True), (b"HTTP/1.0", False)],  # RFC 9110, 10.1.1: ignored on 1.0
)
def test_expect_100_continue_is_ignored_in_http_1_0(line: bytes, expects: bool) -> None:
    reader = RequestReader(Limits())
    reader.receive(asked(b"POST / " + line, b"Host: a", b"Expect: 100-Continue"))
    fields = reader.next_head()
    assert fields is not None
    assert fields.expects_continue is expects


@pytest.mark.parametrize("expectation", [b"200-ok", b"", b"100-continue, x", b"100-continue;a"])
def test_any_other_expectation_is_refused(expectation: bytes) -> None:
    assert read([post(b"Expect: " + expectation)]) == Outcome((), ExpectationFailed)


def test_two_expectations_are_refused() -> None:
    assert read([post(*[b"Expect: 100-continue"] * 2)]) == Outcome((), ExpectationFailed)


def test_a_head_that_grows_with_every_request_is_read_up_to_the_limit() -> None:
    reader = RequestReader(SMALL)
    for size in range(len(post(b"X: ")), SMALL.head_bytes + 1):
        reader.receive(sized_head(size))
        assert reader.next_head() is not None
    reader.receive(sized_head(SMALL.head_bytes + 1))
    with pytest.raises(HeadTooLarge):
        reader.next_head()


def test_more_different_heads_than_the_cache_holds_are_all_read_correctly() -> None:
    for turn in range(2):
        for number in range(600):
            reader = RequestReader(Limits())
            reader.receive(post(b"X: %d" % number, b"Content-Length: %d" % (number % 7)))
            fields = reader.next_head()
            assert fields is not None, turn
            assert fields.value(b"x") == b"%d" % number
            assert fields.content_length == number % 7


# --- Any segmentation gives the same ---

_token = st.text("abcXYZ09-_.!", min_size=1, max_size=8).map(str.encode)
_value = st.text("ab c\t,;=\"'\xe4:", max_size=12).map(
    lambda text: text.encode("latin-1").strip(b" \t")
)
_places = st.sets(st.integers(0, 1 << 16), max_size=40)


@st.composite
def _requests(draw: st.DrawFn) -> tuple[bytes, Read]:
    body = draw(st.binary(max_size=60))
    target = b"/" + draw(_token)
    fields = [
        b"X-" + name + b":" + value
        for name, value in draw(st.lists(st.tuples(_token, _value), max_size=4))
    ]
    if draw(st.booleans()):
        framing, sent = [b"Transfer-Encoding: chunked"], in_chunks(body, draw(st.integers(1, 70)))
    elif body or draw(st.booleans()):
        framing, sent = [b"Content-Length: %d" % len(body)], body
    else:
        framing, sent = [], b""
    before = b"\r\n" if draw(st.booleans()) else b""
    wire = asked(b"POST " + target + b" HTTP/1.1", b"Host: a", *fields, *framing, body=sent)
    return before + wire, (b"POST", target, body)


@given(st.lists(_requests(), min_size=1, max_size=4), _places)
def test_requests_are_the_same_in_any_segmentation(
    made: list[tuple[bytes, Read]], places: set[int]
) -> None:
    wire = b"".join(sent for sent, _ in made)
    assert read(cut(wire, places)) == Outcome(tuple(expected for _, expected in made), None)


_SHORT = [malformed for malformed in MALFORMED if len(malformed.wire) < 2000]


@given(st.sampled_from(_SHORT), _places)
def test_a_malformed_request_is_refused_in_any_segmentation(
    malformed: Malformed, places: set[int]
) -> None:
    outcome = read(cut(malformed.wire + NEXT, places))
    assert outcome.requests == ()
    assert outcome.refused is not None


@given(_requests(), st.integers(0, 1 << 16), st.binary(min_size=1, max_size=3), _places)
def test_a_damaged_request_has_the_same_result_in_any_segmentation(
    made: tuple[bytes, Read], place: int, damage: bytes, places: set[int]
) -> None:
    wire = made[0]
    at = place % (len(wire) + 1)
    damaged = wire[:at] + damage + wire[at + 1 :] + NEXT
    assert read(cut(damaged, places)) == read([damaged])


# --- Malformed requests ---


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda malformed: malformed.name)
def test_a_malformed_request_is_refused_and_the_request_after_it_is_not_read(
    malformed: Malformed,
) -> None:
    outcome = read([malformed.wire + NEXT])
    assert outcome.requests == ()
    assert outcome.refused is not None
    assert issubclass(outcome.refused, BadRequest)


@pytest.mark.parametrize("malformed", _SHORT, ids=lambda malformed: malformed.name)
def test_a_malformed_request_is_refused_byte_by_byte_too(malformed: Malformed) -> None:
    outcome = read(byte_by_byte(malformed.wire + NEXT))
    assert outcome.requests == ()
    assert outcome.refused is not None


@pytest.mark.parametrize("malformed", _SHORT, ids=lambda malformed: malformed.name)
def test_a_malformed_request_is_refused_behind_a_valid_one(malformed: Malformed) -> None:
    before = post(b"Content-Length: 1", body=b"a")
    if malformed.wire[:1] in b"\r\n":
        before = b""
    outcome = read([before + malformed.wire + NEXT])
    assert outcome.requests == ((b"POST", b"/open/1", b"a"),) * bool(before)
    assert outcome.refused is not None


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /\r\n",
        b"\x16\x03\x01\0\xc8\x01",
        b"\x03\0\0\0\0",
        b"POST / HTTP/1.1\r\nHost: a\nX",
        b"\0",
        b"\n",
    ],
)
def test_a_head_that_cannot_become_valid_is_refused_before_its_end(begun: bytes) -> None:
    assert read([begun]).refused is BadRequest


def test_a_refused_head_is_refused_when_it_is_repeated() -> None:
    """A refused head is not stored in the cache of parsed heads."""
    for _ in range(3):
        assert read([post(b"X : a")]).refused is BadRequest


# --- Limits ---


@pytest.mark.parametrize("segmented", [whole, byte_by_byte])
def test_a_head_longer_than_the_limit_is_refused(segmented) -> None:
    limit = SMALL.head_bytes
    assert len(read(segmented(sized_head(limit)), SMALL).requests) == 1
    assert read(segmented(sized_head(limit + 1)), SMALL) == Outcome((), HeadTooLarge)


def test_a_head_over_the_limit_is_refused_before_its_end() -> None:
    begun = sized_head(2 * SMALL.head_bytes)
    assert read([begun[: SMALL.head_bytes]], SMALL).refused is None
    assert read([begun[: SMALL.head_bytes + 1]], SMALL).refused is HeadTooLarge


def test_a_long_body_or_pipeline_does_not_count_as_head() -> None:
    wire = post(b"Content-Length: 4096", body=b"a" * 4096) * 3
    assert len(read([wire], SMALL).requests) == 3


def test_a_head_with_more_fields_than_the_limit_is_refused() -> None:
    others = SMALL.head_fields - 1
    assert len(read([post(*[b"X: a"] * others)], SMALL).requests) == 1
    assert read([post(*[b"X: a"] * (others + 1))], SMALL) == Outcome((), HeadTooLarge)


def test_a_cached_head_is_checked_against_the_limits_of_each_reader() -> None:
    wire = post(*[b"X-Limit: a"] * 20)
    assert len(read([wire]).requests) == 1
    assert read([wire], SMALL).refused is HeadTooLarge


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"X%d:" % number for number in range(1000)], id="too many fields"),
        pytest.param([b"X: " + b"a" * 40_000], id="too many bytes"),
    ],
)
def test_a_head_that_is_refused_is_not_remembered(fields: list[bytes]) -> None:
    tracemalloc.start()
    try:
        for number in range(64):
            wire = post(b"X: %d" % number, *fields)
            assert read([wire]) == Outcome((), HeadTooLarge)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 256 * 1024


@pytest.mark.parametrize("segmented", [whole, byte_by_byte])
@pytest.mark.parametrize("size", [1, 7, 4096, 5000])
def test_a_body_longer_than_the_limit_is_refused(segmented, size: int) -> None:
    limit = SMALL.body_bytes
    body = b"a" * limit
    fits = {
        "length": post(b"Content-Length: %d" % limit, body=body),
        "chunks": chunked(in_chunks(body, size)),
    }
    for wire in fits.values():
        assert read(segmented(wire), SMALL) == Outcome(((b"POST", b"/open/1", body),), None)
    over = {
        "length": post(b"Content-Length: %d" % (limit + 1), body=body + b"a"),
        "chunks": chunked(in_chunks(body + b"a", size)),
    }
    for wire in over.values():
        assert read(segmented(wire), SMALL) == Outcome((), BodyTooLarge)


def test_a_content_length_over_the_limit_is_refused_at_the_end_of_the_head() -> None:
    head = post(b"Content-Length: %d" % (SMALL.body_bytes + 1))
    assert read([head], SMALL) == Outcome((), BodyTooLarge)


def test_a_content_length_with_too_many_digits_is_refused_at_the_end_of_the_head() -> None:
    for length in (b"9" * 16, b"0" * 20 + b"1"):
        reader = RequestReader(Limits())
        reader.receive(post(b"Content-Length: " + length))
        with pytest.raises(BadRequest):
            reader.next_head()


def test_a_chunk_size_over_the_limit_is_refused_before_the_chunk_arrives() -> None:
    """``whole_body`` raises as soon as the body is known to be longer than the limit."""
    for begun in (b"ffffffff\r\n", b"1001\r\n", b"1001\r\na", b"1000\r\n%b\r\n1\r\n" % bytes(4096)):
        assert read([chunked(begun)], SMALL) == Outcome((), BodyTooLarge)
    assert read([chunked(b"1000\r\n")], SMALL).refused is None


def test_chunks_that_exceed_the_limit_together_are_refused_before_the_last_chunk() -> None:
    wire = chunked(b"1000\r\n" + b"a" * 4096 + b"\r\n1\r\na")
    assert read([wire], SMALL) == Outcome((), BodyTooLarge)


@pytest.mark.parametrize("segmented", [whole, byte_by_byte])
def test_a_chunk_extension_longer_than_the_limit_is_refused(segmented) -> None:
    fits = chunked(b"1;" + b"a" * 200 + b"\r\na\r\n0\r\n\r\n")
    over = chunked(b"1;" + b"a" * 300 + b"\r\na\r\n0\r\n\r\n")
    assert len(read(segmented(fits)).requests) == 1
    assert read(segmented(over)) == Outcome((), BadRequest)


@pytest.mark.parametrize("segmented", [whole, byte_by_byte])
def test_a_trailer_longer_than_the_limit_of_a_head_is_refused(segmented) -> None:
    fits = chunked(b"0\r\nX: " + b"a" * 900 + b"\r\n\r\n")
    over = chunked(b"0\r\nX: " + b"a" * SMALL.head_bytes + b"\r\n\r\n")
    assert len(read(segmented(fits), SMALL).requests) == 1
    assert read(segmented(over), SMALL) == Outcome((), HeadTooLarge)


def test_a_body_of_tiny_chunks_takes_little_more_memory_than_its_size() -> None:
    """DESIGN.md, Limits: a request body takes at most 1 MiB, in any segmentation."""
    size = 64 * 1024
    reader = RequestReader(Limits())
    reader.receive(chunked(b""))
    reader.next_head()
    piece = b"2\r\nab\r\n" * 1024
    tracemalloc.start()
    try:
        for _ in range(size // 2048):
            reader.receive(piece)
            reader.whole_body()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * size


def processor_time(segments: list[bytes]) -> float:
    """The minimum of three runs: other load on the machine can only increase the time."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        outcome = read(segments)
        times.append(time.process_time() - begun)
        assert outcome.refused is None
    return min(times)


@pytest.mark.parametrize(
    "segments",
    [
        pytest.param(lambda size: byte_by_byte(sized_head(size)[:-1]), id="a head byte by byte"),
        pytest.param(lambda size: [chunked(in_chunks(b"ab" * (size // 2), 2))], id="tiny chunks"),
        pytest.param(lambda size: [post() * (size // len(post()))], id="pipelined requests"),
    ],
)
def test_parsing_time_is_linear_in_the_number_of_bytes(segments) -> None:
    """Otherwise the unusual segments of one client delay the streams of all others."""
    small, large = processor_time(segments(2 * 1024)), processor_time(segments(8 * 1024))
    assert large < 0.05 or large < 10 * small


# --- Pulling ---


def test_a_request_that_is_not_pulled_stays_in_the_buffer_unparsed() -> None:
    reader = RequestReader(Limits())
    reader.receive(post(b"Content-Length: 1", body=b"a") + NEXT)
    assert reader.next_head() is not None
    assert reader.target == b"/open/1"
    assert reader.buffer == b"a" + NEXT
    assert reader.whole_body() == b"a"
    assert (reader.target, reader.buffer) == (b"/open/1", NEXT)
    assert reader.next_head() is not None
    assert (reader.target, reader.buffer) == (b"/smuggled", b"")
    assert reader.next_head() is None


def test_a_request_without_body_framing_has_an_empty_body() -> None:
    reader = RequestReader(Limits())
    reader.receive(post())
    reader.next_head()
    assert not reader.in_body
    assert reader.whole_body() == b""
    assert reader.next_piece() == b""


@pytest.mark.parametrize("framing", ["length", "chunks"])
@given(body=st.binary(min_size=1, max_size=200), size=st.integers(1, 50), places=_places)
def test_the_pieces_of_a_body_are_the_whole_body_and_no_byte_after_it(
    framing, body, size, places
) -> None:
    if framing == "length":
        wire = post(b"Content-Length: %d" % len(body), body=body)
    else:
        wire = chunked(in_chunks(body, size))
    reader = RequestReader(SMALL)
    head = wire.index(b"\r\n\r\n") + 4
    reader.receive(wire[:head])
    assert reader.next_head() is not None
    assert reader.in_body
    pieces = []
    for segment in cut(wire[head:] + NEXT, places):
        reader.receive(segment)
        while piece := reader.next_piece():
            pieces.append(piece)
    assert b"".join(pieces) == body
    assert not reader.in_body
    assert reader.buffer == NEXT
    assert reader.next_head() is not None
    assert reader.target == b"/smuggled"


def test_a_body_read_in_pieces_is_returned_as_it_arrives_and_has_no_size_limit() -> None:
    """Bodies for the website are streamed and bounded by back-pressure."""
    reader = RequestReader(SMALL)
    reader.receive(post(b"Content-Length: %d" % (3 * SMALL.body_bytes)))
    reader.next_head()
    for _ in range(3):
        assert reader.in_body
        assert reader.next_piece() == b""
        reader.receive(b"a" * SMALL.body_bytes)
        assert reader.next_piece() == b"a" * SMALL.body_bytes
    assert not reader.in_body


def test_a_malformed_chunk_is_refused_between_pieces() -> None:
    reader = RequestReader(Limits())
    reader.receive(chunked(b"1\r\na\r\nx\r\n"))
    reader.next_head()
    assert reader.next_piece() == b"a"
    with pytest.raises(BadRequest):
        reader.next_piece()


@pytest.mark.parametrize(
    ("wire", "begun"),
    [
        (post(b"Content-Length: 2"), False),
        (post(b"Content-Length: 2", body=b"a"), True),
        (chunked(b""), False),
        (chunked(b"5"), True),
        (chunked(b"5\r\n"), True),
        (chunked(b"5\r\na"), True),
    ],
)
def test_body_begun_is_true_after_the_first_byte_of_the_body(wire: bytes, begun: bool) -> None:
    reader = RequestReader(Limits())
    reader.receive(wire)
    assert reader.next_head() is not None
    assert reader.whole_body() is None
    assert reader.body_begun is begun


def test_body_begun_is_false_again_for_the_next_request() -> None:
    reader = RequestReader(Limits())
    reader.receive(chunked(b"1\r\na\r\n"))
    reader.next_head()
    reader.whole_body()
    reader.receive(b"0\r\n\r\n" + post(b"Content-Length: 1"))
    assert reader.whole_body() == b"a"
    assert reader.next_head() is not None
    assert reader.whole_body() is None
    assert not reader.body_begun


def test_a_body_read_in_pieces_leaves_no_data_in_the_next_body() -> None:
    limit = SMALL.body_bytes
    wire = post(b"Content-Length: %d" % limit, body=b"a" * limit)
    outcome = read(byte_by_byte(wire) + byte_by_byte(wire), SMALL)
    assert outcome == Outcome(((b"POST", b"/open/1", b"a" * limit),) * 2, None)


def test_a_head_received_in_pieces_does_not_affect_the_next_head() -> None:
    """A repeated head is recognised by its end; the search position in earlier pieces must be reset."""
    wire = post(b"Content-Length: 1", body=b"a")
    reader = RequestReader(Limits())
    for _ in range(3):
        reader.receive(wire[:-9])
        assert reader.next_head() is None
        reader.receive(wire[-9:])
        assert reader.next_head() is not None
        assert reader.whole_body() == b"a"
        reader.receive(post())
        assert reader.next_head() is not None
        assert reader.whole_body() == b""
