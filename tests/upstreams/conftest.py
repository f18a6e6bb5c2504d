"""Fixtures for connections to servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from twisted.internet.epollreactor import EPollReactor

from tests.helpers.logged import logged
from tests.upstreams.network import Network


@pytest.fixture(scope="module")
def reactor() -> EPollReactor:
    """Not the process's reactor: it is not installed, and it runs only in ``iterate``."""
    return EPollReactor()


@pytest.fixture
def network(reactor: EPollReactor) -> Iterator[Network]:
    with ExitStack() as stack:
        lines = stack.enter_context(logged())
        network = Network(reactor, stack)
        yield network
        for selectable in [*reactor.getReaders(), *reactor.getWriters()]:
            if hasattr(selectable, "abortConnection"):
                selectable.abortConnection()
            elif hasattr(selectable, "stopListening"):
                selectable.stopListening()
        for _ in range(3):
            reactor.iterate(0)
    # The reactor logs an exception from the end of a connection; its socket then stays open.
    assert not [line for line in lines if line.startswith("critical: ")]
