"""The gateway as a service of systemd: notifications, sockets that stay open, and a restricted process."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from time import sleep

import pytest

from tests.helpers.interop.as_systemd import Systemd
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.secure import make_authority

_CONFIGURATION = """workers = 2
[[listener]]
address = "systemd:http"
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[limits]
drain_s = 3.0
"""


@pytest.fixture
def systemd(programs: Programs, tmp_path: Path) -> Iterator[Systemd]:
    with closing(Systemd(programs, tmp_path)) as systemd:
        yield systemd


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Path]:
    file = tmp_path / "gateway.toml"
    with echo_server() as port:
        file.write_text(_CONFIGURATION.format(upstream=port))
        yield file


def test_systemd_is_notified_of_each_state(systemd: Systemd, configuration: Path) -> None:
    gateway = systemd.start(configuration)
    assert "STATUS=0 sessions in 2 workers" in systemd.hears("READY=1")
    NumberedSession(systemd.port, keeps=True).finish()
    gateway.send(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in systemd.hears("RELOADING=1")
    systemd.hears("READY=1")
    # The program is replaced; its successor is ready under the same process id.
    gateway.send(signal.SIGUSR2)
    systemd.hears("RELOADING=1")
    gateway.says("the supervisor continues")
    assert "in 2 workers" in systemd.hears("READY=1")
    NumberedSession(systemd.port, keeps=True).finish()
    gateway.send(signal.SIGTERM)
    systemd.hears("STOPPING=1")
    gateway.ends(10)
    assert "Traceback" not in gateway.log


def test_a_reload_waits_until_the_start_has_finished(systemd: Systemd, configuration: Path) -> None:
    gateway = systemd.start(configuration)
    # A worker accepts clients, and the other one may not have started yet.
    session = NumberedSession(systemd.port, keeps=False)
    gateway.send(signal.SIGHUP)
    gateway.says("reloaded certificates")
    session.step()
    session.finish()
    assert "stays in use" not in gateway.log


def test_signals_during_a_reload_and_an_upgrade_are_neither_lost_nor_fatal(
    systemd: Systemd, configuration: Path
) -> None:
    gateway = systemd.start(configuration)
    systemd.hears("READY=1")
    gateway.send(signal.SIGUSR2)
    gateway.says("the supervisor's program is replaced")
    before = gateway.log.count("reloaded ")
    gateway.send(signal.SIGHUP)
    until(lambda: gateway.log.count("reloaded ") > before, "it has reloaded")
    # A second one during a reload.
    for _ in range(2):
        gateway.send(signal.SIGHUP)
        sleep(0.2)
    until(lambda: gateway.log.count("reloaded ") > before + 2, "and twice more")
    NumberedSession(systemd.port, keeps=True).finish()
    assert "Traceback" not in gateway.log


def test_a_token_and_a_certificate_that_are_renewed_during_an_upgrade_do_not_end_the_gateway(
    systemd: Systemd, configuration: Path, tmp_path: Path
) -> None:
    token, admin = tmp_path / "token", tmp_path / "admin"
    token.touch(0o600)
    token.write_text("0123456789abcdef")
    pem = make_authority(tmp_path).certify("site.pem", "localhost")
    certificate = pem.read_bytes()
    with configuration.open("a") as file:
        file.write(f'[tls]\ncertificates = ["{pem}"]\n[admin]\naddress = "unix:{admin}"\n')
        file.write(f'token_file = "{token}"\n[[listener]]\naddress = "127.0.0.1:0"\ntls = true\n')
    gateway = systemd.start(configuration)
    systemd.hears("READY=1")
    gateway.send(signal.SIGUSR2)
    gateway.says("the supervisor's program is replaced")
    # After the check of the files, and before the successor reads them.
    token.write_text("")
    pem.write_bytes(b"")
    session = NumberedSession(systemd.port, keeps=True)
    gateway.says("the supervisor continues")
    gateway.says("it is read again every second")
    session.step()
    session.finish()
    pem.write_bytes(certificate)
    token.write_text("fedcba9876543210")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(admin))
        client.sendall(b"GET /sessions HTTP/1.1\r\nAuthorization: Bearer fedcba9876543210\r\n")
        client.sendall(b"Host: localhost\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in gateway.log


def test_a_socket_of_systemd_that_is_configured_after_an_upgrade_is_found(
    programs: Programs, tmp_path: Path, configuration: Path
) -> None:
    with closing(Systemd(programs, tmp_path, ("http", "later"))) as systemd:
        gateway = systemd.start(configuration)
        systemd.hears("READY=1")
        gateway.send(signal.SIGUSR2)
        gateway.says("the supervisor continues")
        with configuration.open("a") as file:
            file.write('[[listener]]\naddress = "systemd:later"\n')
        gateway.send(signal.SIGHUP)
        until(lambda: gateway.log.count("reloaded ") == 2, "it has reloaded")
        for port in systemd.ports.values():
            NumberedSession(port, keeps=True).finish()


def opened_elsewhere(port: int, old: set[str]) -> bool:
    """Whether a new session is in none of the old workers."""
    session = NumberedSession(port, keeps=False)
    session.finish()
    return session.worker not in old


def test_sessions_survive_a_killed_supervisor_and_its_successor(
    systemd: Systemd, configuration: Path
) -> None:
    first = systemd.start(configuration)
    systemd.hears("READY=1")
    sessions = [NumberedSession(systemd.port, keeps=number % 2 == 0) for number in range(10)]
    for session in sessions:
        session.step()
    old = {session.worker for session in sessions}
    first.kill()
    # The workers accept on systemd's socket until those of the next supervisor do.
    between = NumberedSession(systemd.port, keeps=False)
    assert between.worker in old
    second = systemd.start(configuration)
    systemd.hears("READY=1")
    until(lambda: opened_elsewhere(systemd.port, old), "new sessions open in new workers")
    for session in [*sessions, between]:
        session.step()
        session.finish()
    assert "Traceback" not in first.log + second.log
