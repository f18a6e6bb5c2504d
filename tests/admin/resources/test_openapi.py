"""The OpenAPI document, compared with the endpoints."""

from __future__ import annotations

import re
from typing import Any

import attrs

from gateway.admin.resources.endpoints import LEVELS, ROUTES
from gateway.admin.resources.event_streams import detail, mirror_of, row, server_of
from gateway.admin.resources.openapi import document
from gateway.configuration.values import LOG_LEVELS
from gateway.telemetry.measurement.latency import Estimate
from tests.helpers.admin_server import summary
from tests.helpers.fabricated_telemetry import health, mirrors


def test_the_openapi_document_describes_every_path_and_method_and_no_other() -> None:
    described = {
        path: {method.upper() for method in item if method != "parameters"}
        for path, item in document()["paths"].items()
    }
    assert described == {path: set(methods) for path, methods in ROUTES.items()}


def test_the_schema_of_a_session_has_exactly_the_shown_fields() -> None:
    schemas = document()["components"]["schemas"]
    assert set(schemas["Session"]["properties"]) == set(detail(summary(), 0))
    assert set(schemas["SessionRow"]["properties"]) == set(row(summary(), 0))
    assert set(schemas["Estimate"]["properties"]) == {a.name for a in attrs.fields(Estimate)}


def test_the_schemas_of_servers_and_mirrors_have_exactly_the_shown_fields() -> None:
    schemas = document()["components"]["schemas"]
    (server,), (mirror,) = health(), mirrors()
    assert set(schemas["Upstream"]["properties"]) == set(server_of(server))
    shown = mirror_of(mirror)
    assert set(schemas["Mirror"]["properties"]) == set(shown)
    assert set(schemas["MirroredStream"]["properties"]) == set(shown["streams"][0])


def test_every_reference_in_the_document_exists() -> None:
    found = document()
    for reference in re.findall(r"'\$ref': '#/([^']+)'", str(found)):
        place: Any = found
        for step in reference.split("/"):
            place = place[step]
        assert place


def test_the_log_levels_of_the_document_are_those_of_the_gateway() -> None:
    schema = document()["components"]["schemas"]["LogLevel"]["properties"]["level"]
    assert tuple(schema["enum"]) == LEVELS == LOG_LEVELS
