"""The OpenAPI 3.1 document of the admin server, for programs and tests.

It is generated from the tables by which requests are parsed, where these exist.
"""

from __future__ import annotations

from typing import Any, Final

from gateway.admin.resources.openapi_schemas import STRING, Schema, reference, schemas
from gateway.admin.resources.queries import (
    DEFAULT_LIMIT,
    FILTER_CHARACTERS,
    FILTERS,
    METRIC_PARAMETERS,
    MOST_SESSIONS,
    ORDERS,
    SORTS,
)

_FILTER_HELP: Final = {
    "alias": "prefix of the alias",
    "stream": "stream name",
    "app": "application name",
    "upstream": "server name as in /upstreams",
    "protocol": "rtmpt, rtmpts, rtmp, rtmps or udp",
    "address": "client address",
}


def document() -> dict[str, Any]:
    """The document, in types of JSON."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RTMPT gateway: admin server",
            "version": "1",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{}, {"token": []}, {"password": []}],
        "paths": _paths(),
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _paths() -> dict[str, Any]:
    return {**_status_paths(), **_metrics_paths(), **_session_paths(), **_control_paths()}


def _status_paths() -> dict[str, Any]:
    unready = {"503": {"description": "Draining, or no upstream is up or due to be tried"}}
    one_session = _parameter("session", "one session instead of the list", STRING)
    return {
        "/": {"get": _operation("The status page", _text("text/html"))},
        "/healthz": {"get": _operation("Liveness", _text("text/plain"))},
        "/readyz": {
            "get": _operation(
                "Readiness: whether new sessions are accepted",
                _text("text/plain"),
                responses=unready,
            )
        },
        "/upstreams": {"get": _operation("The media servers", _json("UpstreamList"))},
        "/mirrors": {"get": _operation("The mirrors and their streams", _json("MirrorList"))},
        "/events": {
            "get": _operation(
                "The contents of the status page, once a second",
                _text("text/event-stream"),
                [*_filters(FILTERS), *_order(), one_session],
                responses={"503": {"description": "Too many event streams"}},
            )
        },
        "/openapi.json": {
            "get": _operation("This document", {"application/json": {"schema": {"type": "object"}}})
        },
    }


def _metrics_paths() -> dict[str, Any]:
    return {
        "/metrics": {"get": _operation("Aggregate metrics for Prometheus", _exposition())},
        "/metrics/sessions": {
            "get": _operation(
                "Metrics of single sessions for Prometheus",
                _exposition(),
                _filters(METRIC_PARAMETERS),
            )
        },
    }


def _session_paths() -> dict[str, Any]:
    parameters = [*_filters(FILTERS), *_order()]
    alias = {"name": "alias", "in": "path", "required": True, "schema": _alias()}
    return {
        "/sessions": {"get": _operation("Active sessions", _json("SessionList"), parameters)},
        "/sessions/{alias}": {
            "parameters": [alias],
            "get": _operation(
                "A session and the diagnosis of its delay", _json("Session"), responses=_UNKNOWN
            ),
            "delete": _operation("End a session", None, responses=_UNKNOWN),
        },
        "/sessions/{alias}/history": {
            "parameters": [alias],
            "get": _operation(
                "The last ten minutes of an active session", _json("History"), responses=_UNKNOWN
            ),
        },
    }


def _control_paths() -> dict[str, Any]:
    return {
        "/drain": {
            "get": _operation("Whether new sessions are refused", _json("Drain")),
            "post": _operation("Refuse new sessions", _json("Drain")),
            "delete": _operation("Accept new sessions again", _json("Drain")),
        },
        "/upstreams/{server}/down": {
            "parameters": _SERVER,
            "post": _operation(
                "Treat a server as down: it gets no new sessions, also after a reload",
                _json("UpstreamList"),
                responses=_UNKNOWN,
            ),
        },
        "/upstreams/{server}/up": {
            "parameters": _SERVER,
            "post": _operation(
                "End a server's drain, and that it is treated as down",
                _json("UpstreamList"),
                responses=_UNKNOWN,
            ),
        },
        "/upstreams/{server}/drain": {
            "parameters": _SERVER,
            "post": _operation(
                "Keep new sessions from a server, also after a reload",
                _json("UpstreamList"),
                responses=_UNKNOWN,
            ),
            "delete": _operation(
                "Give a server new sessions again", _json("UpstreamList"), responses=_UNKNOWN
            ),
        },
        "/reload": {
            "post": _operation(
                "Reload the configuration",
                _json("Reload"),
                responses={"422": {"description": "Invalid; the old one stays in use"}},
            )
        },
        "/log-level": {
            "get": _operation("The lowest level logged", _json("LogLevel"), responses=_TWISTDS),
            "put": {
                **_operation("Change the log level", _json("LogLevel"), responses=_TWISTDS),
                "requestBody": {"required": True, "content": _json("LogLevel")},
            },
        },
    }


_UNKNOWN: Final = {"404": {"description": "No such session"}}
_SERVER: Final = [{"name": "server", "in": "path", "required": True, "schema": {"type": "string"}}]
_TWISTDS: Final = {"409": {"description": "The log is configured by options of twistd"}}


def _operation(
    summary: str,
    content: Schema | None,
    parameters: list[Schema] | None = None,
    responses: Schema | None = None,
) -> Schema:
    problem = {"content": {"application/problem+json": {"schema": reference("Problem")}}}
    done = {"200": {"description": "Done", "content": content}}
    return {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {
            **(done if content is not None else {"204": {"description": "Done"}}),
            "400": {"description": "Invalid parameter or body", **problem},
            "401": {"description": "Missing or wrong token", **problem},
            "403": {"description": "A change requested by a page of another site", **problem},
            "413": {"description": "Body too large"},
            "421": {"description": "Request for another host", **problem},
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
        _parameter("sort", "sort key", {"enum": list(SORTS), "default": "alias"}),
        _parameter("order", "ascending or descending", {"enum": list(ORDERS), "default": "asc"}),
        _parameter("limit", "largest number of sessions", limit),
    ]


def _alias() -> Schema:
    return {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,31}$"}


def _json(name: str) -> Schema:
    return {"application/json": {"schema": reference(name)}}


def _text(kind: str) -> Schema:
    return {kind: {"schema": STRING}}


def _exposition() -> Schema:
    return {"text/plain": {"schema": STRING}, "application/openmetrics-text": {"schema": STRING}}
