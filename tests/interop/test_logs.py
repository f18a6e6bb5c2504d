"""Log records and access log lines of real clients."""

from __future__ import annotations

import json
import re
import resource
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.interop.clients import publish, url
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

_PATIENCE_S = 30.0


@pytest.fixture
def access(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def gateway(programs: Programs, access: Path) -> WatchedGateway:
    return start_watched_gateway(programs, f'[log]\nformat = "json"\naccess = "{access}"\n')


def records(gateway: WatchedGateway) -> list[dict[str, Any]]:
    """The records of ended sessions."""
    lines = [json.loads(line) for line in gateway.program.log.splitlines() if line[-1:] == "}"]
    return [line for line in lines if line["namespace"].endswith("SessionEndLog")]


def entries(access: Path) -> list[dict[str, str]]:
    lines = access.read_text().splitlines()
    names = next(line for line in lines if line.startswith("#Fields: ")).split(" ")[1:]
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines if line[:1] != "#"]


def test_a_publisher_has_one_log_record_and_four_access_log_lines(
    programs: Programs, gateway: WatchedGateway, access: Path, stream: str, clip: Path
) -> None:
    publisher = publish(programs, clip, url("rtmpt", gateway.port, stream), in_real_time=False)
    assert publisher.ends(_PATIENCE_S) == 0
    until(lambda: records(gateway), "the session has ended")
    (record,) = records(gateway)
    application, _, name = stream.partition("/")
    assert (record["application"], record["stream"], record["action"]) == (
        *(application, name),
        "publish",
    )
    assert (record["reason"], record["protocol"], record["connections"]) == (
        *("client_closed", "rtmpt"),
        1,
    )
    assert record["bytes_up"] > 100_000
    assert record["tcp"]["round_trip_s"] > 0
    assert record["latencies"]["poll_gap"]["count"] > 0
    lines = entries(access)
    assert [line["x-event"] for line in lines] == ["connect", "publish", "unpublish", "disconnect"]
    assert {line["c-client-id"] for line in lines} == {record["alias"]}
    assert (lines[-1]["c-ip"], lines[-1]["c-proto"]) == (LOOPBACK, "rtmpt")
    assert int(lines[-1]["cs-bytes"]) == record["bytes_up"]


def test_no_session_id_is_logged(gateway: WatchedGateway, access: Path) -> None:
    """A session id is a credential: with it, anyone can send in the session."""
    with socket.create_connection((LOOPBACK, gateway.port), _PATIENCE_S) as client:
        client.sendall(b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        session = client.recv(4096).partition(b"\r\n\r\n")[2].strip().decode()
        assert session
        client.sendall(f"POST /close/{session}/0 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.recv(4096)
    until(lambda: records(gateway), "the session has ended")
    shown = "".join(map(gateway.get, ("/metrics", "/metrics/sessions", "/sessions", "/")))
    for text in (gateway.program.log, access.read_text(), shown):
        assert session not in text


def test_a_session_has_a_line_when_its_stream_is_known_and_a_short_one_at_its_end(
    programs: Programs, stream: str, clip: Path
) -> None:
    gateway = start_watched_gateway(programs, "")
    publisher = publish(programs, clip, url("rtmpt", gateway.port, stream), in_real_time=False)
    assert publisher.ends(_PATIENCE_S) == 0
    gateway.program.says(" ended: ")
    begin, end = [line for line in gateway.program.log.splitlines() if "session 00" in line]
    assert f'{LOOPBACK} publishes "{stream}" by RTMPT on {LOOPBACK}:0, to ' in begin
    assert re.search(
        r" ended: closed by the client after [^;]+; [^;]+ up, [^;]+ down; upstream", end
    )


def test_connections_refused_for_lack_of_descriptors_cause_one_warning(
    gateway: WatchedGateway,
) -> None:
    (pid,) = gateway.program.children
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    lines = len(gateway.program.log.splitlines())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, before[1]))
    for _ in range(5):
        with ExitStack() as stack:
            for _ in range(100):
                address = LOOPBACK, gateway.port
                stack.enter_context(socket.create_connection(address, _PATIENCE_S))
            gateway.program.says("no file descriptors are left")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    said = [json.loads(line) for line in gateway.program.log.splitlines()[lines:]]
    assert [(line["level"], "no file descriptors" in line["message"]) for line in said] == [
        ("warn", True)
    ]


def test_a_refused_client_has_a_line_with_its_address(
    gateway: WatchedGateway, access: Path
) -> None:
    gateway.change("POST", "/drain")
    with socket.create_connection((LOOPBACK, gateway.port), _PATIENCE_S) as client:
        client.sendall(b"POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 503 ")
    (line,) = entries(access)
    assert (line["x-event"], line["x-status"], line["x-comment"]) == ("connect", "503", "draining")
    assert (line["c-ip"], line["c-proto"]) == (LOOPBACK, "rtmpt")
