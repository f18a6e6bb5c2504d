"""Strict parsing of query parameters and bodies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin.http.problems import BadParameter
from gateway.admin.resources.diagnosis import diagnose
from gateway.admin.resources.queries import (
    MOST_SESSIONS,
    SESSION_PARAMETERS,
    SORTS,
    SessionQuery,
    parse_level,
    parse_query,
    session_query,
)
from tests.helpers.admin_server import summary


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", {}),
        (b"stream=a%20b&app=", {"stream": "a b", "app": ""}),
        (b"stream=%C3%BC+x", {"stream": "ü x"}),
    ],
)
def test_valid_parameters_are_parsed(text: bytes, found: dict[str, str]) -> None:
    assert parse_query(text, SESSION_PARAMETERS) == found


@pytest.mark.parametrize(
    "text",
    [
        b"stream",
        b"other=1",
        b"stream=1&stream=2",
        b"stream=%ff",
        b"stream=\xff",
        b"&",
        b"a" * 9000,
        b"&".join(b"x%d=1" % n for n in range(17)),
    ],
)
def test_invalid_values_are_refused(text: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_query(text, SESSION_PARAMETERS)


@pytest.mark.parametrize(
    "parameters",
    [
        *({"limit": limit} for limit in ("0", "-1", "1001", "1e2", "", "٣", "9" * 5000, " 1")),
        {"sort": "secret"},
        {"order": "up"},
        {"stream": "x" * 129},
    ],
)
def test_values_out_of_range_are_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(BadParameter):
        session_query(parameters)


def test_every_filter_excludes_sessions() -> None:
    one = summary()
    fits = {
        "app": "live",
        "address": "192.0.2.1",
        "stream": "camera",
        "alias": "0000",
        "limit": "5",
    }
    query = session_query({**fits, "upstream": "media:1935", "protocol": "rtmpt"})
    assert query.takes(one)
    assert query.wanted.takes_summary(one)
    for name in ("app", "address", "stream", "alias", "upstream", "protocol"):
        other = session_query({name: "another"})
        assert not (other.takes(one) and other.wanted.takes_summary(one)), name


@pytest.mark.parametrize("sort", SORTS)
def test_sessions_can_be_sorted_by_every_key(sort: str) -> None:
    some = [summary(alias=f"0000-{n}", tcp=None if n % 2 else summary().tcp) for n in range(12)]
    best = SessionQuery(sort=sort, descending=True, limit=3).best(some)
    assert len(best) == 3


def test_the_order_of_sessions_is_total() -> None:
    some = [summary(alias=f"0000-{n}", bytes_up=n // 4) for n in (9, 3, 10, 1)]
    up = SessionQuery(sort="bytes_up").best(some)
    down = SessionQuery(sort="bytes_up", descending=True).best(some)
    assert [each.alias for each in up] == ["0000-1", "0000-3", "0000-9", "0000-10"]
    assert [each.alias for each in down] == ["0000-9", "0000-10", "0000-1", "0000-3"]


def test_the_session_with_the_longest_delay_of_any_kind_is_first() -> None:
    slow = ({}, {"upstream_delay": 0.3}, {"ping_upstream": 0.4}, {"downstream_wait": 0.5})
    some = [summary(latencies=latencies) for latencies in slow]
    best = SessionQuery(sort="delay", descending=True).best(some)
    delays_s = [diagnose(each).delay_s for each in best]
    assert delays_s == sorted(delays_s, reverse=True)
    assert delays_s[0] > delays_s[-1]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'"info"',
        b'{"level": 1}',
        b'{"level": "x"}',
        b"\xff",
        b"[" * 4000,
        b'{"level": "info", "more": 1}',
        b'{"level": ["info"]}',
    ],
)
def test_a_body_that_names_no_level_is_refused(body: bytes) -> None:
    with pytest.raises(BadParameter):
        parse_level(body, ("info", "debug"))


@given(st.binary(max_size=200))
def test_no_query_string_raises_an_unexpected_error(text: bytes) -> None:
    try:
        query = session_query(parse_query(text, SESSION_PARAMETERS))
    except BadParameter:
        return
    assert 1 <= query.limit <= MOST_SESSIONS
