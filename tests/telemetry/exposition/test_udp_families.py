"""The metrics of UDP listeners."""

from __future__ import annotations

from gateway.protocols.reasons import EndReason
from gateway.protocols.udp_flows import Drop, Flow, FlowLimits, FlowTable
from gateway.telemetry.exposition.labels import Expected
from gateway.telemetry.exposition.udp_families import udp_families
from gateway.udp.listener import UdpListener


class Listener:
    """The figures of ``UdpListener``, without its sockets."""

    def __init__(self) -> None:
        self.table = FlowTable(FlowLimits(9, 9, 1500, 60.0, 10.0), lambda host: True)
        self.refusals = {"client": 0, "server": 2}

    unproven = UdpListener.unproven
    relayed = UdpListener.relayed
    drops = UdpListener.drops


def test_each_listener_has_its_series_from_the_start() -> None:
    listener = Listener()
    table = listener.table
    flow = table.open(("192.0.2.1", 1), 5, 0.0)
    assert isinstance(flow, Flow)
    table.receive(flow, b"hello", 0.0)
    table.reply(flow, 16)
    found = {
        (
            sample.name.removeprefix("rtmpt_gateway_udp_"),
            *sorted(sample.labels.values()),
        ): sample.value
        for family in udp_families({"a:1935": listener})  # type: ignore[dict-item]
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
        EndReason.RESOURCES_EXHAUSTED.value,
    } - {EndReason.RESOURCES_EXHAUSTED.value}
    assert not list(Expected().ends())
