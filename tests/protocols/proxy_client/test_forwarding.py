"""Requests to a proxy that forwards them: their credentials, and challenges at any request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadResponse
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import Challenged, Refused
from gateway.protocols.proxy_client.digest import Credentials
from gateway.protocols.proxy_client.forwarding import ForwardedRequests, Received
from gateway.protocols.tunnel_client.requests import Requests

REQUESTS = Requests("media:80", absolute=True)
ONE = REQUESTS.head(Kind.SEND, b"ID", 1, 4)
TWO = REQUESTS.head(Kind.IDLE, b"ID", 2, 1)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n\x01data"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\x01\r\n4\r\ndata\r\n0\r\n\r\n"
)
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
# Squid's and tinyproxy's forms.
ASKS = (
    b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Digest realm="r", nonce="%b", qop="auth"\r\n'
    b"Content-Length: 3\r\n\r\nabc"
)
ASKS_BASIC = b'HTTP/1.0 407 Who\r\nProxy-Authenticate: Basic realm="r"\r\n\r\n<html>'


def forwarded(is_opening: bool = True) -> ForwardedRequests:
    known = Authentication(Credentials("ann", "secret"), lambda: "c")
    return ForwardedRequests(known, Limits(), is_opening)


def test_targets_are_absolute() -> None:
    assert REQUESTS.open().startswith(b"POST http://media:80/open/1 HTTP/1.1\r\nHost: media:80\r\n")
    assert ONE.startswith(b"POST http://media:80/send/ID/1 HTTP/1.1\r\n")
    assert REQUESTS.close_at_once(b"ID").startswith(b"POST http://media:80/close/ID HTTP/1.1\r\n")


def test_a_request_is_unchanged_until_the_proxy_asks() -> None:
    assert forwarded().head(ONE, b"data") == ONE


@pytest.mark.parametrize("answer", [OK, CHUNKED, EMPTY, b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
def test_answers_pass_as_they_are(answer: bytes) -> None:
    requests = forwarded()
    for head in (ONE, TWO):
        requests.head(head, b"")
    assert requests.receive(answer + answer) == Received(answer + answer)
    # Unasked, such as before a close.
    assert requests.receive(b"HTTP/1.1 408 Late\r\n\r\n") == Received(b"HTTP/1.1 408 Late\r\n\r\n")


def test_all_unanswered_requests_are_sent_again_with_the_credentials_of_each() -> None:
    requests = forwarded()
    requests.head(ONE, b"data")
    requests.head(TWO, b"\x00")
    assert requests.receive(ASKS % b"n") == Received(b"", Challenged())
    (first, body), (second, other) = requests.again()
    assert (body, other) == (b"data", b"\x00")
    for head, sent, count in ((ONE, first, b"1"), (TWO, second, b"2")):
        line, _, rest = head.partition(b"\r\n")
        assert sent.startswith(line + b"\r\nProxy-Authorization: Digest ")
        assert sent.endswith(b"\r\n" + rest)
        assert b'uri="%b"' % line.split()[1] in sent
        assert b"nc=0000000" + count in sent
    assert requests.receive(OK) == Received(OK)


def test_a_challenge_in_the_middle_of_a_session_repeats_what_has_no_answer() -> None:
    requests = forwarded()
    requests.head(ONE, b"data")
    requests.receive(ASKS % b"one")
    requests.again()
    requests.receive(OK)
    requests.head(TWO, b"\x00")
    requests.head(ONE, b"more")
    assert requests.receive(OK + ASKS % b"two") == Received(OK, Challenged())
    assert [body for _, body in requests.again()] == [b"more"]


def test_a_page_that_ends_with_its_connection_is_not_waited_for() -> None:
    requests = forwarded()
    requests.head(ONE, b"data")
    assert requests.receive(ASKS_BASIC) == Received(b"", Challenged())
    assert b"\r\nProxy-Authorization: Basic YW5uOnNlY3JldA==\r\n" in requests.again()[0][0]
    assert isinstance(requests.receive(ASKS_BASIC).outcome, Refused)


def test_challenges_without_end_are_a_refusal() -> None:
    requests = forwarded()
    requests.head(ONE, b"data")
    stale = (ASKS % b"n").replace(b"qop=", b"stale=true, qop=")
    outcomes = []
    for _ in range(3):
        outcomes.append(requests.receive(stale).outcome)
        requests.again()
    assert outcomes[:2] == [Challenged(), Challenged()]
    assert isinstance(outcomes[2], Refused)


def test_the_first_refusal_is_told_and_later_ones_are_the_sessions() -> None:
    missing = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    requests = forwarded()
    requests.head(ONE, b"data")
    assert requests.receive(missing) == Received(b"", Refused(403, "Forbidden"))
    requests = forwarded()
    requests.head(ONE, b"data")
    requests.head(TWO, b"\x00")
    assert requests.receive(OK + missing) == Received(OK + missing)


def test_on_a_further_connection_of_a_session_the_first_refusal_is_the_sessions_too() -> None:
    """Such as the 404 of a gateway whose session has ended, on a connection that carries one command."""
    ended = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    requests = forwarded(is_opening=False)
    requests.head(ONE, b"data")
    assert requests.receive(ended) == Received(ended)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_what_is_not_an_answer_is_an_error(answer: bytes) -> None:
    requests = forwarded()
    requests.head(ONE, b"data")
    with pytest.raises(BadResponse):
        requests.receive(answer)


_ANSWERS = [OK, CHUNKED, EMPTY, ASKS % b"n", ASKS_BASIC, b"HTTP/1.1 100 Continue\r\n\r\n"]


@given(st.lists(st.sampled_from(_ANSWERS) | st.binary(max_size=6)), st.integers(1, 40))
def test_any_answers_are_the_same_in_any_pieces(answers: list[bytes], size: int) -> None:
    data = b"".join(answers)

    def read(pieces: list[bytes]) -> tuple[bytes, object]:
        requests = forwarded()
        for number in range(8):
            requests.head(REQUESTS.head(Kind.IDLE, b"ID", number, 1), b"\x00")
        passed = b""
        for piece in pieces:
            try:
                received = requests.receive(piece)
            except BadResponse:
                return b"", BadResponse
            passed += received.data
            if received.outcome is not None:
                return passed, received.outcome
        return passed, None

    whole = read([data])
    cut = read([data[at : at + size] for at in range(0, len(data), size)])
    # In pieces, more has passed before the part that is not HTTP.
    assert BadResponse in (whole[1], cut[1]) or whole == cut
