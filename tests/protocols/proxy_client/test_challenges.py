"""The challenges of Proxy-Authenticate fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.proxy_client.challenges import Challenge, challenges_of


def read(*fields: bytes) -> list[Challenge]:
    return challenges_of(tuple((b"proxy-authenticate", each) for each in fields))


BASIC = Challenge(b"basic", {b"realm": b"a"})


@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        (b'Basic realm="a"', [BASIC]),
        (b"basic REALM=a", [BASIC]),
        (b'Basic realm = "a" ', [BASIC]),
        (b'Basic realm="a, b=\\"c\\\\"', [Challenge(b"basic", {b"realm": b'a, b="c\\'})]),
        (b'Basic realm="a", realm="b"', [BASIC]),
        (b"Negotiate", [Challenge(b"negotiate", {})]),
        (
            b'Negotiate, NTLM TlRMTVN==, Basic realm="a"',
            [Challenge(b"negotiate", {}), Challenge(b"ntlm", {}), BASIC],
        ),
        (
            b'Digest realm="a", qop="auth,auth-int", stale=false, Basic realm="a"',
            [
                Challenge(
                    b"digest", {b"realm": b"a", b"qop": b"auth,auth-int", b"stale": b"false"}
                ),
                BASIC,
            ],
        ),
        (b', ,Basic realm="a",', [BASIC]),
    ],
)
def test_a_field_is_a_list_of_challenges(value: bytes, challenges: list[Challenge]) -> None:
    assert read(value) == challenges


def test_several_fields_are_one_list() -> None:
    assert read(b"Negotiate", b'Basic realm="a"') == [Challenge(b"negotiate", {}), BASIC]
    assert challenges_of(((b"www-authenticate", b"Basic"),)) == []


@pytest.mark.parametrize("rest", [b'realm="a', b"=", b'"a"', b"; x", b"\xff"])
def test_reading_stops_at_the_first_malformed_part(rest: bytes) -> None:
    assert read(b'Basic realm="a", ' + rest)[:1] == [BASIC]


@given(
    st.lists(st.sampled_from([b"Digest", b" ", b",", b"=", b'"', b"\\", b"a", b"realm", b"\xe9"]))
)
def test_any_field_is_read_in_the_time_of_its_length(parts: list[bytes]) -> None:
    for challenge in read(b"".join(parts)):
        assert challenge.scheme
