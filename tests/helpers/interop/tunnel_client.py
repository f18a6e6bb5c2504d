"""The tunnel client, as local programs see it, and its metrics."""

from __future__ import annotations

import re
import sys
from urllib.request import urlopen

from attrs import frozen

from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import LOOPBACK, ROOT, port_said

_ANSWER_S = 30.0


@frozen
class TunnelClient:
    """A running client. ``port`` is for local programs."""

    program: Program
    port: int
    metrics_port: int

    def page(self) -> str:
        """The metrics."""
        with urlopen(f"http://{LOOPBACK}:{self.metrics_port}/metrics", timeout=_ANSWER_S) as page:
            text: str = page.read().decode()
        return text

    def metric(self, sample: str) -> float:
        """The value of a sample, written with its labels."""
        text = self.page()
        found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])


def start_client(
    programs: Programs, *options: str, state: str = "none", inside: tuple[str, ...] = ()
) -> TunnelClient:
    """Start the client, and wait until it listens on ports that the system chose.

    ``inside``: the words before a command that runs in a network namespace.
    """
    program = programs.start(
        *inside,
        sys.executable,
        *("-c", "from gateway.client.command import main; main()"),
        *("--listen", f"{LOOPBACK}:0", "--metrics", f"{LOOPBACK}:0", "--state", state, *options),
        environment={"PYTHONPATH": str(ROOT)},
    )
    program.says("ready: ")
    port = port_said(program, f"listening on {LOOPBACK}:")
    return TunnelClient(program, port, port_said(program, f"metrics on http://{LOOPBACK}:"))
