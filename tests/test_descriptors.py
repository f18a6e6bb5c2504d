"""For whom the last file descriptors are kept."""

from __future__ import annotations

import os

import pytest

from gateway.descriptors import CAUSES, Descriptors


@pytest.fixture
def lowest_free() -> int:
    """The number that a descriptor opened now would have."""
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def test_without_a_limit_all_may_open_connections() -> None:
    assert Descriptors().allow_client()
    assert Descriptors().allow_server()


@pytest.mark.parametrize(
    ("above", "needed", "client", "server"),
    [
        # Of 800: 100 for the admin server and files, and if sessions may need more, 100 for clients.
        (201, 10_000, True, True),
        (199, 10_000, True, False),
        (99, 10_000, False, False),
        (101, 1, True, True),
        (99, 1, False, False),
    ],
)
def test_the_last_descriptors_are_kept_for_clients_and_of_those_the_last_for_neither(
    monkeypatch: pytest.MonkeyPatch, above: int, needed: int, client: bool, server: bool
) -> None:
    monkeypatch.setattr("gateway.descriptors._lowest_free", lambda: 800 - above)
    descriptors = Descriptors()
    descriptors.set_limit(800, needed)
    assert descriptors.allow_client() is client
    assert descriptors.allow_server() is server


def test_the_descriptors_that_are_open_count(lowest_free: int) -> None:
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


def test_each_cause_says_what_to_change() -> None:
    assert all(
        any(f"; {verb} " in cause for verb in ("raise", "widen", "see"))
        for cause in CAUSES.values()
    )
