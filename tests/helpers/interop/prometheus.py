"""A Prometheus server with the files of deploy/prometheus and shorter intervals."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final
from urllib.parse import urlencode
from urllib.request import urlopen

from attrs import frozen

from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import LOOPBACK, ROOT

DEPLOYED = ROOT / "deploy/prometheus"
CASES = DEPLOYED / "tests"
# As in prometheus.yml.
_TARGET = "127.0.0.1:9935"
_INTERVAL = "15s"
# Of a scrape, as short as Prometheus' users have it.
SCRAPE_S = 1.0
_ANSWER_S = 30.0
# Names with the prefix of the gateway's metrics, recorded ones included.
_NAME = re.compile(r"[a-z_:]*rtmpt_gateway_[a-z0-9_:]+")


@frozen
class Sample:
    """One series of an answer, with its value."""

    labels: Mapping[str, str]
    value: float


@final
class Prometheus:
    """A running Prometheus."""

    def __init__(self, program: Program, port: int) -> None:
        self.program = program
        self._url = f"http://{LOOPBACK}:{port}/api/v1/"

    def ask(self, path: str, **parameters: str) -> Any:
        """The API's answer to a valid request."""
        return self._ask(path, parameters)["data"]

    def query(self, expression: str) -> list[Sample]:
        """The current result of an expression."""
        found = self.ask("query", query=expression)
        return [Sample(each["metric"], float(each["value"][1])) for each in found["result"]]

    def value(self, expression: str) -> float:
        """The only value of an expression; NaN if the result is empty."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0].value if found else math.nan

    def scrapes(self) -> None:
        """Wait until all targets have been scraped successfully."""
        until(
            lambda: {each.value for each in self.query("up")} == {1.0},
            "Prometheus has scraped its targets",
            20,
        )

    def rules(self) -> list[dict[str, Any]]:
        """All rules that Prometheus has loaded."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        data = urlencode(parameters).encode() or None
        with urlopen(f"{self._url}{path}", data, _ANSWER_S) as answer:
            return json.load(answer)


def start_prometheus(programs: Programs, admin_port: int) -> Prometheus:
    """Start Prometheus with the deployed files, and the admin server at ``admin_port`` as its target."""
    folder = programs.new_folder("configuration")
    for rules in ("recording.yml", "alerts.yml"):
        (folder / rules).write_text((DEPLOYED / rules).read_text())
    configuration = folder / "prometheus.yml"
    text = (DEPLOYED / "prometheus.yml").read_text()
    text = text.replace(_TARGET, f"{LOOPBACK}:{admin_port}").replace(_INTERVAL, f"{SCRAPE_S:g}s")
    assert _TARGET not in text
    configuration.write_text(text)
    return start_prometheus_with(programs, configuration)


def start_prometheus_with(programs: Programs, configuration: Path) -> Prometheus:
    """Start Prometheus, and wait until it answers."""
    program = programs.start(
        "prometheus",
        f"--config.file={configuration}",
        f"--storage.tsdb.path={programs.new_folder('series')}",
        f"--web.listen-address={LOOPBACK}:0",
        # A hidden option: it would take five seconds to see its targets.
        "--scrape.discovery-reload-interval=100ms",
    )
    port = int(program.says(f'msg="Listening on" address={LOOPBACK}:'))
    program.says("Server is ready to receive web requests.")
    return Prometheus(program, port)


def names_in(expression: str) -> set[str]:
    """The metrics of the gateway and of its recording rules in an expression."""
    return set(_NAME.findall(expression))


def exposed_names(text: str) -> set[str]:
    """The names of all samples that an exposition has or can have."""
    found: set[str] = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
        suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + suffix for suffix in suffixes}
    return found
