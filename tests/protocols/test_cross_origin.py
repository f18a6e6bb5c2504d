"""Who may send cross-origin requests, and the fields that say so."""

from __future__ import annotations

import pytest

from gateway.protocols.cross_origin import CrossOrigin
from gateway.protocols.fields import Items, items_of

A, B = "https://a.example", "http://b.example:8000"
NAMED = CrossOrigin((A, B))
ALL = CrossOrigin(("*",))
PRIVATE = (b"access-control-request-private-network", b"true")


def asking(origin: str) -> tuple[tuple[bytes, bytes]]:
    return ((b"origin", origin.encode()),)


def fields(lines: bytes) -> dict[bytes, bytes]:
    """Field lines, each of another name."""
    items = items_of(lines)
    assert len(dict(items)) == len(items)
    return dict(items)


@pytest.mark.parametrize("origin", [A, B])
def test_a_listed_origin_is_repeated_in_an_answer_that_varies_by_it(origin: str) -> None:
    assert NAMED.origin_of(asking(origin)) == origin.encode()
    assert fields(NAMED.of_answer(origin.encode())) == {
        b"access-control-allow-origin": origin.encode(),
        b"vary": b"Origin",
        b"access-control-expose-headers": b"RTMPT-Options",
    }


@pytest.mark.parametrize(
    "items",
    [
        (),
        asking("https://c.example"),
        asking("https://a.example:8443"),
        asking("http://a.example"),
        asking("https://a.example.evil.example"),
        asking("null"),
        asking("*"),
        asking(""),
        # An intermediary that has added one.
        (*asking(A), *asking(B)),
    ],
)
def test_any_other_origin_is_not_allowed(items: Items) -> None:
    assert NAMED.origin_of(items) == b""
    assert NAMED.of_preflight((*items, PRIVATE)) == b""


def test_all_origins_are_allowed_in_the_same_words() -> None:
    assert ALL.origin_of(asking(A)) == ALL.origin_of(asking("null")) == b"*"
    assert ALL.origin_of(()) == b""
    found = fields(ALL.of_answer(b"*"))
    assert found[b"access-control-allow-origin"] == b"*"
    assert b"vary" not in found


def test_a_preflight_allows_the_methods_and_fields_of_tunnel_clients() -> None:
    found = fields(NAMED.of_preflight(asking(A)))
    assert found == {
        b"access-control-allow-origin": A.encode(),
        b"vary": b"Origin",
        b"access-control-allow-methods": b"POST",
        b"access-control-allow-headers": b"Content-Type, RTMPT-Options",
        b"access-control-max-age": b"7200",
    }


def test_only_listed_origins_may_come_from_public_pages_to_a_private_network() -> None:
    name = b"access-control-allow-private-network"
    assert fields(NAMED.of_preflight((*asking(A), PRIVATE)))[name] == b"true"
    assert name not in fields(ALL.of_preflight((*asking(A), PRIVATE)))


def test_only_listed_origins_may_have_cookies() -> None:
    name = b"access-control-allow-credentials"
    named = CrossOrigin((A,), credentials=True)
    assert fields(named.of_answer(A.encode()))[name] == b"true"
    assert fields(named.of_preflight(asking(A)))[name] == b"true"
    every = CrossOrigin(("*",), credentials=True)
    assert name not in fields(every.of_answer(b"*")) | fields(every.of_preflight(asking(A)))
