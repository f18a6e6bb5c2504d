"""Strict parsing of query parameters and bodies of the admin server.

Every parameter is in one of the tables below, must not be repeated, and has a limit. Unknown parameters are
refused by name, so that a misspelt filter is not ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from typing import Any, Final, final
from urllib.parse import parse_qsl

from attrs import field, frozen

from gateway.admin.http.problems import BadParameter
from gateway.admin.resources.diagnosis import delay_of
from gateway.telemetry.measurement.totals import LATENCIES
from gateway.telemetry.sessions import ALL, SessionFilter
from gateway.telemetry.summary import Summary

DEFAULT_LIMIT: Final = 100
# About 1.5 kB each as JSON. For more sessions, use filters or /metrics/sessions.
MOST_SESSIONS: Final = 1000
# The length that text from clients is truncated to.
FILTER_CHARACTERS: Final = 128
# The number of sessions beyond the limit before a shortlist is cut, so that a cut costs little for each.
_SPARE: Final = 250
_QUERY_BYTES: Final = 8 * 1024
_MOST_PARAMETERS: Final = 16

Parameters = Mapping[str, str]


def _latency(name: str) -> Callable[[Summary], Any]:
    def p95(summary: Summary) -> float:
        estimate = summary.latencies.get(name)
        return estimate.p95_s if estimate is not None else -1.0

    return p95


def _by_alias(summary: Summary) -> tuple[int, str]:
    return len(summary.alias), summary.alias


def _round_trip(summary: Summary) -> float:
    return summary.tcp.round_trip_s if summary.tcp is not None else -1.0


# The sort keys. Latencies are sorted by the 95th percentile; sessions without values come first.
SORTS: Final[Mapping[str, Callable[[Summary], Any]]] = {
    "alias": _by_alias,
    "protocol": lambda summary: summary.protocol,
    "upstream": lambda summary: summary.upstream,
    "address": lambda summary: summary.address,
    "application": lambda summary: summary.application,
    "stream": lambda summary: summary.stream,
    "duration": lambda summary: summary.duration_s,
    "bytes_up": lambda summary: summary.bytes_up,
    "bytes_down": lambda summary: summary.bytes_down,
    "buffered_bytes": lambda summary: summary.buffered_bytes,
    "repeats": lambda summary: summary.repeats,
    "reorders": lambda summary: summary.reorders,
    "delay": delay_of,
    "round_trip": _round_trip,
    **{name: _latency(name) for name in LATENCIES if name != "upstream_connect"},
    "upstream_connect": lambda summary: summary.upstream_connect_s,
}
ORDERS: Final = ("asc", "desc")
# The filters, and whether each is a prefix.
FILTERS: Final = ("alias", "stream", "app", "upstream", "protocol", "address")
_METRIC_FILTERS: Final = ("alias", "stream", "upstream", "protocol")


@frozen
class SessionQuery:
    """Filters, order and limit of a list. ``wanted``: the filters that telemetry applies."""

    wanted: SessionFilter = ALL
    application: str = ""
    address: str = ""
    sort: str = "alias"
    descending: bool = False
    limit: int = field(default=DEFAULT_LIMIT)

    def takes(self, summary: Summary) -> bool:
        """Whether a session that matches ``wanted`` matches the other filters."""
        return self.application in ("", summary.application) and self.address in (
            "",
            summary.address,
        )

    def best(self, summaries: Iterable[Summary]) -> list[Summary]:
        """The first ``limit`` sessions in order; equal ones are sorted by alias."""
        shortlist = Shortlist(self)
        for summary in summaries:
            shortlist.put(summary)
        return shortlist.take()


@final
class Shortlist:
    """Selects the first sessions in a query's order, from sessions added one by one.

    The sort key is calculated once, when a session is added. ``cut`` must be called when the list
    ``is_long``, and then takes less than a millisecond.
    """

    def __init__(self, query: SessionQuery) -> None:
        self._query = query
        self._key = SORTS[query.sort]
        self._entries: list[tuple[Any, Any, Summary]] = []

    def put(self, summary: Summary) -> None:
        self._entries.append((self._key(summary), _by_alias(summary), summary))

    @property
    def is_long(self) -> bool:
        return len(self._entries) > self._query.limit + _SPARE

    def cut(self) -> None:
        """Discard all sessions that cannot be among the first."""
        self._entries.sort(key=itemgetter(1))
        self._entries.sort(key=itemgetter(0), reverse=self._query.descending)
        del self._entries[self._query.limit :]

    def take(self) -> list[Summary]:
        """The selected sessions, in order."""
        self.cut()
        return [summary for _, _, summary in self._entries]


def parse_query(text: bytes, known: Iterable[str]) -> dict[str, str]:
    """Parse the query of a target. Raises BadParameter."""
    known = tuple(known)
    if len(text) > _QUERY_BYTES:
        raise BadParameter(f"the query is over {_QUERY_BYTES} bytes")
    if not text:
        return {}
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except ValueError:
        raise BadParameter(
            f"the query is not NAME=VALUE&... in UTF-8, of at most {_MOST_PARAMETERS}"
        ) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise BadParameter(f"{_shown(name)}: unknown; known here: {', '.join(known) or 'none'}")
        if name in found:
            raise BadParameter(f"{name}: given twice")
        found[name] = value
    return found


def session_query(parameters: Parameters) -> SessionQuery:
    """The query of ``/sessions`` and ``/events``. Raises BadParameter."""
    return SessionQuery(
        wanted=session_filter(parameters),
        application=_bounded(parameters, "app"),
        address=_bounded(parameters, "address"),
        sort=_one_of(parameters, "sort", SORTS, "alias"),
        descending=_one_of(parameters, "order", ORDERS, "asc") == "desc",
        limit=_limit(parameters),
    )


SESSION_PARAMETERS: Final = (*FILTERS, "sort", "order", "limit")
METRIC_PARAMETERS: Final = _METRIC_FILTERS


def session_filter(parameters: Parameters) -> SessionFilter:
    """The filters that telemetry applies. Raises BadParameter."""
    values = {name: _bounded(parameters, name) for name in _METRIC_FILTERS}
    return SessionFilter(**values) if any(values.values()) else ALL


def parse_level(body: bytes, levels: Iterable[str]) -> str:
    """The level in a body ``{"level": "debug"}``. Raises BadParameter."""
    levels = tuple(levels)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadParameter('the body is no JSON; expected {"level": "info"}') from None
    if not isinstance(document, dict) or set(document) != {"level"}:
        raise BadParameter('expected an object with "level" alone, such as {"level": "info"}')
    level = document["level"]
    if level not in levels:
        raise BadParameter(f"level: expected one of {', '.join(levels)}")
    return str(level)


def _bounded(parameters: Parameters, name: str) -> str:
    value = parameters.get(name, "")
    if len(value) > FILTER_CHARACTERS:
        raise BadParameter(f"{name}: over {FILTER_CHARACTERS} characters")
    return value


def _one_of(parameters: Parameters, name: str, known: Iterable[str], default: str) -> str:
    value = parameters.get(name, default)
    if value not in known:
        raise BadParameter(f"{name}: expected one of {', '.join(known)}")
    return value


def _limit(parameters: Parameters) -> int:
    value = parameters.get("limit", str(DEFAULT_LIMIT))
    # str.isdigit and int also accept digits of other scripts.
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MOST_SESSIONS):
        raise BadParameter(f"limit: expected a number from 1 to {MOST_SESSIONS}")
    return int(value)


def _shown(name: str) -> str:
    return json.dumps(name[:40])
