"""The client's local side on a reactor that runs only inside a test's calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from twisted.internet.epollreactor import EPollReactor

from tests.client.stage import Stage, end_connections
from tests.upstreams.network import Network


@pytest.fixture(scope="module")
def reactor() -> EPollReactor:
    """Not the process's reactor: it is not installed, and it runs only in ``iterate``."""
    return EPollReactor()


@pytest.fixture
def stage(reactor: EPollReactor) -> Iterator[Stage]:
    with ExitStack() as stack:
        stage = Stage(Network(reactor, stack))
        yield stage
        stage.close()


@pytest.fixture
def network(reactor: EPollReactor) -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(reactor, stack)
        end_connections(reactor)
