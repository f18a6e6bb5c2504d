"""Notifications to systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from gateway.systemd_notify import SystemdNotify


@pytest.fixture(params=["path", "abstract"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[str, socket.socket]]:
    """systemd's notification socket, and its name."""
    is_path = request.param == "path"
    name = str(tmp_path / "notify") if is_path else f"@rtmpt-gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name if is_path else "\0" + name[1:])
        receiver.settimeout(5)
        yield name, receiver


def test_each_state_is_sent_in_one_datagram(listening: tuple[str, socket.socket]) -> None:
    name, receiver = listening
    notify = SystemdNotify({"NOTIFY_SOCKET": name})
    notify.ready("3 sessions")
    assert receiver.recv(1000) == b"READY=1\nSTATUS=3 sessions"
    notify.reloading()
    first, _, value = receiver.recv(1000).decode().partition("\nMONOTONIC_USEC=")
    assert first == "RELOADING=1"
    assert int(value) / 1e6 == pytest.approx(monotonic(), abs=5)
    notify.alive("4 sessions")
    assert receiver.recv(1000) == b"WATCHDOG=1\nSTATUS=4 sessions"
    notify.stopping()
    assert receiver.recv(1000) == b"STOPPING=1"


def test_no_notification_is_sent_without_a_reachable_socket_of_systemd(tmp_path: Path) -> None:
    SystemdNotify({}).ready()
    SystemdNotify({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_the_watchdog_is_used_only_if_its_process_id_is_this_process() -> None:
    own = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}
    assert SystemdNotify(own).watchdog_s == 60
    assert SystemdNotify({**own, "WATCHDOG_PID": "1"}).watchdog_s == 0
    assert SystemdNotify({"WATCHDOG_USEC": "nonsense"}).watchdog_s == 0
