"""The example configuration, and systemd's unit and user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from gateway.configuration import loading
from gateway.configuration.sections import Admin, Config, Node, Tunnel
from gateway.configuration.structuring import attributes_of, key_of
from gateway.configuration.values import LATENCIES
from gateway.protocols.limits import Limits
from tests.helpers.example_configuration import EXAMPLE, enable_all

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "deploy/systemd/rtmpt-gateway.service"
CLIENT_UNIT = UNIT.with_name("rtmpt-client.service")
# The client's unit is for both of systemd's managers.
_MANAGERS = ("system", "user")


# --- etc/rtmpt-gateway.toml ---


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    path = tmp_path / "everything.toml"
    path.write_text(enable_all(EXAMPLE.read_text()))
    return path


def test_the_example_is_valid() -> None:
    read = loading.from_file(EXAMPLE)
    assert [str(listener.address) for listener in read.listeners] == ["0.0.0.0:80"]
    assert [str(server) for server in read.upstreams[0].servers] == ["127.0.0.1:1935"]


def test_the_example_is_valid_with_every_setting_enabled(everything: Path) -> None:
    assert len(loading.from_file(everything).listeners) == 2


def keys_of(kind: type, table: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a section class and of the classes in it, with its table."""
    for attribute in attributes_of(attrs.resolve_types(kind)):
        inner = next(
            (part for part in (attribute.type, *get_args(attribute.type)) if attrs.has(part)), None
        )
        if inner and not table:
            yield from keys_of(inner, key_of(attribute))
        else:
            yield table, key_of(attribute)


def test_the_example_has_every_key(everything: Path) -> None:
    document: dict[str, Any] = tomllib.loads(everything.read_text())
    shown = set()
    for table, value in document.items():
        if not isinstance(value, dict | list):
            shown.add(("", table))
            continue
        for part in value if isinstance(value, list) else [value]:
            shown |= {(table, key) for key in part}
    assert shown == set(keys_of(Config))


def test_keys_of_reads_the_keys_of_nested_classes() -> None:
    keys = set(keys_of(Config))
    assert {("listener", "address"), ("tunnel", "latency"), ("limits", "gap_s")} <= keys


def test_the_disabled_settings_show_the_defaults(everything: Path) -> None:
    read = loading.from_file(everything)
    assert read.limits == Limits()
    # The cookie has no default: its line is an example.
    assert attrs.evolve(read.tunnel, cookie=None) == Tunnel()
    assert read.node.id == Node().id
    assert read.admin is not None
    assert read.admin.address == Admin().address


def test_the_example_has_the_values_of_the_latencies() -> None:
    text = EXAMPLE.read_text()
    for name, hold_s in LATENCIES.items():
        assert f'"{name}" ({hold_s:g})' in text


# --- deploy/systemd/rtmpt-gateway.service ---


@pytest.fixture
def unit() -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def test_the_unit_checks_the_file_that_it_starts_with(unit: ConfigParser) -> None:
    check, start = unit["Service"]["ExecStartPre"], unit["Service"]["ExecStart"]
    assert check.replace(" check ", " run ") == start


def test_the_unit_runs_the_gateway_in_the_foreground(unit: ConfigParser) -> None:
    assert "/rtmpt-gateway run " in unit["Service"]["ExecStart"]
    assert unit["Service"]["Type"] in {"exec", "notify", "notify-reload"}


def test_the_unit_has_a_low_exposure_level(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", UNIT],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = re.search(r"exposure level for \S+: (\d+\.\d+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= 1.6


def test_the_only_capability_of_the_unit_is_to_bind_low_ports(unit: ConfigParser) -> None:
    assert unit["Service"]["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert unit["Service"]["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    assert unit["Service"]["User"] not in ("", "root")
    assert unit["Service"]["ProtectSystem"] == "strict"


def test_the_unit_restarts_after_a_failure_and_waits_for_the_drain(unit: ConfigParser) -> None:
    assert unit["Service"]["Restart"] == "on-failure"
    assert float(unit["Service"]["TimeoutStopSec"]) > Limits().drain_s


def test_the_unit_permits_writing_the_examples_access_log(
    unit: ConfigParser, everything: Path
) -> None:
    access = loading.from_file(everything).log.access
    assert access is not None
    assert Path(access).parent == Path("/var/log") / unit["Service"]["LogsDirectory"]


def test_the_unit_allows_the_open_files_that_the_limits_need(unit: ConfigParser) -> None:
    assert int(unit["Service"]["LimitNOFILE"]) > 2 * Limits().connections


@pytest.mark.parametrize(
    ("unit_file", "program", "manager"),
    [(UNIT, "rtmpt-gateway", "system"), *((CLIENT_UNIT, "rtmpt-client", m) for m in _MANAGERS)],
)
def test_systemd_analyze_reports_no_problem_of_the_unit(
    tmp_path: Path, unit_file: Path, program: str, manager: str
) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # It checks that the programs exist, which is only so where the gateway is installed.
    copy = tmp_path / unit_file.name
    text = unit_file.read_text()
    installed = f"/usr/lib/rtmpt-gateway/bin/{program}"
    assert installed in text
    copy.write_text(text.replace(installed, "/bin/true"))
    done = subprocess.run(
        [analyze, f"--{manager}", "verify", "--man=no", copy],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert unit_file.name not in done.stderr
    assert done.returncode == 0, done.stderr


# --- deploy/systemd/rtmpt-gateway.conf ---


def test_sysusers_creates_the_user_of_the_unit(unit: ConfigParser, tmp_path: Path) -> None:
    sysusers = shutil.which("systemd-sysusers")
    if sysusers is None:
        pytest.skip("systemd-sysusers is not installed")
    (tmp_path / "etc").mkdir()
    command = [sysusers, f"--root={tmp_path}", UNIT.with_suffix(".conf")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for kind, file in (("User", "passwd"), ("Group", "group")):
        names = {
            line.partition(":")[0] for line in (tmp_path / "etc" / file).read_text().splitlines()
        }
        assert names == {unit["Service"][kind]}
