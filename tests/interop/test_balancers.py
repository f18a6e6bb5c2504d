"""Two gateways behind a balancer, with the configurations in deploy/: commands reach their session's node.

Each gateway has two workers, so most commands are forwarded once more, between these.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic
from urllib.request import Request, urlopen

import pytest

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession, SessionEnded
from tests.helpers.interop.programs import Programs, needs, until
from tests.helpers.interop.servers import LOOPBACK, ROOT, run_nginx, start_gateway
from tests.interop.conftest import Upstream

_GATEWAY = """workers = 2
[node]
id = "{node}"
[[listener]]
address = "127.0.0.1:0"
trusted = ["127.0.0.0/8"]
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[admin]
address = "127.0.0.1:0"
token_file = "{token}"
[limits]
drain_s = 1.0
"""
_NODES = ("aa", "bb")
_ADDRESSES = ("10.0.0.5", "10.0.0.6")
_SESSIONS = 200
_TOKEN = "token-of-the-admin-servers"


class Node:
    """One gateway; its clients come through the balancer."""

    def __init__(self, programs: Programs, folder: Path, name: str, upstream: int) -> None:
        self.name = name
        file = folder / f"{name}.toml"
        token = folder / f"{name}.token"
        token.write_text(_TOKEN)
        token.chmod(0o600)
        file.write_text(_GATEWAY.format(node=name, upstream=upstream, token=token))
        self.program, self.port = start_gateway(programs, "--config", str(file))
        self.admin = int(self.program.says(f"admin server on {LOOPBACK}:"))
        self.program.says("media servers: ")

    def sessions(self) -> list[object]:
        """All active sessions."""
        request = Request(
            f"http://{LOOPBACK}:{self.admin}/sessions",
            headers={"Authorization": f"Bearer {_TOKEN}"},
        )
        with urlopen(request, timeout=10) as answer:
            found: list[object] = json.load(answer)["sessions"]
        return found


def haproxy(programs: Programs, nodes: list[Node]) -> int:
    """Start HAProxy with deploy/haproxy/haproxy.cfg, but the nodes' addresses; its port."""
    needs("haproxy")
    # The machine that tests may allow fewer open files.
    text = (
        (ROOT / "deploy/haproxy/haproxy.cfg").read_text().replace("maxconn 20000", "maxconn 1000")
    )
    for address, node in zip(_ADDRESSES, nodes, strict=True):
        text = text.replace(
            f"{address}:80 check port 9935", f"127.0.0.1:{node.port} check port {node.admin}"
        ).replace(f"{address}:80", f"127.0.0.1:{node.port}")
    with socket.create_server((LOOPBACK, 0), backlog=1024) as listening:
        os.set_inheritable(listening.fileno(), True)
        file = programs.new_folder("haproxy") / "haproxy.cfg"
        file.write_text(text.replace("bind :80\n", f"bind fd@{listening.fileno()}\n"))
        programs.start(
            *("haproxy", "-db", "-f", str(file)),
            environment={"GATEWAY_TOKEN": _TOKEN},
            pass_fds=[listening.fileno()],
        )
        port: int = listening.getsockname()[1]
        return port


def nginx_(programs: Programs, nodes: list[Node]) -> int:
    """Start nginx with deploy/nginx/nginx.conf, but the nodes' addresses; its port."""
    text = (ROOT / "deploy/nginx/nginx.conf").read_text()
    for address, node in zip(_ADDRESSES, nodes, strict=True):
        text = text.replace(f"{address}:80", f"127.0.0.1:{node.port}")
    text = text.replace("{", "{{").replace("}", "}}").replace("listen 80;", "listen {listen};")
    folders = "".join(
        f"{name}_temp_path {name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    _, port = run_nginx(programs, text.replace("http {{\n", "http {{\n" + folders))
    return port


Balancer = Callable[[Programs, list[Node]], int]


@pytest.fixture(params=[haproxy, nginx_], ids=["HAProxy", "nginx"])
def balancer(request: pytest.FixtureRequest) -> Balancer:
    chosen: Balancer = request.param
    return chosen


@pytest.fixture
def echo() -> Iterator[int]:
    with echo_server() as port:
        yield port


def balanced(
    programs: Programs, folder: Path, balancer: Balancer, upstream: int
) -> tuple[list[Node], int]:
    nodes = [Node(programs, folder, name, upstream) for name in _NODES]
    port = balancer(programs, nodes)
    until(lambda: opens(port), "the balancer serves")
    return nodes, port


def opens(port: int) -> bool:
    try:
        NumberedSession(port, keeps=False).finish()
    except (SessionEnded, OSError, http.client.HTTPException):
        return False
    return True


def test_no_command_of_200_sessions_is_lost_and_a_stopped_node_takes_its_own_alone(
    programs: Programs, tmp_path: Path, balancer: Balancer, echo: int
) -> None:
    nodes, port = balanced(programs, tmp_path, balancer, echo)
    sessions = [NumberedSession(port, keeps=False) for _ in range(_SESSIONS)]
    for _ in range(2):
        for session in sessions:
            session.step()
    shares = {name: [each for each in sessions if each.id.startswith(name)] for name in _NODES}
    assert min(map(len, shares.values())) > _SESSIONS / 5
    for session in sessions[::2]:
        session.finish()
    stopped = nodes[0]
    stopped.program.send(signal.SIGKILL)
    for worker in stopped.program.children:
        os.kill(worker, signal.SIGKILL)
    for session in sessions[1::2]:
        if session.id.startswith(stopped.name):
            with pytest.raises((SessionEnded, OSError, http.client.HTTPException)):
                session.step()
            session.drop()
        else:
            session.step()
            session.finish()
    began = monotonic()
    until(lambda: opens(port), "new sessions open on the other node")
    assert monotonic() - began < 5
    newer = [NumberedSession(port, keeps=False) for _ in range(10)]
    assert {session.id[:2] for session in newer} == {nodes[1].name}
    for session in newer:
        session.finish()


def test_a_command_of_no_session_is_404_and_opens_none(
    programs: Programs, tmp_path: Path, balancer: Balancer, echo: int
) -> None:
    nodes, port = balanced(programs, tmp_path, balancer, echo)
    for target in ("/send/zz00none/1", "/idle/aa00none/1", "/close/bb"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with closing(connection):
            connection.request("POST", target, b"\0")
            assert connection.getresponse().status == 404, target
    assert [node.sessions() for node in nodes] == [[], []]


def test_media_of_ffmpeg_arrives_unchanged(
    programs: Programs,
    tmp_path: Path,
    balancer: Balancer,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    nodes = [Node(programs, tmp_path, name, nginx.tap.port) for name in _NODES]
    port = balancer(programs, nodes)
    source = url("rtmpt", port, stream)
    player = FFmpegPlayer(programs, source)
    nginx.tap.players(1)
    assert publish(programs, clip, source).ends(30) == 0
    assert player.program.ends(20) == 0
    got = player.packets()
    assert got == packets[: len(got)]
    assert len(packets) - len(got) <= LOST_BY_FFMPEG
