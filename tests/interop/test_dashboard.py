"""The Grafana dashboard: it matches its script, and Prometheus answers all its expressions."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest

from tests.helpers.interop.exposition import pages, shown
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.prometheus import (
    SCRAPE_S,
    Prometheus,
    exposed_names,
    names_in,
    start_prometheus,
)
from tests.helpers.interop.servers import LOOPBACK, ROOT, start_origin
from tests.helpers.interop.watched import UDP, start_watched_gateway

FOLDER = ROOT / "deploy/grafana"
# The values that Grafana substitutes for its variables; its rate interval is four scrapes.
_VARIABLES = {
    "$instance": ".*",
    "$session": "n100-5",
    "$__rate_interval": f"{4 * SCRAPE_S:g}s",
}
_ANSWERED_S = 20.0
# In the name of whatever is told of single sessions.
_OF_ONE = "rtmpt_gateway_session_"


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "rtmpt-gateway.json").read_text())
    return found


@pytest.fixture(scope="module")
def expressions(dashboard: dict[str, Any]) -> list[str]:
    """All expressions of the dashboard, with a value for each variable."""
    panels = dashboard["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    asked += [
        choice["definition"].removeprefix("label_values(").rpartition(",")[0]
        for choice in dashboard["templating"]["list"]
        if choice["type"] == "query"
    ]
    assert len(asked) > 30
    return [_filled(each) for each in asked]


def _filled(expression: str) -> str:
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


@pytest.fixture(scope="module")
def prometheus(lasting_programs: Programs) -> Iterator[Prometheus]:
    """A Prometheus that scrapes an exposition with all series."""
    with shown(pages()) as port:
        prometheus = start_prometheus(lasting_programs, port)
        yield prometheus
        prometheus.program.stop()


def test_the_dashboard_is_the_output_of_its_script() -> None:
    made = runpy.run_path(str(FOLDER / "make_dashboard.py"))["text"]()
    assert (FOLDER / "rtmpt-gateway.json").read_text() == made, "run make_dashboard.py again"


def test_prometheus_accepts_every_expression(
    prometheus: Prometheus, expressions: list[str]
) -> None:
    for expression in expressions:
        assert prometheus.ask("format_query", query=expression)


def test_every_expression_has_a_result(prometheus: Prometheus, expressions: list[str]) -> None:
    for expression in expressions:
        until(lambda asked=expression: prometheus.query(asked), expression, _ANSWERED_S)


def test_the_dashboard_uses_only_metrics_that_exist(
    programs: Programs, prometheus: Prometheus, expressions: list[str]
) -> None:
    gateway = start_watched_gateway(programs, UDP)
    shown = exposed_names(gateway.get("/metrics") + gateway.get("/metrics/sessions"))
    recorded = {rule["name"] for rule in prometheus.rules() if rule["type"] == "recording"}
    asked = {name for expression in expressions for name in names_in(expression)}
    assert asked - shown - recorded == set()


def test_a_prometheus_that_scrapes_a_gateway_answers_every_expression(
    programs: Programs, expressions: list[str]
) -> None:
    """Expressions about all sessions have data even before the first client."""
    _, server = start_origin(programs)
    checked = f'[[upstream]]\nservers = ["{LOOPBACK}:{server}"]\ncheck = "tcp"\n{UDP}'
    prometheus = start_prometheus(programs, start_watched_gateway(programs, checked).admin_port)
    prometheus.scrapes()
    for expression in expressions:
        if _OF_ONE not in expression and "_tls_" not in expression:
            until(lambda asked=expression: prometheus.query(asked), expression, _ANSWERED_S)
        else:
            prometheus.query(expression)


def test_every_recording_rule_has_a_result(prometheus: Prometheus) -> None:
    recorded = [rule["name"] for rule in prometheus.rules() if rule["type"] == "recording"]
    for name in recorded:
        until(lambda asked=name: prometheus.query(asked), name, _ANSWERED_S)


def test_failed_and_exceeded_values_are_red(dashboard: dict[str, Any]) -> None:
    stats = {panel["title"]: panel for panel in dashboard["panels"] if panel["type"] == "stat"}
    assert stats.keys() == {"Gateways up", "Media servers", "Certificates"}
    for panel in stats.values():
        defaults = panel["fieldConfig"]["defaults"]
        colors = [step["color"] for step in defaults["thresholds"]["steps"]]
        assert (colors[0], colors[-1]) == ("red", "green")
    for title in ("Gateways up", "Media servers"):
        (mapping,) = stats[title]["fieldConfig"]["defaults"]["mappings"]
        assert [each["text"] for each in mapping["options"].values()] == ["down", "up"]


def test_no_panel_overlaps_another_panel(dashboard: dict[str, Any]) -> None:
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [pair for pair in combinations(places, 2) if _overlap(*pair)]
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities)


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(
        one[start] < other[start] + other[size] and other[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )
