"""Peers whose network vanishes without FIN or RST: their sessions end in time, and silent ones do not.

Clients run in a network namespace of their own, whose link is taken down. Needs root and iproute2.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import urlopen

import pytest
from attrs import frozen

from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.secure import Authority, make_authority
from tests.helpers.interop.servers import LOOPBACK, ROOT

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and iproute2"
)

VANISHED_S = 5.0
# Below the kernel's and the gateway's own timers, which are of a second.
SPARE_S = 2.0
_names = count()
PROTOCOLS = ("rtmp", "rtmps", "rtmpt", "rtmpts")
_QUIETLY = ("-nostdin", "-nostats", "-loglevel", "error")


@frozen
class Link:
    """A namespace, and this side's address in the namespace's network."""

    namespace: str
    device: str
    address: str

    def take_down(self) -> None:
        _ip("link", "set", self.device, "down")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture
def link() -> Iterator[Link]:
    name = f"van{os.getpid() % 100_000}{next(_names)}"
    block = os.getpid() % 250
    here, there = f"10.199.{block}.1", f"10.199.{block}.2"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b", "netns", name)
        _ip("addr", "add", f"{here}/24", "dev", f"{name}a")
        _ip("link", "set", f"{name}a", "up")
        _ip("-n", name, "addr", "add", f"{there}/24", "dev", f"{name}b")
        _ip("-n", name, "link", "set", f"{name}b", "up")
        yield Link(name, f"{name}a", here)
    finally:
        # Its end in this namespace would outlive the other for a moment.
        _ip("link", "del", f"{name}a")
        _ip("netns", "del", name)


@frozen
class Gateway:
    """A gateway with its embedded origin, on all addresses."""

    program: Program
    plain: int
    secure: int
    admin: int

    def port(self, protocol: str) -> int:
        return self.secure if protocol in ("rtmps", "rtmpts") else self.plain

    def ask(self, path: str) -> Any:
        with urlopen(f"http://{LOOPBACK}:{self.admin}{path}", timeout=10) as answer:
            return json.load(answer)

    def living(self) -> list[dict[str, Any]]:
        sessions: list[dict[str, Any]] = self.ask("/sessions?limit=100")["sessions"]
        return sessions


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def start_gateway(programs: Programs, authority: Authority, more: str = "") -> Gateway:
    plain, secure, admin = _free_port(), _free_port(), _free_port()
    path = programs.new_folder("gateway") / "gateway.toml"
    path.write_text(
        f'[[listener]]\naddress = "0.0.0.0:{plain}"\n'
        f'[[listener]]\naddress = "0.0.0.0:{secure}"\ntls = true\n'
        f'[tls]\ncertificates = ["{authority.certify("site.pem", "localhost")}"]\n'
        f'[admin]\naddress = "{LOOPBACK}:{admin}"\n[limits]\nvanished_s = {VANISHED_S}\n{more}'
    )
    program = programs.start(
        *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
        *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(path)),
        environment={"PYTHONPATH": str(ROOT)},
    )
    program.says("media servers:")
    return Gateway(program, plain, secure, admin)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def publish(programs: Programs, clip: Path, to: str, *inside: str) -> Program:
    loop = ("-re", "-stream_loop", "-1", "-i", str(clip), "-c", "copy", "-f", "flv")
    return programs.start(*inside, "ffmpeg", *_QUIETLY, *loop, to)


def test_vanished_clients_end_in_time_and_a_second_publisher_succeeds(
    programs: Programs, authority: Authority, link: Link, clip: Path
) -> None:
    gateway = start_gateway(programs, authority)
    inside = ("ip", "netns", "exec", link.namespace)
    publish(programs, clip, f"rtmp://{LOOPBACK}:{gateway.plain}/live/played")
    until(lambda: len(gateway.living()) == 1, "the stream is published")
    for protocol in PROTOCOLS:
        at = f"{protocol}://{link.address}:{gateway.port(protocol)}/live"
        publish(programs, clip, f"{at}/{protocol}", *inside)
        player = ("-i", f"{at}/played", "-f", "null", "-")
        programs.start(*inside, "ffmpeg", *_QUIETLY, *player)
    until(lambda: _acting(gateway) == {"publish": 5, "play": 4}, "all publish and play")
    sleep(1.0)
    aliases = {each["alias"]: each for each in gateway.living() if each["address"] != LOOPBACK}
    link.take_down()
    began = monotonic()
    until(lambda: len(gateway.living()) == 1, "the vanished sessions end", VANISHED_S + SPARE_S)
    assert monotonic() - began > VANISHED_S - SPARE_S
    reasons = {alias: gateway.ask(f"/sessions/{alias}")["reason"] for alias in aliases}
    assert reasons == dict.fromkeys(aliases, "client_vanished")
    again = [
        publish(programs, clip, f"rtmp://{LOOPBACK}:{gateway.plain}/live/{protocol}")
        for protocol in PROTOCOLS
    ]
    until(lambda: _acting(gateway) == {"publish": 5}, "second publishers of the names succeed")
    sleep(1.0)
    assert all(program.running for program in again)


def _acting(gateway: Gateway) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in gateway.living():
        found[each["action"]] = found.get(each["action"], 0) + 1
    return found


def test_a_session_without_data_continues(programs: Programs, authority: Authority) -> None:
    """A paused player: no byte in either direction, for longer than a vanished peer is given."""
    with socket.create_server((LOOPBACK, 0)) as server:
        more = f'[[upstream]]\nservers = ["{LOOPBACK}:{server.getsockname()[1]}"]\n'
        gateway = start_gateway(programs, authority, more)
        with socket.create_connection((LOOPBACK, gateway.plain)) as player:
            player.sendall(b"\x03" + bytes(1536))
            upstream, _ = server.accept()
            with upstream:
                assert upstream.recv(1537, socket.MSG_WAITALL) == b"\x03" + bytes(1536)
                sleep(3 * VANISHED_S)
                upstream.sendall(b"resumed")
                assert player.recv(100) == b"resumed"


def test_a_publisher_that_returns_replaces_its_older_session(
    programs: Programs, authority: Authority, link: Link, clip: Path
) -> None:
    gateway = start_gateway(programs, authority, "[tunnel]\nreplace_publisher = true\n")
    inside = ("ip", "netns", "exec", link.namespace)
    to = f"rtmpt://{link.address}:{gateway.plain}/live/returning"
    publish(programs, clip, to, *inside)
    until(lambda: _acting(gateway) == {"publish": 1}, "it publishes")
    first = gateway.living()[0]["alias"]
    returned = publish(programs, clip, to, *inside)
    until(lambda: gateway.ask(f"/sessions/{first}")["reason"] == "replaced", "it is replaced")
    sleep(2.0)
    assert returned.running
    assert _acting(gateway) == {"publish": 1}
