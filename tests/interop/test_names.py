"""Names of media servers that change or stop resolving, in a namespace with a name server of the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from time import sleep
from typing import Any, final
from uuid import uuid4

import pytest

from tests.helpers.interop.light_sessions import LightSessions, forget_gaps, longest_gap_s
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.servers import ROOT, nginx_rtmp

_PORT = 8080
_OTHER = "127.0.0.4"
_PATH = "live/show"
# Beyond the longest time without media before.
_STALL_S = 0.05
_REFERENCE_S = 3.0
_CONFIGURATION = f"""workers = 1
[[listener]]
address = "127.0.0.1:{_PORT}"
[[upstream]]
servers = ["_rtmp._tcp.example.org", "{_OTHER}"]
choose = "round_robin"
check = "off"
[admin]
address = "unix:{{admin}}"
"""
# A stream is the same at all of its addresses.
_NGINX = f"""
daemon off;
worker_processes 1;
user root;
pid nginx.pid;
error_log stderr;
load_module {{module}};
events {{{{ worker_connections 256; }}}}
rtmp {{{{
    access_log off;
    server {{{{
        listen 127.0.0.2:1935;
        listen 127.0.0.3:1935;
        listen {_OTHER}:1935;
        application live {{{{ live on; wait_key on; }}}}
    }}}}
}}}}
"""


@final
class Namespace:
    """Loopback alone, with the programs of a test, and the records of its name server."""

    def __init__(self, programs: Programs, folder: Path) -> None:
        self.name = f"names{uuid4().hex[:8]}"
        self.admin = folder / "admin"
        self._programs = programs
        self._records = folder / "records.json"
        self._files = Path("/etc/netns", self.name)

    def __enter__(self) -> Namespace:
        self._files.mkdir(parents=True)
        # ``ip netns exec`` puts these in the place of the files of /etc.
        (self._files / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (self._files / "hosts").write_text("127.0.0.1 localhost\n")
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)
        shutil.rmtree(self._files, ignore_errors=True)

    def start(self, *words: str) -> Program:
        return self._programs.start(
            *("ip", "netns", "exec", self.name, *words), environment={"PYTHONPATH": str(ROOT)}
        )

    def answers(self, records: dict[str, list[tuple[str, int]]] | str) -> None:
        """What the name server answers from now on: records, or a fault."""
        new = self._records.with_suffix(".new")
        new.write_text(json.dumps(records))
        new.rename(self._records)

    def serve_names(self) -> None:
        words = ("-m", "tests.helpers.name_server", "127.0.0.1", "53", str(self._records))
        self.start(sys.executable, *words).says("listening")

    def connections_to(self, host: str) -> int:
        """The number of the gateway's connections to this address of nginx."""
        words = ("ip", "netns", "exec", self.name, "ss", "-Htn", "state", "established")
        found = subprocess.check_output([*words, f"dst {host}:1935"], text=True)
        return len(found.splitlines())

    def upstream(self) -> dict[str, Any]:
        words = ["curl", "-s", "--unix-socket", str(self.admin), "http://localhost/upstreams"]
        upstream: dict[str, Any] = json.loads(subprocess.check_output(words))["upstreams"][0]
        return upstream


def records(address: str) -> dict[str, list[tuple[str, int]]]:
    return {
        "_rtmp._tcp.example.org SRV": [("0 1 1935 media.example.org", 1)],
        "media.example.org A": [(address, 1)],
    }


@pytest.mark.alone
@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_a_name_that_changes_or_is_lost_delays_no_session_and_new_ones_use_what_is_known_last(
    programs: Programs, tmp_path: Path
) -> None:
    for program in ("ip", "ss", "curl"):
        needs(program)
    configuration, nginx = tmp_path / "gateway.toml", tmp_path / "nginx.conf"
    with Namespace(programs, tmp_path) as namespace:
        configuration.write_text(_CONFIGURATION.format(admin=namespace.admin))
        nginx.write_text(_NGINX.format(module=nginx_rtmp()))
        namespace.answers(records("127.0.0.2"))
        namespace.serve_names()
        namespace.start(needs("nginx"), "-p", str(tmp_path), "-c", str(nginx))
        twistd = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
        gateway = namespace.start(
            *(sys.executable, *twistd, "rtmpt-gateway", "--config", str(configuration))
        )
        gateway.says("ready: ")
        with LightSessions(namespace=namespace.name) as sessions:
            sessions.publish(1935, _PATH, _OTHER)
            players = [sessions.play(_PORT, _PATH) for _ in range(20)]
            assert namespace.connections_to("127.0.0.2") == 10
            assert namespace.upstream()["service"] == "_rtmp._tcp.example.org"
            # Others use this machine at times, which sessions without the gateway show.
            direct = [sessions.play(1935, _PATH, host="127.0.0.3") for _ in range(5)]
            forget_gaps((*players, *direct))
            sleep(_REFERENCE_S)
            reference_s = longest_gap_s(players)

            forget_gaps((*players, *direct))
            namespace.answers(records("127.0.0.3"))
            until(lambda: namespace.upstream()["addresses"] == ["127.0.0.3"], "it is noticed")
            more = [sessions.play(_PORT, _PATH) for _ in range(10)]
            assert namespace.connections_to("127.0.0.3") == 5 + len(direct)
            # Sessions of the old address stay there.
            assert namespace.connections_to("127.0.0.2") == 10
            allowed_s = max(reference_s, longest_gap_s(direct)) + _STALL_S
            assert longest_gap_s(players) <= allowed_s

            forget_gaps((*players, *direct))
            namespace.answers("refuses")
            until(lambda: namespace.upstream()["stale"], "the name does not resolve")
            gateway.says("no SRV records: the name servers fail: DNSServerError")
            more += [sessions.play(_PORT, _PATH) for _ in range(10)]
            assert namespace.connections_to("127.0.0.3") == 10 + len(direct)
            assert namespace.upstream()["failed_look_ups"] >= 1
            allowed_s = max(reference_s, longest_gap_s(direct)) + _STALL_S
            assert longest_gap_s(players) <= allowed_s
            assert not any(player.has_ended for player in (*players, *more))
