"""The command ``rtmpt-client``: runs ``twistd rtmpt-client`` in the foreground, in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from gateway.client.arguments import NAME, parse


def main(words: Sequence[str] | None = None) -> None:
    """The entry point; ``words`` are the arguments, by default those of the process."""
    chosen = sys.argv[1:] if words is None else list(words)
    # Here, so that the help text has the command's own name.
    parse(chosen)
    from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

    options = ServerOptions()
    options.parseOptions(["--nodaemon", "--pidfile=", NAME, *chosen])
    runApp(options)
