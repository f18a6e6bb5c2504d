"""Merging of the results of several workers."""

from __future__ import annotations

from collections import Counter

from gateway.admin.resources.gateway_interface import Selection, merged
from gateway.admin.resources.queries import SessionQuery
from gateway.admin.resources.totals import totals
from gateway.telemetry.exposition.merging import merged as merged_families
from tests.helpers.admin_server import summary
from tests.helpers.fabricated_telemetry import Node


def test_the_session_lists_of_all_workers_are_merged_into_one_list() -> None:
    query = SessionQuery(sort="bytes_up", descending=True, limit=2)
    one = Selection(
        [summary(alias="a", bytes_up=3), summary(alias="b", bytes_up=1)], 5, Counter(none=5)
    )
    other = Selection([summary(alias="c", bytes_up=2)], 1, Counter(network=1))
    found = merged([one, other], query)
    assert [each.alias for each in found.sessions] == ["a", "c"]
    assert found.matching == 6
    assert found.causes == {"none": 5, "network": 1}
    assert merged([], query) == Selection()


def test_the_totals_are_sums_over_all_workers() -> None:
    nodes = [Node(), Node()]
    for node in nodes:
        node.talk([node.open()], 4)
        node.loop.busy_share = 0.25
    collections = [[family for family in node.metrics.families() if family] for node in nodes]
    found = totals(merged_families(collections))
    assert found["sessions"] == found["opened"] == 2
    assert found["bytes"]["up"] == 8
    # Of the busiest, not the sum.
    assert found["busy_share"] == 0.25
    assert found["by_protocol"] == {"rtmpt": 2}


def test_the_totals_without_workers_are_zero() -> None:
    assert totals([])["sessions"] == 0
