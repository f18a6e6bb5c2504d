"""The course of authentication at a proxy: challenges that are adopted, expired, or hopeless."""

from __future__ import annotations

from base64 import b64encode

import pytest

from gateway.protocols.fields import Items
from gateway.protocols.proxy_client.authentication import Authentication
from gateway.protocols.proxy_client.digest import Credentials

ANN = Credentials("ann", "p:w")
BASIC = b"Proxy-Authorization: Basic " + b64encode(b"ann:p:w") + b"\r\n"


def asks(*challenges: bytes) -> Items:
    return tuple((b"proxy-authenticate", each) for each in challenges)


def digest(nonce: bytes, more: bytes = b"") -> bytes:
    return b'Digest realm="r", nonce="%b", qop="auth"%b' % (nonce, more)


@pytest.fixture
def authentication() -> Authentication:
    return Authentication(ANN, lambda: "c")


def field(authentication: Authentication) -> bytes:
    return authentication.field(b"CONNECT", b"host:443")


def test_nothing_is_sent_before_the_proxy_asks(authentication: Authentication) -> None:
    assert field(authentication) == b""


def test_basic_is_answered_once(authentication: Authentication) -> None:
    assert authentication.adopt(asks(b'Basic realm="r"'), 0)
    assert field(authentication) == BASIC
    assert not authentication.adopt(asks(b'Basic realm="r"'), authentication.generation)


def test_refused_credentials_are_sent_again_only_when_the_proxy_asks(
    authentication: Authentication,
) -> None:
    authentication.adopt(asks(b'Basic realm="r"'), 0)
    authentication.adopt(asks(b'Basic realm="r"'), authentication.generation)
    assert field(authentication) == b""
    assert authentication.adopt(asks(b'Basic realm="r"'), authentication.generation)
    assert field(authentication) == BASIC


@pytest.mark.parametrize(
    ("challenges", "begins"),
    [
        ((b'Basic realm="r"', digest(b"n")), b'Proxy-Authorization: Digest username="ann"'),
        ((b"Negotiate", b'Basic realm="r"'), BASIC),
        ((digest(b"n") + b", " + digest(b"s", b", algorithm=SHA-256"),), b'nonce="s"'),
        ((digest(b"n", b", algorithm=TIGER"), b'Basic realm="r"'), BASIC),
    ],
)
def test_the_strongest_challenge_is_answered(
    authentication: Authentication, challenges: tuple[bytes, ...], begins: bytes
) -> None:
    assert authentication.adopt(asks(*challenges), 0)
    assert begins in field(authentication)


def test_a_stale_nonce_is_replaced(authentication: Authentication) -> None:
    authentication.adopt(asks(digest(b"one")), 0)
    before = authentication.generation
    assert authentication.adopt(asks(digest(b"two", b", stale=TRUE")), before)
    assert b'nonce="two"' in field(authentication)


def test_a_nonce_that_was_accepted_and_is_refused_has_been_forgotten(
    authentication: Authentication,
) -> None:
    authentication.adopt(asks(digest(b"one")), 0)
    authentication.note_accepted(authentication.generation)
    assert authentication.adopt(asks(digest(b"two")), authentication.generation)
    # The new one was not accepted yet: now the credentials are wrong.
    assert not authentication.adopt(asks(digest(b"three")), authentication.generation)


def test_a_wrong_password_is_not_tried_again(authentication: Authentication) -> None:
    authentication.adopt(asks(digest(b"one")), 0)
    assert not authentication.adopt(asks(digest(b"two")), authentication.generation)


def test_a_request_that_was_sent_before_a_challenge_is_repeated(
    authentication: Authentication,
) -> None:
    authentication.adopt(asks(digest(b"one")), 0)
    now = field(authentication)
    assert authentication.adopt(asks(digest(b"two")), 0)
    assert now[:60] == field(authentication)[:60]


def test_the_acceptance_of_an_older_request_says_nothing(authentication: Authentication) -> None:
    authentication.adopt(asks(digest(b"one")), 0)
    authentication.note_accepted(0)
    assert not authentication.adopt(asks(digest(b"two")), authentication.generation)


@pytest.mark.parametrize(
    ("credentials", "challenges", "said"),
    [
        (None, (b'Basic realm="r"',), "give --proxy with name and password"),
        (ANN, (b"Negotiate", b"NTLM"), "it asks for Negotiate, Ntlm, and only Basic and"),
        (None, (), "give --proxy with name and password"),
        (None, (b"Negotiate",), "it asks for Negotiate, and only Basic and"),
        (ANN, (), "does not accept the name and password"),
        (ANN, (b'Basic realm="r"',), "does not accept the name and password"),
    ],
)
def test_a_hopeless_challenge_is_explained(
    credentials: Credentials | None, challenges: tuple[bytes, ...], said: str
) -> None:
    authentication = Authentication(credentials, lambda: "c")
    items = asks(*challenges)
    while authentication.adopt(items, authentication.generation):
        pass
    assert said in authentication.explanation(items)
