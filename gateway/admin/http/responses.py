"""What is answered: a status, fields, and a body at once or in pieces; and how values become bodies.

Every answer forbids what no answer of ours needs: to be kept, guessed at, framed, or told where a reader
came from.
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
# What a page wants otherwise it says itself.
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
    """``body`` is all of it, or pieces, each small: between two of them others run."""

    status: int = 200
    content_type: str = ""
    body: bytes | AsyncIterator[bytes] = b""
    fields: Mapping[str, str] = field(factory=dict)


def json_response(value: Any, status: int = 200) -> Response:
    """A small value as JSON, on one line."""
    return Response(status, JSON, as_json(value) + b"\n")


def problem_response(problem: Problem) -> Response:
    """What is wrong, as RFC 9457 has it; nothing at all where nothing is to be said."""
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
    """``before`` as an object with ``items`` as its last member, an item at a time."""
    yield as_json(before)[:-1] + (b"," if before else b"") + as_json(name) + b":["
    comma = b""
    for item in items:
        yield comma + as_json(item)
        comma = b","
    yield b"]}\n"


def as_json(value: Any) -> bytes:
    """ASCII alone, so that no reader can take it for another encoding."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
