"""CONNECT and its answer: whole, byte by byte, and with bytes behind it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadResponse
from gateway.protocols.limits import Limits
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.connecting import (
    Challenged,
    Connected,
    Connecting,
    Outcome,
    Refused,
)
from gateway.protocols.proxy_client.digest import Credentials

ASKS = b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm="r"\r\n\r\n'
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"


def authentication(credentials: Credentials | None = None) -> Authentication:
    return Authentication(credentials, lambda: "c")


def outcome(*pieces: bytes, known: Authentication | None = None) -> Outcome | None:
    connecting = Connecting("host:443", known or authentication(), Limits())
    connecting.request()
    found = None
    for piece in pieces:
        assert found is None
        found = connecting.receive(piece)
    return found


def test_the_request_names_the_server_and_has_credentials_once_they_are_asked_for() -> None:
    known = authentication(Credentials("ann", "secret"))
    plain = b"CONNECT host:443 HTTP/1.1\r\nHost: host:443\r\n"
    assert Connecting("host:443", known, Limits()).request() == plain + b"\r\n"
    assert outcome(ASKS, known=known) == Challenged()
    request = Connecting("host:443", known, Limits()).request()
    assert request == plain + b"Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_any_2xx_connects_and_what_follows_is_the_servers(answer: bytes) -> None:
    assert outcome(answer) == Connected(b"")
    assert outcome(answer + b"\x16\x03") == Connected(b"\x16\x03")
    assert outcome(*(bytes([byte]) for byte in answer)) == Connected(b"")


def test_a_refusal_has_its_status_and_reason_before_its_page() -> None:
    page = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10000\r\n\r\n"
    assert outcome(page) == Refused(403, "Forbidden")
    assert str(outcome(page)) == "403 Forbidden"


def test_a_reason_is_made_printable_and_short() -> None:
    refused = outcome(b"HTTP/1.1 503 a\tb\xe9" + b"c" * 1000 + b"\r\n\r\n")
    assert isinstance(refused, Refused)
    assert refused.reason.startswith("a b?ccc")
    assert len(refused.reason) == 60
    assert str(outcome(b"HTTP/1.1 503\r\n\r\n")) == "503"


def test_407_without_credentials_says_what_to_do() -> None:
    assert str(outcome(ASKS)) == "407 Who (give --proxy with name and password)"


def test_credentials_that_are_accepted_are_noted() -> None:
    known = authentication(Credentials("ann", "secret"))
    asks = b'HTTP/1.1 407 Who\r\nProxy-Authenticate: Digest realm="r", nonce="%b"\r\n\r\n'
    assert outcome(asks % b"one", known=known) == Challenged()
    assert outcome(OK, known=known) == Connected(b"")
    # So this one is about the nonce.
    assert outcome(asks % b"two", known=known) == Challenged()
    assert isinstance(outcome(asks % b"three", known=known), Refused)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x15\x03\x01", b"HTTP/1.1 200 OK\n\n"]
)
def test_what_is_no_proxy_is_refused_at_once(answer: bytes) -> None:
    with pytest.raises(BadResponse):
        outcome(answer)


_PARTS = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"407", b"100", b"999", b" OK", b"\r\n", b"\r\n\r\n"),
    *(b"Proxy-Authenticate: ", b"Digest ", b"Basic ", b'realm="r"', b'nonce="n"', b", ", b'"'),
    *(
        b"qop=auth",
        b"algorithm=",
        b"SHA-256",
        b"stale=true",
        b"Content-Length: 5",
        b"\x00",
        b"\xff",
    ),
]


@given(st.lists(st.sampled_from(_PARTS) | st.binary(max_size=4)), st.integers(1, 20))
def test_any_answer_has_the_same_outcome_in_any_pieces(parts: list[bytes], size: int) -> None:
    answer = b"".join(parts)

    def read(pieces: list[bytes]) -> object:
        known = authentication(Credentials("ann", "secret"))
        connecting = Connecting("host:443", known, Limits())
        connecting.request()
        rest = iter(pieces)
        with suppress(BadResponse):
            for piece in rest:
                found = connecting.receive(piece)
                if isinstance(found, Connected):
                    return found.rest + b"".join(rest)
                if found is not None:
                    return found
            return None
        return BadResponse

    whole = read([answer])
    assert whole == read([answer[at : at + size] for at in range(0, len(answer), size)])
