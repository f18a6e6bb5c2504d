"""Which of the servers in SRV records are used, and in what order."""

from __future__ import annotations

from itertools import permutations

import pytest

from gateway.addresses import is_host
from gateway.protocols.service_records import MOST_TARGETS, Target, usable


def test_the_order_is_that_of_priorities_and_names_whatever_that_of_the_records() -> None:
    records = [Target(20, "c", 1935, 1), Target(10, "b", 1935, 1), Target(10, "a", 1936, 9)]
    for order in permutations(records):
        assert usable(order, is_host) == (
            Target(0, "a", 1936, 9),
            Target(0, "b", 1935, 1),
            Target(1, "c", 1935, 1),
        )


def test_a_weight_of_zero_is_the_smallest_share() -> None:
    found = usable([Target(0, "a", 1935, 0), Target(0, "b", 1935, 65535)], is_host)
    assert [target.weight for target in found] == [1, 65535]


def test_a_server_with_two_records_is_used_once_with_the_better_priority() -> None:
    records = [Target(5, "A.example.", 1935, 7), Target(1, "a.example", 1935, 3)]
    assert usable(records, is_host) == (Target(0, "a.example", 1935, 3),)


@pytest.mark.parametrize(
    "record",
    [
        Target(0, ".", 1935, 0),
        Target(0, "", 1935, 0),
        Target(0, "a", 0, 0),
        Target(0, "a b", 1935, 0),
        Target(0, "a/b", 1935, 0),
        Target(0, "a\n", 1935, 0),
        Target(0, "\ufffd", 1935, 0),
        Target(0, 64 * "a" + "." + 250 * "b", 1935, 0),
    ],
)
def test_a_record_without_a_usable_server_is_left_out(record: Target) -> None:
    assert usable([record, Target(9, "b", 1935, 1)], is_host) == (Target(0, "b", 1935, 1),)


def test_the_number_of_servers_is_limited_and_those_with_the_best_priority_are_kept() -> None:
    records = [Target(number, f"s{number}", 1935, 1) for number in range(5000, 0, -1)]
    found = usable(records, is_host)
    assert [target.host for target in found] == [f"s{1 + n}" for n in range(MOST_TARGETS)]
