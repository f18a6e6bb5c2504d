"""The schedule and the results of health checks, on a clock in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from gateway.configuration.loading import from_text
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError, UpstreamUnavailable
from gateway.protocols.service_records import Target
from gateway.supervisor.health_checks import HealthChecks, check_of
from gateway.upstreams.dial import Server
from gateway.upstreams.dns import NoAnswer, Service
from gateway.upstreams.names import Names
from tests.helpers.logged import logged

_ONE, _OTHER = "127.0.0.1:1001", "127.0.0.1:1002"


def configured(more: str = "", servers: tuple[str, ...] = (_ONE, _OTHER)) -> Config:
    listed = ", ".join(f'"{server}"' for server in servers)
    return from_text(
        "gateway.toml",
        f'[[listener]]\naddress = "127.0.0.1:80"\n[[upstream]]\nservers = [{listed}]\n{more}',
    )


class Resolver:
    """Twisted's host name resolver. ``fails``: it knows no name."""

    fails = False

    def resolveHostName(self, receiver: Any, host: str, *_: Any) -> Any:
        class Address:
            host = "127.0.0.1"

        receiver.resolutionBegan(None)
        if not self.fails:
            receiver.addressResolved(Address())
        receiver.resolutionComplete()
        return receiver


class Records:
    """The DNS, with one service. Nothing is valid for longer than the shortest time."""

    def __init__(self) -> None:
        self.targets: tuple[Target, ...] = ()

    async def service(self, _: str) -> Service:
        if not self.targets:
            raise NoAnswer("no name server answers in time")
        return Service(self.targets, 0.0)

    async def time_to_live(self, _: str) -> float:
        return 0.0


class Checks:
    """Health checks whose probes fail for the servers in ``dead``, and handshakes for those in ``closing``.
    ``states``: as the workers know them.
    """

    def __init__(self, configuration: Config, adopted: Any = None) -> None:
        self.clock: Any = Clock()
        self.clock.nameResolver = Resolver()
        self.dead: set[str] = set()
        self.closing: set[str] = set()
        self.probed: list[tuple[str, str]] = []
        self.applications: set[str] = set()
        self.states: dict[str, bool] = {}
        self.records = Records()
        dns: Any = self.records
        names = Names(self.clock, dns, hosts_file="/dev/null")
        self.checks = HealthChecks(self.clock, self._tell, self._probe, names)
        self.checks.adopt(adopted or {})
        self.checks.watch(configuration)

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.checks.look()
            self.clock.advance(1)

    def _tell(self, states: dict[str, bool]) -> None:
        self.states = states

    async def _probe(
        self, reactor: Any, server: Server, kind: str, timeout_s: float, application: str
    ) -> None:
        self.probed.append((server.name, kind))
        self.applications.add(application)
        if server.name in self.dead or (kind == "rtmp" and server.name in self.closing):
            raise UpstreamUnavailable("it refuses")


def test_each_server_is_checked_once_in_an_interval() -> None:
    checks = Checks(configured("check_s = 4\n"))
    checks.run(40)
    assert 9 <= checks.probed.count((_ONE, "tcp")) <= 11
    assert 9 <= checks.probed.count((_OTHER, "tcp")) <= 11
    assert checks.states == {_ONE: True, _OTHER: True}


def test_a_server_is_down_after_its_failures_in_a_row_and_up_after_its_successes() -> None:
    checks = Checks(configured("check_s = 1\nfall = 3\nrise = 2\n"))
    checks.dead.add(_ONE)
    checks.run(2)
    checks.dead.clear()
    checks.run(3)
    assert checks.states[_ONE]
    checks.dead.add(_ONE)
    with logged() as lines:
        checks.run(12)
    assert checks.states == {_ONE: False, _OTHER: True}
    assert lines == [f"warn: upstream {_ONE} is down by its health checks: it refuses"]
    checks.dead.clear()
    checks.run(1)
    assert not checks.states[_ONE]
    checks.run(4)
    assert checks.states[_ONE]


def test_workers_are_told_of_a_server_once_its_checks_have_a_result() -> None:
    checks = Checks(configured("check_s = 1\nfall = 3\n"))
    checks.dead.add(_ONE)
    checks.run(2)
    assert checks.states == {_OTHER: True}
    checks.run(3)
    assert checks.states == {_ONE: False, _OTHER: True}


def test_a_reload_keeps_the_state_of_a_server() -> None:
    checks = Checks(configured("check_s = 1\n"))
    checks.dead.add(_ONE)
    checks.run(10)
    checks.checks.watch(configured("check_s = 2\n"))
    checks.dead.clear()
    checks.run(1)
    assert checks.states == {_ONE: False, _OTHER: True}
    checks.checks.watch(configured("check_s = 2\n", (_OTHER, "127.0.0.1:1003")))
    checks.run(1)
    assert checks.states == {_OTHER: True, "127.0.0.1:1003": True}


def test_a_configuration_whose_files_cannot_be_read_changes_no_state(tmp_path: Path) -> None:
    checks = Checks(configured("check_s = 1\n"))
    checks.dead.add(_ONE)
    checks.run(10)
    authorities = tmp_path / "authorities.pem"
    later = configured(
        f'check_s = 2\ntls_authorities = "{authorities}"\n', (f"rtmps://{_ONE}", _OTHER)
    )
    with pytest.raises(ConfigurationError):
        checks.checks.watch(later)
    checks.checks.watch(configured("check_s = 2\n"))
    checks.run(1)
    assert checks.states == {_ONE: False, _OTHER: True}


def test_the_durations_of_checks_are_counted_by_outcome_and_kept_over_a_reload() -> None:
    checks = Checks(configured('check = "tcp"\ncheck_s = 1\n'))
    checks.run(4)
    checks.dead.add(_ONE)
    checks.run(4)
    checks.checks.watch(configured('check = "tcp"\n'))
    counts = {outcome: sum(each) for outcome, each in checks.checks.durations_of(_ONE).items()}
    assert counts["succeeded"] >= 2
    assert counts["failed"] >= 2
    assert sum(counts.values()) == checks.probed.count((_ONE, "tcp"))
    assert checks.checks.durations_of("127.0.0.1:9") == {}


# --- Suspicions ---


def suspected(checks: Checks, seconds: int = 1, failures: int = 3) -> list[tuple[str, str]]:
    """Report these failures of the first server in each second. Returns the checks of it."""
    checks.probed.clear()
    for _ in range(seconds):
        checks.checks.suspect({_ONE: failures, "127.0.0.1:9": failures})
        checks.run(1)
    return [each for each in checks.probed if each[0] == _ONE]


def test_the_durations_of_checks_are_kept_over_an_upgrade_and_a_reload_before_the_next_one() -> (
    None
):
    checks = Checks(configured("check_s = 1\n"))
    checks.run(3)
    counts = checks.checks.hand_over()
    assert sum(counts[_ONE]["succeeded"]) >= 2
    counts["another version's"] = {"succeeded": [1], "failed": [1]}
    successor = Checks(configured("check_s = 1\n"), adopted=counts)
    assert successor.checks.hand_over() == {name: counts[name] for name in (_ONE, _OTHER)}
    successor.checks.watch(configured("check_s = 2\n"))
    assert successor.checks.durations_of(_ONE) == counts[_ONE]


def test_an_automatic_check_learns_once_whether_a_server_answers_handshakes() -> None:
    checks = Checks(configured("check_s = 1\n"))
    checks.closing.add(_OTHER)
    checks.run(10)
    assert checks.probed.count((_ONE, "rtmp")) == checks.probed.count((_OTHER, "rtmp")) == 1
    assert checks.states == {_ONE: True, _OTHER: True}


@pytest.mark.parametrize("check", ["auto", "rtmp"])
def test_a_server_that_accepts_and_closes_is_down_by_one_handshake_once_it_is_suspected(
    check: str,
) -> None:
    checks = Checks(configured(f'check = "{check}"\ncheck_s = 3600\n'))
    checks.run(1)
    checks.closing.add(_ONE)
    assert suspected(checks, failures=2) == []
    assert checks.states[_ONE]
    with logged() as lines:
        assert suspected(checks, failures=1) == [(_ONE, "rtmp")]
    checks.run(1)
    assert not checks.states[_ONE]
    assert lines == [f"warn: upstream {_ONE} is down by its health checks: it refuses"]


def test_a_server_that_is_down_by_a_handshake_comes_up_by_handshakes() -> None:
    checks = Checks(configured("check_s = 1\nrise = 2\n"))
    checks.run(2)
    checks.closing.add(_ONE)
    suspected(checks)
    checks.run(20)
    assert not checks.states[_ONE]
    # A reload does not change that.
    checks.checks.watch(configured("check_s = 1\nrise = 2\n"))
    checks.run(20)
    assert not checks.states[_ONE]
    checks.closing.clear()
    checks.run(5)
    assert checks.states[_ONE]
    checks.probed.clear()
    checks.run(5)
    assert (_ONE, "tcp") in checks.probed
    assert checks.probed.count((_ONE, "rtmp")) <= 1


def test_clients_that_provoke_failures_cause_one_check_a_second_and_nothing_else() -> None:
    checks = Checks(configured("check_s = 3600\n"))
    checks.run(1)
    assert len(suspected(checks, seconds=100, failures=100_000)) <= 100
    checks.probed.clear()
    checks.run(5)
    assert checks.probed == []
    assert checks.states == {_ONE: True, _OTHER: True}


def test_a_server_that_never_answered_a_handshake_is_not_taken_down_by_one() -> None:
    """It may speak RTMPE only."""
    checks = Checks(configured("check_s = 3600\n"))
    checks.closing.add(_ONE)
    checks.run(1)
    assert suspected(checks, seconds=5) == [(_ONE, "tcp")] * 5
    assert checks.states[_ONE]


def test_a_suspected_server_with_explicit_tcp_checks_gets_no_handshake() -> None:
    checks = Checks(configured('check = "tcp"\ncheck_s = 3600\n'))
    checks.run(1)
    checks.closing.add(_ONE)
    assert suspected(checks, seconds=5) == [(_ONE, "tcp")] * 5
    checks.dead.add(_ONE)
    suspected(checks)
    checks.run(1)
    assert not checks.states[_ONE]


@pytest.mark.parametrize(
    ("configuration", "kind"),
    [
        (configured(), "tcp"),
        (configured(servers=(_ONE,)), None),
        (configured(servers=(_ONE,), more='[[upstream]]\nservers = ["127.0.0.1:1002"]\n'), "tcp"),
        (configured('check = "off"\n'), None),
        (configured('check = "rtmp"\n', (_ONE,)), "rtmp"),
    ],
)
def test_servers_are_checked_by_default_if_there_are_several(
    configuration: Config, kind: str | None
) -> None:
    assert check_of(configuration.upstreams[0], configuration) == kind


def test_checks_connect_to_the_application_if_there_is_one() -> None:
    for more, application in (("", ""), ('check_application = "live"\n', "live")):
        checks = Checks(configured(f'check = "rtmp"\n{more}'))
        checks.run(1)
        assert checks.applications == {application}


def test_a_name_that_stops_resolving_takes_no_server_down() -> None:
    checks = Checks(configured("check_s = 1\nfall = 1\n", ("media:1935", _OTHER)))
    checks.run(2)
    checks.clock.nameResolver.fails = True
    checks.run(5)
    assert checks.states == {"media:1935": True, _OTHER: True}


def test_a_name_that_has_never_been_resolved_is_a_failure_of_its_server() -> None:
    checks = Checks(configured("check_s = 1\n", ("media:1935", _OTHER)))
    checks.clock.nameResolver.fails = True
    checks.run(20)
    assert checks.states == {"media:1935": False, _OTHER: True}
    checks.clock.nameResolver.fails = False
    checks.run(70)
    assert checks.states == {"media:1935": True, _OTHER: True}


def test_the_servers_of_a_service_are_checked_while_they_are_in_its_records() -> None:
    checks = Checks(configured("check_s = 1\n", ("_rtmp._tcp.example.org",)))
    checks.records.targets = (Target(0, "a", 1935, 1), Target(0, "b", 1935, 1))
    checks.dead.add("b:1935")
    checks.run(10)
    assert checks.states == {"a:1935": True, "b:1935": False}
    checks.records.targets = (Target(0, "b", 1935, 1), Target(0, "c", 1935, 1))
    checks.run(10)
    assert checks.states == {"b:1935": False, "c:1935": True}
    # Those that are known are checked further, and keep their state over a reload.
    checks.records.targets = ()
    checks.run(10)
    assert checks.states == {"b:1935": False, "c:1935": True}
    checks.records.targets = (Target(0, "b", 1935, 1),)
    checks.dead.clear()
    checks.checks.watch(configured("check_s = 2\n", ("_rtmp._tcp.example.org",)))
    checks.run(1)
    assert checks.states == {"b:1935": False}
    checks.run(10)
    assert checks.states == {"b:1935": True}
