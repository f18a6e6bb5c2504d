"""The admin server of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.admin_server import AdminServer


@pytest.fixture
def server() -> Iterator[AdminServer]:
    server = AdminServer()
    yield server
    server.site.stopFactory()
    assert not server.site.connections
    assert server.watching.watchers == 0
