"""Signed keys in stream names: which are valid, and until when."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.access import AccessRequest, Action
from gateway.protocols.stream_keys import StreamKeys, sign

SECRET, OLDER = b"correct horse battery staple", b"an older secret"
KEYS = StreamKeys([SECRET, OLDER], [Action.PUBLISH])
NOW = 1_800_000_000.0


def refusal(
    query: str, action: Action = Action.PUBLISH, name: str = "cam", now: float = NOW
) -> str:
    request = AccessRequest(action, "live", f"{name}?{query}" if query else name)
    return KEYS.judge(request, now).refusal


def query(
    secret: bytes = SECRET, action: Action = Action.PUBLISH, expires: str = "1800000001"
) -> str:
    return f"expires={expires}&token={sign(secret, action, 'live', 'cam', expires)}"


@pytest.mark.parametrize("secret", [SECRET, OLDER])
def test_a_key_of_any_secret_is_valid_until_it_expires(secret: bytes) -> None:
    assert not refusal(query(secret))
    assert not refusal("a=b&" + query(secret) + "&c=")
    assert refusal(query(secret), now=NOW + 1) == "the key has expired"


def test_a_token_in_capitals_is_valid() -> None:
    expires, _, token = query().partition("&token=")
    assert not refusal(f"{expires}&token={token.upper()}")


def test_other_actions_need_no_key() -> None:
    assert not refusal("", Action.PLAY)
    assert not KEYS.judge(AccessRequest(Action.CONNECT, "live"), NOW).refusal


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "a signed key is required"),
        ("expires=1800000001", "a signed key is required"),
        ("token=" + "0" * 64, "a signed key is required"),
        ("expires=&token=" + "0" * 64, "a signed key is required"),
        ("expires=1.8e9&token=" + "0" * 64, "a signed key is required"),
        ("expires=1800000001&token=short", "a signed key is required"),
        (query() + "&expires=1900000000", "a signed key is required"),
        ("&".join(f"a{index}=" for index in range(40)) + "&" + query(), "a signed key is required"),
        ("expires=1800000001&token=" + "0" * 64, "the key is not valid"),
        (query().replace("expires=18", "expires=19"), "the key is not valid"),
        (query(b"another secret"), "the key is not valid"),
        (query(action=Action.PLAY), "the key is not valid"),
    ],
)
def test_other_keys_are_refused(given: str, expected: str) -> None:
    assert refusal(given) == expected


def test_a_key_is_for_one_stream_and_one_application() -> None:
    assert refusal(query(), name="cam2") == "the key is not valid"
    request = AccessRequest(Action.PUBLISH, "vod", "cam?" + query())
    assert KEYS.judge(request, NOW).refusal == "the key is not valid"


@given(st.text())
def test_no_query_raises(given: str) -> None:
    assert refusal(given)


def test_openssl_makes_the_same_token() -> None:
    """As in the README."""
    made = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", SECRET.decode()],
        input=b"publish/live/cam/1800000001",
        capture_output=True,
        check=True,
    )
    assert made.stdout.split()[-1].decode() == sign(
        SECRET, Action.PUBLISH, "live", "cam", "1800000001"
    )
