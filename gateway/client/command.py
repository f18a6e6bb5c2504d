"""The command ``rtmpt-client``: runs ``twistd rtmpt-client`` in the foreground, in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gateway.interrupts import interrupts_exit


def main(words: Sequence[str] | None = None) -> None:
    """The entry point; ``words`` are the arguments, by default those of the process."""
    # Until twistd handles the signal.
    with interrupts_exit():
        _main(sys.argv[1:] if words is None else list(words))


def _main(words: Sequence[str]) -> None:
    from gateway.client.arguments import NAME, parse

    # Here, so that the help text has the command's own name.
    parse(words)
    from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

    options = ServerOptions()
    options.parseOptions(["--nodaemon", "--pidfile=", NAME, *words])
    runApp(options)
