"""Fixtures of connections on loopback, by Twisted's own dispatch and by the gateway's.

A test module requests them by ``pytest_plugins``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from twisted.python.failure import Failure

from tests.helpers.tcp_pairs import Pair, accepting, dialling, logged_failures, turning_by
from tests.helpers.turning import Turning


@pytest.fixture(params=[False, True], ids=["twisted's dispatch", "direct dispatch"])
def turning(request: pytest.FixtureRequest) -> Iterator[Turning]:
    with turning_by(direct_dispatch=request.param) as turning:
        yield turning


@pytest.fixture
def errors() -> Iterator[list[Failure]]:
    with logged_failures() as failures:
        yield failures


@pytest.fixture
def accept(turning: Turning) -> Iterator[Callable[..., Pair]]:
    with accepting(turning) as make:
        yield make


@pytest.fixture
def dial(turning: Turning) -> Iterator[Callable[..., Pair]]:
    with dialling(turning) as make:
        yield make
