"""The sockets of a worker."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.workers.place import Place

COUNTS: Any = None
HERE = Place("aa", 1, "/run", (), COUNTS, 2, configuration="configured")


def test_other_workers_find_a_worker_by_the_prefix_of_its_sessions() -> None:
    other = Place("aa", 2, "/run", (), COUNTS, 2, configuration="configured")
    assert HERE.path_of(b"aa02") == other.socket_path == "/run/aa02"
    assert HERE.offers_path_of(b"aa02") == other.offers_path == "/run/aa02-configured"


def test_workers_with_another_configuration_are_offered_no_connections() -> None:
    old = Place("aa", 2, "/run", (), COUNTS, 2, configuration="before")
    assert HERE.path_of(b"aa02") == old.socket_path
    assert HERE.offers_path_of(b"aa02") != old.offers_path


@pytest.mark.parametrize("prefix", [b"aa01", b"", b"aa", b"AA02", b"../x", b"aa02-", b"aa0\xff"])
def test_no_other_worker_has_the_own_prefix_or_a_malformed_one(prefix: bytes) -> None:
    assert HERE.path_of(prefix) is None
    assert HERE.offers_path_of(prefix) is None
