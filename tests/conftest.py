"""Settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from gateway.logs import debugging
from tests.helpers.taking_turns import running

# A busy machine is no fault of the code. In continuous integration the examples are the same each time,
# so that a change is judged by what it changed.
settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _no_debugging() -> Iterator[None]:
    """Debug lines are enabled for the whole process; disable them after each test."""
    yield
    debugging.enabled = False


@pytest.fixture(autouse=True)
def _takes_turns(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A test marked ``alone`` measures times: no other test runs at the same time (pytest-xdist)."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    # The parent of each process's own folder.
    folder = tmp_path_factory.getbasetemp().parent
    with running(folder, request.node.get_closest_marker("alone") is not None):
        yield
