"""Settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from gateway.logs import debugging

# A busy machine is no fault of the code. In continuous integration the examples are the same each time,
# so that a change is judged by what it changed.
settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _no_debugging() -> Iterator[None]:
    """Debug lines are enabled for the whole process; disable them after each test."""
    yield
    debugging.enabled = False
