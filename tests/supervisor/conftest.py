"""A supervisor with a worker for each of two processor cores, without processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.supervisor import supervisor
from tests.helpers.supervised import WITH_UDP, Started


@pytest.fixture
def without_listening_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would need a reactor."""
    monkeypatch.setattr(supervisor.ListeningSockets, "open", lambda self, configuration: [])
    monkeypatch.setattr(supervisor.ListeningSockets, "of", lambda self, configuration: [])
    monkeypatch.setattr(
        supervisor.ListeningSockets, "close_others", lambda self, configurations: None
    )


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, without_listening_sockets: None) -> Started:
    return Started(monkeypatch)


@pytest.fixture
def with_udp(monkeypatch: pytest.MonkeyPatch, without_listening_sockets: None) -> Iterator[Started]:
    started = Started(monkeypatch, WITH_UDP)
    yield started
    started.stop()
