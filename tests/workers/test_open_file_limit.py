"""The limit on open files is raised as far as allowed; a limit that is too low is logged."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import resource, sys
from twisted.logger import globalLogBeginner, textFileLogObserver
from gateway.descriptors import descriptors
from gateway.protocols.limits import Limits
from gateway.workers.open_file_limit import raise_limit
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
raise_limit(Limits(connections=500, sessions=200))
print("may open", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print("kept", descriptors._clients_below, descriptors._others_below)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "then", "warns", "kept"),
    [
        (64, 2000, 1000, False, "900 900"),
        (1500, 2000, 1500, False, "1400 1400"),
        (64, 900, 900, True, "800 688"),
    ],
)
def test_the_limit_is_raised_as_needed_and_permitted(
    soft: int, hard: int, then: int, warns: bool, kept: str
) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < hard:
        pytest.skip(f"only {most} open files are allowed here")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(soft=soft, hard=hard)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"may open {then}\n" in done.stdout
    assert f"kept {kept}\n" in done.stdout
    assert ("may need 1000" in done.stdout) is warns
