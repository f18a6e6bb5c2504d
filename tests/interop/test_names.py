"""Names of media servers that change or stop resolving, in a namespace with a name server of the test.

Three servers have a hundred live sessions each, and the name is of the first one. ``pytest -s`` prints what
was measured.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic
from typing import Any, final
from uuid import uuid4

import pytest

from tests.helpers.interop.bystanders import Bystanders
from tests.helpers.interop.faulty import FaultyServer
from tests.helpers.interop.light_sessions import LightSessions, SessionFailed
from tests.helpers.interop.opens import Opens
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.servers import ROOT, nginx_rtmp

_PORT = 8080
_OTHERS = "127.0.0.4", "127.0.0.5"
# That no server has.
_DEAD = "127.0.0.9"
_PATH = "live/show"
_SESSIONS, _DIRECT, _RELAYED = 300, 20, 100
# How long a name is valid at least, until it is looked up; and as in test_failing_upstreams.py.
_VALID_S = 5.0 + 1.0
_NOTICED_S = _VALID_S + 2 * (1.1 + 1.0 + 0.5) + 1.0
_CONFIGURATION = f"""workers = 1
[[listener]]
address = "127.0.0.1:{_PORT}"
[[upstream]]
servers = ["_rtmp._tcp.example.org", "{_OTHERS[0]}", "{_OTHERS[1]}"]
choose = "round_robin"
check = "rtmp"
check_s = 1
fall = 2
rise = 2
slow_start_s = 60
[limits]
upstream_connect_s = 0.5
[admin]
address = "unix:{{admin}}"
"""
_CAPPED = f"""workers = 2
[[listener]]
address = "127.0.0.1:{_PORT}"
[[upstream]]
servers = [{{{{ address = "_rtmp._tcp.example.org", max_sessions = 3 }}}}]
queue = 0
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
events {{{{ worker_connections 1024; }}}}
rtmp {{{{
    access_log off;
    server {{{{
        listen 127.0.0.1:1935;
        listen 127.0.0.2:1935;
        listen 127.0.0.3:1935;
        listen {_OTHERS[0]}:1935;
        listen {_OTHERS[1]}:1935;
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

    def upstreams(self) -> list[dict[str, Any]]:
        words = ["curl", "-s", "--unix-socket", str(self.admin), "http://localhost/upstreams"]
        found: list[dict[str, Any]] = json.loads(subprocess.check_output(words))["upstreams"]
        return found

    def upstream(self) -> dict[str, Any]:
        """That with the name."""
        return self.upstreams()[0]


def records(address: str) -> dict[str, list[tuple[str, int]]]:
    return {
        "_rtmp._tcp.example.org SRV": [("0 1 1935 media.example.org", 1)],
        "media.example.org A": [(address, 1)],
    }


@pytest.fixture
def namespace(programs: Programs, tmp_path: Path) -> Iterator[Namespace]:
    """A namespace with the servers and their names."""
    if os.geteuid() != 0:
        pytest.skip("namespaces need root")
    for program in ("ip", "ss", "curl"):
        needs(program)
    nginx = tmp_path / "nginx.conf"
    with Namespace(programs, tmp_path) as namespace:
        nginx.write_text(_NGINX.format(module=nginx_rtmp()))
        namespace.answers(records("127.0.0.2"))
        namespace.serve_names()
        namespace.start(needs("nginx"), "-p", str(tmp_path), "-c", str(nginx))
        yield namespace


def start_gateway(namespace: Namespace, folder: Path, configuration: str) -> Program:
    """Start a gateway in the namespace."""
    file = folder / "gateway.toml"
    file.write_text(configuration.format(admin=namespace.admin))
    twistd = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
    gateway = namespace.start(*(sys.executable, *twistd, "rtmpt-gateway", "--config", str(file)))
    gateway.says("ready: ")
    return gateway


def test_the_cap_of_a_server_that_was_found_by_records_is_of_all_workers(
    namespace: Namespace, tmp_path: Path
) -> None:
    start_gateway(namespace, tmp_path, _CAPPED)
    with LightSessions(namespace=namespace.name) as sessions:
        players = sessions.play_many(3, _PORT, _PATH)
        for _ in range(4):
            with pytest.raises(SessionFailed):
                sessions.play(_PORT, _PATH)
        players.pop().close()
        until(lambda: namespace.upstream()["sessions"] == 2, "one has ended")
        sessions.play(_PORT, _PATH)


@pytest.mark.alone
def test_a_name_that_changes_or_is_lost_delays_no_session_and_new_ones_use_what_is_known_last(
    programs: Programs, namespace: Namespace, tmp_path: Path
) -> None:
    gateway = start_gateway(namespace, tmp_path, _CONFIGURATION)
    with ExitStack() as stack:
        sessions = stack.enter_context(LightSessions(namespace=namespace.name))
        sessions.publish(1935, _PATH)
        players = sessions.play_many(_SESSIONS, _PORT, _PATH)
        assert [each["sessions"] for each in namespace.upstreams()] == [_SESSIONS // 3] * 3
        assert namespace.upstream()["service"] == "_rtmp._tcp.example.org"
        relay = FaultyServer(programs, 1935, namespace.start)
        direct = sessions.play_many(_DIRECT, 1935, _PATH)
        relayed = sessions.play_many(_RELAYED, relay.port, _PATH)
        opens = stack.enter_context(closing(Opens(sessions, _PORT, _PATH)))
        bystanders = Bystanders(players, direct, relayed)

        bystanders.begin()
        namespace.answers(records("127.0.0.3"))
        until(lambda: namespace.upstream()["addresses"] == ["127.0.0.3"], "it is noticed")
        players += sessions.play_many(30, _PORT, _PATH)
        bystanders.check("an address changes")
        # Sessions of the old address stay there.
        assert namespace.connections_to("127.0.0.2") >= _SESSIONS // 3
        # One of three turns, some of which are those of ``opens``.
        assert namespace.connections_to("127.0.0.3") >= 5

        bystanders.begin()
        namespace.answers(records(_DEAD))
        changed_at = monotonic()
        gateway.says("is down by its health checks")
        assert monotonic() - changed_at < _NOTICED_S
        bystanders.check("an address changes to one that nothing listens on")

        bystanders.begin()
        namespace.answers(records("127.0.0.3"))
        changed_at = monotonic()
        gateway.says("is up again")
        assert monotonic() - changed_at < _NOTICED_S
        until(lambda: namespace.upstream()["state"] == "slow_start", "it starts slowly", 2.0)
        bystanders.check("the address is right again")
        before = namespace.upstream()["sessions"]
        players += sessions.play_many(6, _PORT, _PATH)
        # With a full share, it would get two of them.
        assert namespace.upstream()["sessions"] <= before + 1

        bystanders.begin()
        namespace.answers("refuses")
        until(lambda: namespace.upstream()["stale"], "the name does not resolve")
        gateway.says("no SRV records: the name servers fail: DNSServerError")
        players += sessions.play_many(30, _PORT, _PATH)
        bystanders.check("the name does not resolve")
        assert namespace.upstream()["failed_look_ups"] >= 1
        assert namespace.upstream()["state"] == "slow_start"
        opens.close()
        print(opens)
        assert opens.number > 50
        assert not opens.failures
        assert not any(player.has_ended for player in players)
