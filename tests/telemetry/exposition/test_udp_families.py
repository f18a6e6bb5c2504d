"""The metrics of UDP listeners."""

from __future__ import annotations

from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import Drop
from gateway.telemetry.exposition.labels import Expected
from gateway.telemetry.exposition.udp_families import udp_families
from tests.helpers.fabricated_telemetry import DatagramListener


def test_each_listener_has_its_series_from_the_start() -> None:
    found = {
        (
            sample.name.removeprefix("rtmpt_gateway_udp_"),
            *sorted(sample.labels.values()),
        ): sample.value
        for family in udp_families({"a:1935": DatagramListener()})
        for sample in family.samples
    }
    assert found == {
        ("unproven_sessions", "a:1935"): 1,
        ("datagrams_total", "a:1935", "up"): 1,
        ("datagrams_total", "a:1935", "down"): 0,
        ("bytes_total", "a:1935", "up"): 5,
        ("bytes_total", "a:1935", "down"): 0,
        ("refused_datagrams_total", "a:1935", "client"): 0,
        ("refused_datagrams_total", "a:1935", "server"): 2,
        **{
            ("dropped_datagrams_total", "a:1935", reason.value): int(reason is Drop.UNPROVEN)
            for reason in Drop
        },
    }
    assert not list(udp_families({}))


def test_the_series_of_sessions_exist_from_the_start() -> None:
    expected = Expected(udp=(("a:1935", "udp://b:1935"),))
    assert list(expected.sums(["media:1935"])) == [("udp", "a:1935", "udp://b:1935")]
    assert list(expected.states()) == [("udp", "ordinary")]
    assert {reason for _, reason in expected.ends()} >= {
        EndReason.CLIENT_SILENT.value,
        EndReason.UPSTREAM_UNAVAILABLE.value,
    }
    assert not list(Expected().ends())
