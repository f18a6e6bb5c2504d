"""Reserved file descriptors, and the causes of exhaustion."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.descriptors import CAUSES, Descriptors


@pytest.fixture
def lowest_free() -> Iterator[int]:
    """The number of the next descriptor that is opened. All higher ones are free, too."""
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    filled = [os.open(os.devnull, os.O_RDONLY)]
    while filled[-1] < highest:
        filled.append(os.open(os.devnull, os.O_RDONLY))
    yield filled[-1] + 1
    for each in filled:
        os.close(each)


def test_all_connections_are_permitted_if_the_process_has_no_descriptor_limit() -> None:
    assert Descriptors().allow_client()
    assert Descriptors().allow_server()


@pytest.mark.parametrize(
    ("above", "needed", "client", "server"),
    [
        # Of 800: 100 for the admin server and files, and 100 for clients if [limits] can need more.
        (201, 10_000, True, True),
        (199, 10_000, True, False),
        (99, 10_000, False, False),
        (101, 1, True, True),
        (99, 1, False, False),
    ],
)
def test_descriptors_are_reserved_for_clients_and_the_last_ones_for_the_admin_server(
    monkeypatch: pytest.MonkeyPatch, above: int, needed: int, client: bool, server: bool
) -> None:
    monkeypatch.setattr("gateway.descriptors._lowest_free", lambda: 800 - above)
    descriptors = Descriptors()
    descriptors.set_limit(800, needed)
    assert descriptors.allow_client() is client
    assert descriptors.allow_server() is server


def test_open_descriptors_are_counted(lowest_free: int) -> None:
    descriptors = Descriptors()
    limit = (lowest_free + 20) * 8 // 7
    descriptors.set_limit(limit, 1)
    opened = []
    while descriptors.allow_client():
        opened.append(os.open(os.devnull, os.O_RDONLY))
        assert len(opened) < 100
    assert 15 < len(opened) < 25
    os.close(opened.pop(3))
    os.close(opened.pop())
    assert descriptors.allow_client()
    for each in opened:
        os.close(each)


def test_each_cause_of_exhaustion_has_a_remedy() -> None:
    assert all(
        any(f"; {verb} " in cause for verb in ("raise", "widen", "see"))
        for cause in CAUSES.values()
    )
