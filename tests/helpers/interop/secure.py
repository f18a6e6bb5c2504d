"""A gateway with two plain ports and one with TLS, with certificates of a test CA."""

from __future__ import annotations

import os
import re
import signal
import ssl
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from attrs import frozen

from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import LOOPBACK, ROOT

_LISTENER = '[[listener]]\naddress = "{loopback}:0"\n'
_DAY = timedelta(days=1)
# In the order in which they are in the configuration.
PLAIN, SECURE, OTHER_PLAIN = range(3)


@frozen
class Authority:
    """A CA whose root is appended to each certificate, since this machine does not trust it."""

    ca: trustme.CA
    folder: Path

    @property
    def root_path(self) -> str:
        path = self.folder / "root.pem"
        path.write_bytes(self.ca.cert_pem.bytes())
        return str(path)

    def certify(self, file: str, *names: str) -> Path:
        """Write or replace a PEM file for ``names``."""
        path = self.folder / file
        path.write_bytes(self.alone(*names) + self.ca.cert_pem.bytes())
        return path

    def alone(self, *names: str) -> bytes:
        """A key and its certificate, for 60 days from yesterday, without the root."""
        now = datetime.now(UTC)
        site = self.ca.issue_cert(*names, not_before=now - _DAY, not_after=now + 60 * _DAY)
        return site.private_key_and_cert_chain_pem.bytes()

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


def make_authority(folder: Path) -> Authority:
    return Authority(trustme.CA(), folder)


@frozen
class Gateway:
    """A running gateway; ``ports`` as they are named above."""

    program: Program
    ports: Sequence[int]

    def port(self, protocol: str) -> int:
        """The port for clients of this protocol."""
        return self.ports[SECURE if protocol in ("rtmps", "rtmpts") else PLAIN]

    def hang_up(self, says: str) -> str:
        """Reload the certificates. Returns the rest of the log line that reports the reload."""
        self.program.send(signal.SIGHUP)
        return self.program.says(says)


def start(programs: Programs, certificates: Sequence[Path], server: str, more: str = "") -> Gateway:
    """Start a gateway in front of ``server``, or of its embedded origin; ``more`` is configuration."""
    paths = ", ".join(f'"{path}"' for path in certificates)
    plain = _LISTENER.format(loopback=LOOPBACK)
    text = f"workers = 1\n{plain}{plain}tls = true\n{plain}[tls]\ncertificates = [{paths}]\n{more}"
    upstream = f'[[upstream]]\nservers = ["{server}"]\n' if server else ""
    return start_configured(programs, text + upstream, 3)


def start_configured(
    programs: Programs, configuration: str, listeners: int, before: str = ""
) -> Gateway:
    """Start a gateway with this configuration; its processes first run the Python code ``before``."""
    folder = programs.new_folder("configuration")
    file = folder / "gateway.toml"
    file.write_text(configuration)
    (folder / "sitecustomize.py").write_text(before)
    program = programs.start(
        sys.executable,
        *("-c", "from twisted.scripts.twistd import run; run()"),
        *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(file)),
        environment={"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
    )
    program.says("ready: ")
    ports = until(
        lambda: _ports(program, listeners) or not program.running, "the gateway listens", 30
    )
    assert isinstance(ports, list), program.log
    return Gateway(program, ports)


def _ports(program: Program, count: int) -> list[int]:
    ports = re.findall(rf"listening on {LOOPBACK}:(\d+)", program.log)
    return [int(port) for port in ports] if len(ports) == count else []
