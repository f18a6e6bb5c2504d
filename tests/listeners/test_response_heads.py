"""The exact bytes of responses, which some clients compare (PROTOCOL.md, What each client needs)."""

from __future__ import annotations

import h11
import pytest

from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    CapacityReached,
    ExpectationFailed,
    HeadTooLarge,
    NotFound,
    RequestRefused,
    UnknownSession,
    UpstreamUnavailable,
)
from gateway.listeners.response_heads import (
    CLOSES,
    CONTINUE,
    STAYS,
    STAYS_AS_ASKED,
    CrossOriginHeads,
    ResponseHeads,
    response_heads,
)
from gateway.protocols.cross_origin import CrossOrigin
from gateway.protocols.http import Fields

REFUSALS = {
    BadRequest: 400,
    NotFound: 404,
    UnknownSession: 404,
    BodyTooLarge: 413,
    ExpectationFailed: 417,
    HeadTooLarge: 431,
    UpstreamUnavailable: 503,
    CapacityReached: 503,
}
FIELDS = [
    (STAYS, b""),
    (STAYS_AS_ASKED, b"Connection: keep-alive\r\n"),
    (CLOSES, b"Connection: close\r\n"),
]


@pytest.mark.parametrize(("answers", "field"), FIELDS)
def test_a_response_head_has_exactly_these_bytes(answers: ResponseHeads, field: bytes) -> None:
    before = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-fcs\r\nCache-Control: no-cache\r\n"
        + field
        + b"Content-Length: "
    )
    for size in (0, 1, 10, 65536):
        assert answers.head(size) == before + b"%d\r\n\r\n" % size
    for octet in range(256):
        assert answers.one_byte[octet] == before + b"1\r\n\r\n" + bytes([octet])


@pytest.mark.parametrize(
    ("error", "status"), REFUSALS.items(), ids=lambda part: getattr(part, "__name__", None)
)
@pytest.mark.parametrize(("answers", "field"), FIELDS)
def test_a_refusal_is_a_status_with_an_empty_body(
    error: type[RequestRefused], status: int, answers: ResponseHeads, field: bytes
) -> None:
    sent = answers.refusal(error("what only the operator may know"))
    line, rest = sent.split(b"\r\n", 1)
    assert line.startswith(b"HTTP/1.1 %d " % status)
    assert rest == field + b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize(("answers", "_field"), FIELDS)
def test_another_http_parser_reads_every_answer(answers: ResponseHeads, _field: bytes) -> None:
    refusals = [answers.refusal(error("")) for error in REFUSALS]
    for sent in (answers.one_byte[1], answers.head(3) + b"\x01ab", *refusals):
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(CONTINUE + sent)
        assert client.next_event().status_code == 100
        assert type(client.next_event()) is h11.Response
        while type(event := client.next_event()) is h11.Data:
            pass
        assert type(event) is h11.EndOfMessage
        closes = client.their_state is h11.MUST_CLOSE or client.their_state is h11.CLOSED
        assert closes is answers.closes


@pytest.mark.parametrize(
    ("version", "persistent", "answers"),
    [(1, True, STAYS), (1, False, CLOSES), (0, True, STAYS_AS_ASKED), (0, False, CLOSES)],
)
def test_the_connection_field_is_sent_only_if_it_differs_from_the_versions_default(
    version, persistent, answers
) -> None:
    request = Fields(version, (), 0, False, persistent, False)
    assert response_heads(request) is answers


ORIGIN = b"https://a.example"


@pytest.mark.parametrize(
    ("version", "persistent", "plain"),
    [(1, True, STAYS), (1, False, CLOSES), (0, True, STAYS_AS_ASKED), (0, False, CLOSES)],
)
def test_an_allowed_origin_adds_fields_to_every_answer_and_only_to_its_own(
    version: int, persistent: bool, plain: ResponseHeads
) -> None:
    heads = CrossOriginHeads(CrossOrigin((ORIGIN.decode(), "https://b.example")))
    request = Fields(version, ((b"origin", ORIGIN),), 0, False, persistent, False)
    found = heads.of(request)
    for sent in (
        found.one_byte[1],
        found.head(3),
        found.refusal(NotFound("")),
        found.closing.head(9),
    ):
        assert (
            sent.count(b"Access-Control-Allow-Origin: https://a.example\r\nVary: Origin\r\n") == 1
        )
    assert found.closes is plain.closes
    assert found.closing.closes
    assert heads.of(request) is found
    for items in ((), ((b"origin", b"https://c.example"),)):
        assert heads.of(Fields(version, items, 0, False, persistent, False)) is plain
