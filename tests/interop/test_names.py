"""Names of media servers that change or stop resolving, in a namespace with a name server of the test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, final
from uuid import uuid4

import pytest

from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.servers import ROOT

_CONFIGURATION = """workers = 1
[[listener]]
address = "127.0.0.1:8080"
[[upstream]]
servers = ["_rtmp._tcp.example.org"]
check = "off"
[admin]
address = "unix:{admin}"
"""
# Both print the addresses of their connections. The server answers handshakes.
_SERVER = """
import asyncio, sys
async def serve(reader, writer):
    await reader.readexactly(1537)
    print("session at", writer.get_extra_info("sockname")[0], flush=True)
    writer.write(b"\\x03" + bytes(3072))
    await reader.read()
async def main():
    for host in sys.argv[1:]:
        await asyncio.start_server(serve, host, 1935)
    print("listening", flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""
_SESSION = """
import socket
with socket.create_connection(("127.0.0.1", 8080)) as client:
    client.sendall(b"\\x03" + bytes(1536))
    while client.recv(65536):
        print("answered", flush=True)
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

    def python(self, *words: str) -> Program:
        return self._programs.start(
            *("ip", "netns", "exec", self.name, sys.executable, *words),
            environment={"PYTHONPATH": str(ROOT)},
        )

    def answers(self, records: dict[str, list[tuple[str, int]]] | str) -> None:
        """What the name server answers from now on: records, or a fault."""
        new = self._records.with_suffix(".new")
        new.write_text(json.dumps(records))
        new.rename(self._records)

    def serve_names(self) -> None:
        words = ("-m", "tests.helpers.name_server", "127.0.0.1", "53", str(self._records))
        self.python(*words).says("listening")

    def session(self) -> Program:
        session = self.python("-c", _SESSION)
        session.says("answered")
        return session

    def upstream(self) -> dict[str, Any]:
        words = ["curl", "-s", "--unix-socket", str(self.admin), "http://localhost/upstreams"]
        (found,) = json.loads(subprocess.check_output(words))["upstreams"]
        upstream: dict[str, Any] = found
        return upstream


def records(address: str) -> dict[str, list[tuple[str, int]]]:
    return {
        "_rtmp._tcp.example.org SRV": [("0 1 1935 media.example.org", 1)],
        "media.example.org A": [(address, 1)],
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
def test_an_address_that_changes_gets_new_sessions_and_stays_in_use_when_the_name_is_lost(
    programs: Programs, tmp_path: Path
) -> None:
    for program in ("ip", "curl"):
        needs(program)
    file = tmp_path / "gateway.toml"
    with Namespace(programs, tmp_path) as namespace:
        file.write_text(_CONFIGURATION.format(admin=namespace.admin))
        namespace.answers(records("127.0.0.2"))
        namespace.serve_names()
        server = namespace.python("-c", _SERVER, "127.0.0.2", "127.0.0.3")
        server.says("listening")
        twistd = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
        gateway = namespace.python(*twistd, "rtmpt-gateway", "--config", str(file))
        gateway.says("ready: ")
        first = namespace.session()
        server.says("session at 127.0.0.2")
        assert namespace.upstream()["service"] == "_rtmp._tcp.example.org"

        namespace.answers(records("127.0.0.3"))
        until(lambda: namespace.upstream()["addresses"] == ["127.0.0.3"], "the new address is used")
        second = namespace.session()
        server.says("session at 127.0.0.3")

        namespace.answers("refuses")
        until(lambda: namespace.upstream()["stale"], "the name does not resolve")
        gateway.says("no SRV records: the name servers fail: DNSServerError")
        third = namespace.session()
        until(lambda: server.log.count("127.0.0.3") == 2, "the last address stays in use")
        assert namespace.upstream()["failed_look_ups"] >= 1
        assert all(session.running for session in (first, second, third))
