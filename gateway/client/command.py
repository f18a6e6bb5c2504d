"""The command ``rtmpt-client``: runs ``twistd rtmpt-client`` in the foreground, in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Final

_INTERRUPTED: Final = 130


def main(words: Sequence[str] | None = None) -> None:
    """The entry point; ``words`` are the arguments, by default those of the process."""
    try:
        _main(sys.argv[1:] if words is None else list(words))
    except KeyboardInterrupt:
        # Before twistd handles the signal. Another one would be a traceback of the interpreter's own end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(_INTERRUPTED) from None


def _main(words: Sequence[str]) -> None:
    # Not before ``main``: the imports take most of the time until the signal is handled.
    from gateway.client.arguments import NAME, parse

    # Here, so that the help text has the command's own name.
    parse(words)
    from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

    options = ServerOptions()
    options.parseOptions(["--nodaemon", "--pidfile=", NAME, *words])
    runApp(options)
