"""The operator's HTTP as an OpenAPI 3.1 document, for programs that want to know it, and for its tests.

Made of the same tables that requests are read by, where there are such.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.admin.resources.diagnosis import Cause
from gateway.admin.resources.queries import (
    DEFAULT_LIMIT,
    FILTER_CHARACTERS,
    FILTERS,
    METRIC_PARAMETERS,
    MOST_SESSIONS,
    ORDERS,
    SORTS,
)
from gateway.telemetry.measurement.history import SAMPLED
from gateway.telemetry.measurement.totals import LATENCIES

Schema = dict[str, Any]

_STRING: Final[Schema] = {"type": "string"}
_SECONDS: Final[Schema] = {"type": "number", "description": "seconds"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_LEVEL: Final[Schema] = {"type": "string", "enum": ["debug", "info", "warn", "error", "critical"]}
_CAUSE: Final[Schema] = {"type": "string", "enum": [cause.value for cause in Cause]}
_FILTER_HELP: Final = {
    "alias": "aliases that begin with this",
    "stream": "this stream",
    "app": "this application",
    "upstream": "on this server, as /upstreams names it",
    "protocol": "rtmpt, rtmpts, rtmp or rtmps",
    "address": "of this client address",
}


def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RTMPT gateway: the operator's HTTP",
            "version": "1",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{}, {"token": []}, {"password": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _paths() -> dict[str, Any]:
    list_parameters = [*_filters(FILTERS), *_order()]
    alias = {"name": "alias", "in": "path", "required": True, "schema": _alias()}
    session = _parameter("session", "one session in the place of the list", _STRING)
    return {
        "/": {"get": _operation("The status page", _text("text/html"))},
        "/healthz": {"get": _operation("Whether the process lives", _text("text/plain"))},
        "/readyz": {
            "get": _operation(
                "Whether new sessions are taken",
                _text("text/plain"),
                responses={
                    "503": {"description": "Draining, or no upstream is up or due to be tried"}
                },
            )
        },
        "/metrics": {"get": _operation("Aggregates for Prometheus", _exposition())},
        "/metrics/sessions": {
            "get": _operation(
                "Single sessions for Prometheus", _exposition(), _filters(METRIC_PARAMETERS)
            )
        },
        "/sessions": {"get": _operation("Living sessions", _json("SessionList"), list_parameters)},
        "/sessions/{alias}": {
            "parameters": [alias],
            "get": _operation(
                "A session, and what delays it", _json("Session"), responses=_UNKNOWN
            ),
            "delete": _operation("End a session", None, responses=_UNKNOWN),
        },
        "/sessions/{alias}/history": {
            "parameters": [alias],
            "get": _operation(
                "The last ten minutes of a living session", _json("History"), responses=_UNKNOWN
            ),
        },
        "/upstreams": {"get": _operation("The media servers", _json("UpstreamList"))},
        "/drain": {
            "get": _operation("Whether new sessions are refused", _json("Drain")),
            "post": _operation("Refuse new sessions", _json("Drain")),
            "delete": _operation("Take new sessions again", _json("Drain")),
        },
        "/log-level": {
            "get": _operation(
                "The least level that is logged", _json("LogLevel"), responses=_TWISTDS
            ),
            "put": {
                **_operation("Change it", _json("LogLevel"), responses=_TWISTDS),
                "requestBody": {"required": True, "content": _json("LogLevel")},
            },
        },
        "/events": {
            "get": _operation(
                "What the status page shows, every second",
                _text("text/event-stream"),
                [*list_parameters, session],
                responses={"503": {"description": "Too many watchers"}},
            )
        },
        "/openapi.json": {
            "get": _operation("This document", {"application/json": {"schema": {"type": "object"}}})
        },
    }


_UNKNOWN: Final = {"404": {"description": "No such session"}}
_TWISTDS: Final = {"409": {"description": "The log is twistd's, by its own options"}}


def _operation(
    summary: str,
    content: Schema | None,
    parameters: list[Schema] | None = None,
    responses: Schema | None = None,
) -> Schema:
    problem = {"content": {"application/problem+json": {"schema": _reference("Problem")}}}
    done = {"200": {"description": "Done", "content": content}}
    return {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {
            **(done if content is not None else {"204": {"description": "Done"}}),
            "400": {"description": "A bad parameter or body", **problem},
            "401": {"description": "A token is needed, and this is none", **problem},
            "403": {"description": "A change that another site's page asks for", **problem},
            "413": {"description": "A body that is too large"},
            "421": {"description": "Meant for another host", **problem},
            **(responses or {}),
        },
    }


def _parameter(name: str, help_text: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": help_text, "schema": schema}


def _filters(names: tuple[str, ...]) -> list[Schema]:
    schema = {"type": "string", "maxLength": FILTER_CHARACTERS}
    return [_parameter(name, _FILTER_HELP[name], schema) for name in names]


def _order() -> list[Schema]:
    limit = {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_SESSIONS,
        "default": DEFAULT_LIMIT,
    }
    return [
        _parameter("sort", "by this figure", {"enum": list(SORTS), "default": "alias"}),
        _parameter("order", "upwards or downwards", {"enum": list(ORDERS), "default": "asc"}),
        _parameter("limit", "so many at most", limit),
    ]


def _alias() -> Schema:
    return {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,31}$"}


def _json(name: str) -> Schema:
    return {"application/json": {"schema": _reference(name)}}


def _text(kind: str) -> Schema:
    return {kind: {"schema": _STRING}}


def _exposition() -> Schema:
    return {"text/plain": {"schema": _STRING}, "application/openmetrics-text": {"schema": _STRING}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def _schemas() -> dict[str, Schema]:
    figures = _session_figures()
    return {
        "Problem": _object(title=_STRING, status=_COUNT, detail=_STRING),
        "Drain": _object(draining=_FLAG),
        "LogLevel": {**_object(level=_LEVEL), "additionalProperties": False},
        "Estimate": _object(
            last_s=_SECONDS, p50_s=_SECONDS, p95_s=_SECONDS, max_s=_SECONDS, count=_COUNT
        ),
        "Diagnosis": _object(
            cause=_CAUSE, delay_s=_SECONDS, parts=_map(_SECONDS), notes=_list(_STRING)
        ),
        "Session": _object(**figures, diagnosis=_reference("Diagnosis")),
        "History": _object(
            every_s=_SECONDS,
            age_s={**_SECONDS, "description": "How old the newest sample is"},
            samples={
                **_list(_object(**{name: {"type": "number"} for name in SAMPLED})),
                "description": "Oldest first",
            },
        ),
        "SessionRow": _object(**figures, cause=_CAUSE, delay_s=_SECONDS),
        "SessionList": _object(
            matching=_COUNT, causes=_map(_COUNT), sessions=_list(_reference("SessionRow"))
        ),
        "Upstream": _object(
            name=_STRING,
            up={**_FLAG, "description": "It took the last connection, or had none yet"},
            due={
                **_FLAG,
                "description": "It is tried in its turn; false for a while after a failure",
            },
            connections=_COUNT,
            failures=_COUNT,
            connect_p50_s=_SECONDS,
            connect_p95_s=_SECONDS,
            silent_s={
                **_SECONDS,
                "description": "For how long it has answered nothing although sessions wait; else 0.",
            },
        ),
        "UpstreamList": _object(upstreams=_list(_reference("Upstream"))),
    }


_SECONDS_OR_NOTHING: Final[Schema] = {"type": ["number", "null"]}


def _session_figures() -> dict[str, Schema]:
    strings = (
        *("alias", "protocol", "listener", "upstream", "address", "client", "application"),
        *("stream", "action", "state", "reason", "streaming"),
    )
    seconds = (
        *("opened_at", "duration_s", "upstream_connect_s", "streamed_s", "pause_s"),
        "unanswered_s",
    )
    counts = (
        *("connections", "bytes_up", "bytes_down", "buffered_bytes", "sends", "idles", "closes"),
        *("repeats", "reorders", "held_answers", "empty_answers", "filled_answers"),
        *("streamed_answers", "streamed_bytes"),
    )
    measured = [name for name in LATENCIES if name != "upstream_connect"]
    return {
        **dict.fromkeys(strings, _STRING),
        **dict.fromkeys(seconds, _SECONDS),
        **dict.fromkeys(counts, _COUNT),
        "proxies": _list(_STRING),
        "latencies": {
            "type": "object",
            "properties": dict.fromkeys(measured, _reference("Estimate")),
            "additionalProperties": False,
        },
        "media_drift_s": {"type": ["number", "null"]},
        **dict.fromkeys(("quiet_up_s", "quiet_down_s", "resumed_s"), _SECONDS_OR_NOTHING),
        "tcp": {
            "anyOf": [
                _object(round_trip_s=_SECONDS, variation_s=_SECONDS, retransmits=_COUNT),
                {"type": "null"},
            ]
        },
    }
