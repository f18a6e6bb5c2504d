"""The files of deploy/prometheus: well-formed, tested by cases, and for existing metrics."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.helpers.interop.exposition import everything
from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.prometheus import (
    CASES,
    DEPLOYED,
    Prometheus,
    exposed_names,
    names_in,
    start_prometheus_with,
)
from tests.helpers.interop.watched import UDP, start_watched_gateway

_SERIES = re.compile(r"^ *- series: (?P<name>\w+){(?P<labels>.*)}$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="')
_PICKED = re.compile(r'(\w*:?rtmpt_gateway_[\w:]+){(\w+)[=!~]+"([\w|]+)"}')
_RECORDED = re.compile(r"^\w+:rtmpt_gateway_(\w+):\w+$")
# Those of the target, which the gateway does not give.
_TARGET = {"instance", "job"}


def promtool(*words: str) -> None:
    done = subprocess.run(
        [needs("promtool"), *words], capture_output=True, text=True, cwd=DEPLOYED, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def labels_of(samples: str) -> dict[str, set[frozenset[str]]]:
    """The sets of label names with which each metric is shown."""
    found: dict[str, set[frozenset[str]]] = {}
    for name, labels in re.findall(r"^(\w+)(?:{(.*)})? \S+$", samples, re.MULTILINE):
        found.setdefault(name, set()).add(frozenset(_LABEL.findall(labels)))
    return found


@pytest.fixture(scope="module")
def prometheus(lasting_programs: Programs) -> Prometheus:
    """A Prometheus with the rules, whose target does not exist."""
    return start_prometheus_with(lasting_programs, DEPLOYED / "prometheus.yml")


def test_the_scrape_configuration_is_valid() -> None:
    promtool("check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")


@pytest.mark.parametrize("rules", ["recording.yml", "alerts.yml"])
def test_the_rules_are_valid(rules: str) -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", rules)


@pytest.mark.parametrize("cases", sorted(CASES.glob("*.yml")), ids=lambda path: path.stem)
def test_the_rules_pass_their_test_cases(cases: Path) -> None:
    promtool("test", "rules", str(cases))


def test_the_rules_use_only_metrics_of_the_gateway(
    programs: Programs, prometheus: Prometheus
) -> None:
    gateway = start_watched_gateway(programs, UDP)
    shown = exposed_names(gateway.get("/metrics") + gateway.get("/metrics/sessions"))
    rules = prometheus.rules()
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    asked = {name for rule in rules for name in names_in(rule["query"])}
    assert len(asked) > 20
    assert asked - shown - recorded == set()


def test_the_series_of_the_test_cases_have_the_labels_of_the_gateways_series() -> None:
    """Otherwise the alerts are tested with labels that no gateway has."""
    shown = labels_of(everything())
    series = [found for file in CASES.glob("*.yml") for found in _SERIES.finditer(file.read_text())]
    assert len(series) > 50
    for found in series:
        if found["name"] == "up":
            continue
        labels = set(_LABEL.findall(found["labels"]))
        assert labels - _TARGET in shown[found["name"]], found[0]


def test_the_labels_that_the_rules_use_exist(prometheus: Prometheus) -> None:
    """An alert with a misspelt reason or cause never fires."""
    shown = everything()
    picked = {found for rule in prometheus.rules() for found in _PICKED.findall(rule["query"])}
    assert len(picked) > 5
    for name, label, values in picked:
        for value in values.split("|"):
            # What is recorded has the labels of what it is made of.
            source = _RECORDED.sub(r"rtmpt_gateway_\1_total", name)
            assert re.search(f'^{source}{{.*{label}="{value}"', shown, re.MULTILINE), (name, value)


def test_every_alert_has_a_severity_and_a_remedy(prometheus: Prometheus) -> None:
    alerts = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
    assert len(alerts) > 15
    for alert in alerts:
        assert alert["name"].startswith("RtmptGateway"), alert
        assert alert["duration"] > 0, alert
        assert alert["labels"].get("severity") in {"critical", "warning"}, alert
        assert set(alert["annotations"]) == {"summary", "description"}, alert
        assert len(alert["annotations"]["description"]) > 80, alert


def test_every_alert_fires_in_a_test_case(prometheus: Prometheus) -> None:
    cases = (CASES / "alerts.test.yml").read_text()
    alerts = {rule["name"] for rule in prometheus.rules() if rule["type"] == "alerting"}
    assert alerts - set(re.findall(r'alertname="(\w+)"', cases)) == set()
