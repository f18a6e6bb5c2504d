"""The start of a worker process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from gateway.workers.run import start

ROOT = Path(__file__).resolve().parents[2]
# What few workers use, and takes long to import.
_HEAVY = ("twisted.web.client", "twisted.internet.endpoints", "twisted.application.internet")


def run_python(code: str) -> str:
    """The output of this code in a new process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)


def test_a_worker_imports_no_http_client_and_no_endpoints_unless_they_are_configured() -> None:
    code = "import sys, gateway.workers.run; print(*sys.modules, sep='\\n')"
    assert not set(_HEAVY) & set(run_python(code).split())


def test_no_garbage_is_collected_while_a_worker_is_imported() -> None:
    code = (
        "import gc, gateway.workers.process as process\n"
        "try: process.main()\n"
        "except OSError: print(gc.isenabled(), len(gc.get_objects(0)) > 50_000)"
    )
    # Descriptor 3 is not open: there is no supervisor.
    assert run_python(code).split() == ["False", "True"]


def test_a_worker_that_is_ready_collects_garbage() -> None:
    async def started() -> None:
        pass

    told: list[str] = []
    worker: Any = SimpleNamespace(bind=lambda: None, start=started)
    channel = SimpleNamespace(tell=lambda event, _: told.append(event))
    control: Any = SimpleNamespace(channel=channel, report=lambda: None)
    gc.disable()
    try:
        Deferred.fromCoroutine(start(worker, control, Clock(), lambda: None))
        assert gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
    assert told == ["ready"]
