"""HTTP responses of the admin server: status, header fields, and a body sent whole or streamed.

All responses forbid caching, content sniffing, framing and referrers.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

from attrs import field, frozen

from gateway.admin.http.problems import Problem

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
TEXT: Final = "text/plain; charset=utf-8"
EVENTS: Final = "text/event-stream"

_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# The status page overrides these.
COMMON_FIELDS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _NOTHING,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@frozen
class Response:
    """``body``: the whole body, or an iterator of small pieces, between which the reactor runs."""

    status: int = 200
    content_type: str = ""
    body: bytes | AsyncIterator[bytes] = b""
    fields: Mapping[str, str] = field(factory=dict)


def json_response(value: Any, status: int = 200) -> Response:
    """A response with a small value as JSON, on one line."""
    return Response(status, JSON, as_json(value) + b"\n")


def problem_response(problem: Problem) -> Response:
    """The response to a problem (RFC 9457). Its body is empty if the problem has none."""
    if not problem.has_body:
        return Response(problem.status, fields=problem.fields)
    document = {
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": str(problem),
    }
    return Response(problem.status, PROBLEM, as_json(document) + b"\n", problem.fields)


async def json_list(
    before: Mapping[str, Any], name: str, items: Iterable[Any]
) -> AsyncIterator[bytes]:
    """A JSON object with the members of ``before``, and ``items`` as its last one, item by item."""
    yield as_json(before)[:-1] + (b"," if before else b"") + as_json(name) + b":["
    comma = b""
    for item in items:
        yield comma + as_json(item)
        comma = b","
    yield b"]}\n"


def as_json(value: Any) -> bytes:
    """JSON in ASCII, so that no client can mistake the encoding."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
