"""Digest credentials: the examples of RFC 7616 and RFC 2617, and what is sent beside the response."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import md5, sha256

import pytest

from gateway.protocols.proxy_client.challenges import Challenge, challenges_of
from gateway.protocols.proxy_client.digest import Credentials, Digest, strength

NONCE = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
MUFASA = Credentials("Mufasa", "Circle of Life")


def challenge(**more: bytes) -> Challenge:
    parameters = {b"realm": b"http-auth@example.org", b"nonce": NONCE, b"qop": b"auth, auth-int"}
    return Challenge(b"digest", {**parameters, **{k.encode(): v for k, v in more.items()}})


def fields_of(answer: bytes) -> Mapping[bytes, bytes]:
    """The parameters of credentials, which have the syntax of a challenge."""
    (read,) = challenges_of(((b"proxy-authenticate", answer),))
    assert read.scheme == b"digest"
    return read.parameters


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        (b"MD5", b"8ca523f5e9506fed4657c9700eebdbec"),
        (b"SHA-256", b"753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616(algorithm: bytes, response: bytes) -> None:
    given = challenge(algorithm=algorithm, opaque=b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS")
    assert fields_of(Digest(given, MUFASA, CNONCE).answer(b"GET", b"/dir/index.html")) == {
        b"username": b"Mufasa",
        b"realm": b"http-auth@example.org",
        b"uri": b"/dir/index.html",
        b"algorithm": algorithm,
        b"nonce": NONCE,
        b"nc": b"00000001",
        b"cnonce": CNONCE.encode(),
        b"qop": b"auth",
        b"response": response,
        b"opaque": b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
    }


def test_the_example_of_rfc_2617_without_an_algorithm() -> None:
    parameters = {
        b"realm": b"testrealm@host.com",
        b"nonce": b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        b"qop": b"auth",
    }
    digest = Digest(
        Challenge(b"digest", parameters), Credentials("Mufasa", "Circle Of Life"), "0a4f113b"
    )
    fields = fields_of(digest.answer(b"GET", b"/dir/index.html"))
    assert fields[b"response"] == b"6629fae49393a05397450978507c4ef1"
    assert b"algorithm" not in fields
    assert b"opaque" not in fields


def test_the_count_grows_with_each_request_and_is_part_of_the_response() -> None:
    digest = Digest(challenge(), MUFASA, CNONCE)
    answers = [fields_of(digest.answer(b"CONNECT", b"host:443")) for _ in range(17)]
    assert [each[b"nc"] for each in answers[:2]] == [b"00000001", b"00000002"]
    assert answers[16][b"nc"] == b"00000011"
    assert len({each[b"response"] for each in answers}) == 17


def test_without_qop_the_response_is_that_of_rfc_2069() -> None:
    parameters = {b"realm": b"r", b"nonce": b"n"}
    answer = Digest(Challenge(b"digest", parameters), Credentials("u", "p"), "c").answer(b"M", b"t")
    inner = md5(b"u:r:p").hexdigest(), md5(b"M:t").hexdigest()
    fields = fields_of(answer)
    assert fields[b"response"] == md5(f"{inner[0]}:n:{inner[1]}".encode()).hexdigest().encode()
    assert not {b"nc", b"cnonce", b"qop"} & set(fields)


@pytest.mark.parametrize(("algorithm", "new"), [(b"MD5-sess", md5), (b"sha-256-SESS", sha256)])
def test_a_session_key_depends_on_both_nonces(algorithm: bytes, new: type[md5]) -> None:  # type: ignore[valid-type]
    parameters = {b"realm": b"r", b"nonce": b"n", b"qop": b"auth", b"algorithm": algorithm}
    answer = Digest(Challenge(b"digest", parameters), Credentials("u", "p"), "c").answer(b"M", b"t")

    def hashed(text: str) -> str:
        return str(new(text.encode()).hexdigest())

    key = hashed(hashed("u:r:p") + ":n:c")
    expected = hashed(f"{key}:n:00000001:c:auth:{hashed('M:t')}")
    assert fields_of(answer)[b"response"] == expected.encode()


def test_quotes_are_escaped_and_hashed_without_their_escapes() -> None:
    parameters = {b"realm": b'a"b', b"nonce": b"n\\"}
    answer = Digest(Challenge(b"digest", parameters), Credentials('ann "x"', "p"), "c").answer(
        b"M", b'/"'
    )
    assert b'username="ann \\"x\\"", realm="a\\"b", nonce="n\\\\", uri="/\\""' in answer
    inner = md5(b'ann "x":a"b:p').hexdigest(), md5(b'M:/"').hexdigest()
    expected = md5(f"{inner[0]}:n\\:{inner[1]}".encode()).hexdigest()
    assert fields_of(answer)[b"response"] == expected.encode()


def test_names_outside_ascii_and_hashed_names() -> None:
    jose = Credentials("José", "p")
    assert b"Digest username*=UTF-8''Jos%C3%A9, " in Digest(challenge(), jose, "c").answer(
        b"M", b"t"
    )
    hashed = fields_of(Digest(challenge(userhash=b"true"), jose, "c").answer(b"M", b"t"))
    assert hashed[b"username"] == md5("José:http-auth@example.org".encode()).hexdigest().encode()
    assert hashed[b"userhash"] == b"true"


@pytest.mark.parametrize(
    "unusable",
    [
        Challenge(b"basic", {b"realm": b"r"}),
        Challenge(b"digest", {b"realm": b"r"}),
        Challenge(b"digest", {b"nonce": b"n"}),
        challenge(algorithm=b"SHA-1"),
        challenge(qop=b"auth-int"),
    ],
)
def test_what_cannot_be_answered_has_no_strength(unusable: Challenge) -> None:
    assert strength(unusable) == 0


def test_sha_256_is_stronger() -> None:
    assert strength(challenge(algorithm=b"SHA-256-sess")) > strength(challenge()) > 0


def test_the_password_is_not_shown() -> None:
    assert "Circle" not in repr(MUFASA)
