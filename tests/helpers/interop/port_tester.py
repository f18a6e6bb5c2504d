"""The port tester at the near side of a firewall, and a gateway at the far side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
from attrs import frozen

from tests.helpers.interop.firewalled import NAME, SERVER, Firewalled
from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.secure import Authority
from tests.helpers.interop.servers import ROOT

WITHIN_S = 3.0
SCHEMA = json.loads((ROOT / "etc/rtmpt-port-test.schema.json").read_text())
COMMAND = (sys.executable, "-c", "from gateway.port_test.command import main; main()")
_LISTENERS = (("1935", False), ("80", False), ("443", True))


@frozen
class Result:
    """The document of a test, and the exit status."""

    document: dict[str, Any]
    status: int

    def way(self, way: str, over: str = "IPv4") -> dict[str, Any]:
        (found,) = (
            each for each in self.document["ways"] if (each["way"], each["over"]) == (way, over)
        )
        assert isinstance(found, dict)
        return found

    def working(self, over: str = "IPv4") -> set[str]:
        ways = self.document["ways"]
        return {each["way"] for each in ways if each["works"] and each["over"] == over}


@frozen
class Site:
    """A gateway at the far side of the network, and the authority of its certificate."""

    network: Firewalled
    programs: Programs
    authority: Authority
    folder: Path

    def test(
        self,
        *words: str,
        ca: str = "",
        environment: dict[str, str] | None = None,
        within_s: float = WITHIN_S,
    ) -> Result:
        """Run the tester at the near side."""
        done = subprocess.run(
            [
                *self.network.near,
                *COMMAND,
                "--json",
                "--ca",
                ca or self.authority.root_path,
                *words,
            ],
            env=without_proxies(environment),
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.stderr == ""
        document = json.loads(done.stdout)
        jsonschema.validate(document, SCHEMA)
        assert document["took_s"] < within_s
        return Result(document, done.returncode)

    def start_gateway(
        self, more: str = "", ports: Sequence[tuple[str, bool]] = _LISTENERS
    ) -> Program:
        """Start a gateway on these ports, by default the usual ones, each with or without TLS."""
        listeners = "".join(
            f'[[listener]]\naddress = "{host}:{port}"\n' + ("tls = true\n" if tls else "")
            for port, tls in ports
            for host in ("0.0.0.0", "[::]")
        )
        path = self.programs.new_folder("gateway") / "gateway.toml"
        tls = ""
        if any(secure for _, secure in ports):
            certificate = self.authority.certify("site.pem", NAME)
            tls = f'[tls]\ncertificates = ["{certificate}"]\n'
        path.write_text(f"workers = 1\n{listeners}{tls}{more}")
        program = self.programs.start(
            *(*self.network.far, sys.executable),
            *("-c", "from twisted.scripts.twistd import run; run()"),
            *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(path)),
            environment={"PYTHONPATH": str(ROOT)},
        )
        program.says("ready: ")
        return program

    def answers(self, *ports: int) -> bool:
        """Whether servers accept connections on all of these ports at the far side."""
        connect = f"import socket; [socket.create_connection(('{SERVER}', p), 1) for p in {ports}]"
        words = [*self.network.far, sys.executable, "-c", connect]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


def without_proxies(more: dict[str, str] | None) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**own, "PYTHONPATH": str(ROOT), **(more or {})}
