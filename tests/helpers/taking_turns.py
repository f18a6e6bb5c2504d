"""Lets tests that measure times run alone, while all others run at the same time in several processes.

Two file locks that all processes share: every test holds ``running``, shared or, if it runs alone,
exclusively. ``entrance`` is held while waiting for it, so that no other test begins in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_SH, flock
from pathlib import Path


@contextmanager
def running(folder: Path, is_alone: bool) -> Iterator[None]:
    """The time of one test. ``folder`` is the same for all processes."""
    with (folder / "entrance").open("w") as entrance, (folder / "running").open("w") as file:
        flock(entrance, LOCK_EX)
        flock(file, LOCK_EX if is_alone else LOCK_SH)
        if not is_alone:
            entrance.close()
        yield
