"""The admin server with real programs: UNIX socket, token, TLS, OpenAPI document."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPSConnection
from importlib.util import find_spec
from pathlib import Path

import pytest
import trustme

from gateway.admin.resources.endpoints import ROUTES
from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import LOOPBACK, ROOT, start_gateway
from tests.helpers.interop.watched import start_watched_gateway

_TOKEN = "correct-horse-battery"
_LISTENER = f'[[listener]]\naddress = "{LOOPBACK}:0"\n'
_WAIT_S = 30.0


def start(programs: Programs, *keys: str) -> Program:
    file = programs.new_folder("configuration") / "gateway.toml"
    file.write_text("\n".join([_LISTENER, "[admin]", *keys]))
    return start_gateway(programs, "--config", str(file))[0]


def token_file(folder: Path) -> Path:
    path = folder / "token"
    path.touch(0o600)
    path.write_text(_TOKEN)
    return path


def status(connection: HTTPConnection, path: str = "/healthz", **fields: str) -> int:
    connection.request("GET", path, headers=fields)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_the_unix_socket_of_the_admin_server_permits_only_the_gateways_user_and_group(
    programs: Programs, tmp_path: Path
) -> None:
    path = tmp_path / "admin.sock"
    gateway = start(programs, f'address = "unix:{path}"')
    gateway.says(f"admin server on unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_WAIT_S)
        client.connect(str(path))
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"ok\n")


def test_the_admin_server_is_not_reachable_on_the_clients_ports(programs: Programs) -> None:
    gateway = start_watched_gateway(programs)
    with closing(HTTPConnection(LOOPBACK, gateway.port, timeout=_WAIT_S)) as connection:
        for path in (*ROUTES, "/sessions/0000-1"):
            connection.request("GET", path)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (404, b""), path


def test_remote_clients_need_the_token(programs: Programs, tmp_path: Path) -> None:
    gateway = start(programs, 'address = "0.0.0.0:0"', f'token_file = "{token_file(tmp_path)}"')
    port = int(gateway.says("admin server on 0.0.0.0:"))
    with closing(HTTPConnection(LOOPBACK, port, timeout=_WAIT_S)) as connection:
        assert status(connection) == 401
        assert status(connection, Authorization="Bearer wrong-horse-battery") == 401
        right = f"Bearer {_TOKEN}"
        assert status(connection, Authorization=right) == 200
        assert status(connection, Authorization=right, Host="gateway.example.org") == 200
    assert _TOKEN not in gateway.log


def test_the_gateway_does_not_start_with_an_invalid_token_file(
    programs: Programs, tmp_path: Path
) -> None:
    path = token_file(tmp_path)
    path.chmod(0o644)
    file = tmp_path / "gateway.toml"
    file.write_text(f'{_LISTENER}[admin]\naddress = "0.0.0.0:0"\ntoken_file = "{path}"\n')
    gateway = programs.start(
        sys.executable,
        "-c",
        "from twisted.scripts.twistd import run; run()",
        *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(file)),
        environment={"PYTHONPATH": str(ROOT)},
    )
    assert gateway.ends(30) == 1
    assert f"{path}: open to everybody on this machine; chmod o-rw it" in gateway.log


def test_tls_accepts_clients_with_a_certificate_of_the_authority(
    programs: Programs, tmp_path: Path
) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    server = tmp_path / "server.pem"
    until = datetime.now(UTC) + timedelta(days=30)
    leaf = ours.issue_cert(LOOPBACK, "localhost", not_after=until)
    # This machine does not trust its root, so the file has to have that too.
    server.write_bytes(leaf.private_key_and_cert_chain_pem.bytes() + ours.cert_pem.bytes())
    authorities = tmp_path / "authorities.pem"
    theirs.cert_pem.write_to_path(authorities)
    gateway = start(
        programs,
        'address = "0.0.0.0:0"',
        f'certificate = "{server}"',
        f'client_authorities = "{authorities}"',
    )
    port = int(gateway.says("admin server on 0.0.0.0:"))

    def ask(client: trustme.LeafCert | None) -> int:
        context = ssl.create_default_context()
        # As curl, browsers and Prometheus say it.
        context.set_alpn_protocols(["h2", "http/1.1"])
        ours.configure_trust(context)
        if client is not None:
            client.configure_cert(context)
        with closing(
            HTTPSConnection(LOOPBACK, port, context=context, timeout=_WAIT_S)
        ) as connection:
            return status(connection)

    assert ask(theirs.issue_cert("operator@example.org")) == 200
    for refused in (None, ours.issue_cert("operator@example.org")):
        with pytest.raises((ssl.SSLError, OSError)):
            ask(refused)


def test_a_stopping_gateway_ends_event_streams_without_log_lines(programs: Programs) -> None:
    gateway = start_watched_gateway(programs)
    with socket.create_connection((LOOPBACK, gateway.admin_port), _WAIT_S) as watcher:
        watcher.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"data: " in watcher.recv(65536) + watcher.recv(65536)
        gateway.program.stop()
    for word in ("Traceback", "ignored", "Error"):
        assert word not in gateway.program.log


def test_the_openapi_document_agrees_with_the_responses(programs: Programs) -> None:
    if find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    gateway = start_watched_gateway(programs)
    address = f"http://{LOOPBACK}:{gateway.admin_port}/openapi.json"
    # An event stream has no end that it could wait for; and 503 is what readiness is for.
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "schemathesis.cli",
                "run",
                address,
                "--exclude-path-regex",
                "/events|/readyz",
            ),
            *("--checks", "all", "--max-examples", "40", "--seed", "1", "--no-color"),
            *("--request-timeout", "10", "--suppress-health-check", "all"),
        ],
        cwd=programs.new_folder("schemathesis"),
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert json.loads(gateway.get("/drain")) in ({"draining": True}, {"draining": False})
    assert "Traceback" not in gateway.program.log
