"""Exhausted file descriptors: no media server is blamed, and active sessions continue."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = 200
# More than there are descriptors for, whatever a client does with a connection.
MORE = 250
# The one message that says what to do.
CLEAR = "no file descriptors are left; raise LimitNOFILE= (systemd) or ulimit -n"


class Echo:
    """A media server that echoes the received data."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(connection,), daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return


class Client:
    """A client's RTMPT session, on successive connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._id = ""
        self._number = 0
        self.connection = HTTPConnection("127.0.0.1", port, timeout=5)

    def post(self, target: str, body: bytes = b"\0") -> tuple[int, bytes]:
        self.connection.request("POST", target, body, {"Content-Type": "application/x-fcs"})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def open(self) -> int:
        status, body = self.post("/open/1")
        self._id = body.decode().strip()
        return status

    def goes_on(self) -> bool:
        """Whether bytes sent to the media server still come back."""
        wanted, got = os.urandom(100), b""
        target = f"/send/{self._id}/{self._number}"
        for _ in range(50):
            status, body = self.post(target, wanted if "send" in target else b"\0")
            assert status == 200
            got += body[1:]
            if got:
                break
            target = f"/idle/{self._id}/{self._number + 1}"
            self._number += 1
        self._number += 1
        return got == wanted

    def close(self) -> None:
        self.connection.close()

    def move(self) -> None:
        """Use a new connection from now on."""
        self.close()
        self.connection = HTTPConnection("127.0.0.1", self._port, timeout=5)


class Gateway:
    """A real gateway with few descriptors."""

    def __init__(self, folder: Path, upstream: int) -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as one,
            socket.create_server(("127.0.0.1", 0)) as other,
        ):
            self.port, self.admin = one.getsockname()[1], other.getsockname()[1]
        file = folder / "gateway.toml"
        file.write_text(
            f'workers = 1\n[[listener]]\naddress = "127.0.0.1:{self.port}"\n'
            f'[[upstream]]\nservers = ["127.0.0.1:{upstream}"]\n'
            f'[admin]\naddress = "127.0.0.1:{self.admin}"\n'
            "[limits]\nunused_session_s = 300\nsilent_session_s = 300\nfirst_bytes_s = 300\n"
        )
        self._log = folder / "log"
        program = "from twisted.scripts.twistd import run; run()"
        command = f'ulimit -Sn {FILES}; ulimit -Hn {FILES}; exec "$@"'
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("/bin/sh", "-c", command, "sh", sys.executable, "-c", program),
                    *("-n", "--pidfile=", "rtmpt-gateway", "--config", str(file)),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while self.ask("/healthz") is None:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)
        pid = self.process.pid
        self.worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(self, target: str) -> str | None:
        """The admin server's answer; None if the status is not 200 or no answer arrives."""
        connection = HTTPConnection("127.0.0.1", self.admin, timeout=5)
        try:
            connection.request("GET", target, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.ask("/metrics") or "", re.MULTILINE)
        assert found, name
        return float(found[1])

    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.worker}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_idle(self) -> bool:
        """Whether the gateway uses little processor time."""
        began = self.processor_s()
        time.sleep(1)
        return self.processor_s() - began < 0.3

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        # Without its supervisor it would go on with its sessions.
        os.kill(self.worker, signal.SIGKILL)


@pytest.fixture
def media() -> Iterator[Echo]:
    media = Echo()
    yield media
    media.listening.close()


@pytest.fixture
def gateway(tmp_path: Path, media: Echo) -> Iterator[Gateway]:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < FILES:
        pytest.skip("fewer open files are allowed here")
    gateway = Gateway(tmp_path, media.port)
    yield gateway
    gateway.stop()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def open_many(gateway: Gateway, stack: ExitStack) -> list[int]:
    """Open sessions, each on its own connection. Returns the status of each, 0 without an answer."""
    found = []
    for _ in range(MORE):
        client = Client(gateway.port)
        stack.callback(client.close)
        found.append(try_open(client))
    return found


def try_open(client: Client) -> int:
    try:
        return client.open()
    except (OSError, HTTPException):
        return 0


def running(gateway: Gateway, stack: ExitStack) -> Client:
    client = Client(gateway.port)
    stack.callback(client.close)
    assert client.open() == 200
    assert client.goes_on()
    return client


def test_opens_without_free_descriptors_are_refused_and_no_media_server_is_marked_as_down(
    gateway: Gateway, stack: ExitStack
) -> None:
    client = running(gateway, stack)
    with ExitStack() as attack:
        statuses = open_many(gateway, attack)
        assert statuses.count(200) > 40
        first_refused = statuses.index(503)
        assert set(statuses[first_refused:]) <= {503, 0}
        assert client.goes_on()
        assert gateway.ask("/healthz") is not None
        (server,) = json.loads(gateway.ask("/upstreams") or "")["upstreams"]
        assert server["up"]
        assert server["failures"] == 0
        assert gateway.metric(
            'rtmpt_gateway_opens_refused_total{cause="resources_exhausted"}'
        ) == statuses.count(503)
        assert gateway.is_idle()
    log = gateway.log
    assert log.count("no connection to upstream 127.0.0.1:") == 1
    assert log.count(CLEAR) <= 2
    assert " is down" not in log
    assert "Traceback" not in log
    # The attack is over: at once, not after the time for which a server that failed is avoided.
    deadline = time.monotonic() + 5
    while try_open(later := Client(gateway.port)) != 200:
        later.close()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    later.close()


def test_active_sessions_get_new_connections_while_opens_are_refused(
    gateway: Gateway, stack: ExitStack
) -> None:
    client = running(gateway, stack)
    attacker = Client(gateway.port)
    stack.callback(attacker.close)
    # One client connection: sessions alone use the descriptors up.
    while (status := attacker.open()) == 200:
        pass
    assert status == 503
    for _ in range(5):
        client.move()
        assert client.goes_on()
    others = [Client(gateway.port) for _ in range(20)]
    for other in others:
        stack.callback(other.close)
        assert other.post("/fcs/ident2")[0] == 404


def test_connections_that_use_up_the_descriptors_do_not_affect_admin_server_and_sessions(
    gateway: Gateway, stack: ExitStack
) -> None:
    client = running(gateway, stack)
    for _ in range(MORE):
        stack.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
    time.sleep(0.3)
    assert client.goes_on()
    assert gateway.ask("/healthz") is not None
    labels = f'{{cause="full",listener="127.0.0.1:{gateway.port}"}}'
    assert gateway.metric(f"rtmpt_gateway_connections_refused_total{labels}") > 50
    assert gateway.is_idle()
    assert gateway.log.count(f"connection refused: {CLEAR}") == 1


def test_a_gateway_without_free_descriptors_waits_before_the_next_attempt(
    gateway: Gateway, stack: ExitStack
) -> None:
    """Connections to the admin server use up its reserved descriptors."""
    client = running(gateway, stack)
    for port in (gateway.port, gateway.admin):
        for _ in range(MORE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    time.sleep(0.3)
    assert gateway.is_idle()
    assert client.goes_on()
    stack.close()
    deadline = time.monotonic() + 5
    while gateway.ask("/healthz") is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "Traceback" not in gateway.log
