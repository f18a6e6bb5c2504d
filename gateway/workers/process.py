"""A worker process: ``python -m gateway.workers.process``, started by the supervisor only."""

from __future__ import annotations

import gc


def main() -> None:
    """Import the worker, and run it. The garbage collector is off until it is ready: what modules create
    stays, and to examine it again and again is a tenth of the time of the imports.
    """
    gc.disable()
    from gateway.workers.run import run

    run()


if __name__ == "__main__":
    main()
