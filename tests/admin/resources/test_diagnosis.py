"""The diagnosis of delays: each cause alone."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from gateway.admin.resources.diagnosis import Cause, diagnose, time_in_words
from gateway.protocols.stream_policy import Delivery
from gateway.telemetry.measurement.latency import Estimate
from tests.helpers.admin_server import summary


@pytest.mark.parametrize(
    ("cause", "delay_s", "changes"),
    [
        # Nothing, and what must not be taken for something.
        (Cause.NONE, 0.01, {}),
        (Cause.NONE, 0.01, {"latencies": {"poll_gap": 0.9}}),
        (Cause.NONE, 0.075, {"round_trip_s": 0.15}),
        (Cause.NONE, 0.01, {"latencies": {"media_late": 0.2}}),
        (Cause.NONE, 0.01, {"upstream_connect_s": 2.0}),
        (
            Cause.NONE,
            0.01,
            {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.5}, "action": "publish"},
        ),
        # The network: long, or too narrow.
        (Cause.NETWORK, 0.3, {"round_trip_s": 0.6}),
        (Cause.NETWORK, 0.41, {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.01}}),
        (Cause.NETWORK, 0.41, {"latencies": {"downstream_wait": 0.4}, "protocol": "rtmp"}),
        (
            Cause.NETWORK,
            0.6,
            {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.4}, "round_trip_s": 0.4},
        ),
        (Cause.NETWORK, 0.21, {"latencies": {"upstream_delay": 0.2}, "reorders": 5, "sends": 100}),
        (Cause.NETWORK, 1.01, {"latencies": {"media_late": 1.0}, "action": "publish"}),
        # Full answers, asked for every 2.5 s over a perfect network.
        (
            Cause.POLLING,
            25.3,
            {"latencies": {"downstream_wait": 25.3, "poll_gap": 2.5}, "round_trip_s": 0.0001},
        ),
        # A gap that four round trips explain.
        (
            Cause.NETWORK,
            2.1,
            {"latencies": {"downstream_wait": 2.0, "poll_gap": 0.3}, "round_trip_s": 0.2},
        ),
        # Burst after a pause, steadily over and long over.
        (Cause.SERVER, 2.01, {"latencies": {"downstream_wait": 2.0}, "resumed_s": 20.0}),
        (Cause.NETWORK, 2.01, {"latencies": {"downstream_wait": 2.0}, "resumed_s": 90.0}),
        # Pauses, and what is none.
        (Cause.PAUSED, 0.01, {"quiet_down_s": 240.0}),
        (Cause.PAUSED, 0.01, {"quiet_up_s": 20.0, "action": "publish"}),
        (Cause.PAUSED, 0.41, {"quiet_down_s": 20.0, "latencies": {"downstream_wait": 0.4}}),
        (Cause.NONE, 0.01, {"quiet_down_s": 14.0}),
        (Cause.NONE, 0.01, {"quiet_up_s": 240.0}),
        (Cause.NONE, 0.01, {"quiet_down_s": 240.0, "action": "publish"}),
        (Cause.NONE, 0.01, {"quiet_down_s": 240.0, "reason": "client_closed"}),
        # Between the client and us.
        (Cause.POLLING, 0.41, {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.5}}),
        (
            Cause.PROXY,
            0.41,
            {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.5}, "proxies": ("1.1 c",)},
        ),
        (
            Cause.PROXY,
            0.21,
            {"latencies": {"upstream_delay": 0.2}, "reorders": 5, "proxies": ("1.1 c",)},
        ),
        (Cause.PROXY, 0.25, {"latencies": {"ping_client": 0.5}, "protocol": "rtmps"}),
        # Behind us.
        (Cause.SERVER, 0.21, {"latencies": {"upstream_delay": 0.2}}),
        (Cause.SERVER, 0.21, {"latencies": {"upstream_delay": 0.2}, "reorders": 1, "sends": 1000}),
        (Cause.SERVER, 0.26, {"latencies": {"ping_upstream": 0.5}}),
        (Cause.SERVER, 1.01, {"latencies": {"media_late": 1.0}}),
    ],
)
def test_a_delay_is_diagnosed_by_its_cause(
    cause: Cause, delay_s: float, changes: dict[str, Any]
) -> None:
    found = diagnose(summary(**changes))
    assert found.cause is cause
    assert found.delay_s == pytest.approx(delay_s, abs=0.001)
    assert sum(found.parts.values()) == pytest.approx(found.delay_s)


def test_a_busy_gateway_is_reported_before_any_other_cause() -> None:
    assert diagnose(summary(round_trip_s=2.0), busy_share=0.9).cause is Cause.GATEWAY
    assert diagnose(summary(), busy_share=0.5).cause is Cause.NONE


def test_a_session_without_measurements_is_not_diagnosed_as_undelayed() -> None:
    found = diagnose(summary(latencies={}, tcp=None))
    assert found.cause is Cause.UNKNOWN
    assert found.delay_s == 0


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("3 segments were retransmitted", {"retransmits": 3}),
        ("5 commands came out of order", {"reorders": 5}),
        ("took 2.0 s to accept the connection", {"upstream_connect_s": 2.0}),
        ("Media comes 1.0 s late", {"latencies": {"media_late": 1.0}}),
        (
            "(1.1 cache): 380 ms of 410 ms",
            {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.4}, "proxies": ("1.1 cache",)},
        ),
        (
            "asks too seldom for the stream's rate: every 2.5 s",
            {"latencies": {"downstream_wait": 25.3, "poll_gap": 2.5}, "round_trip_s": 0.0001},
        ),
        ("does not name itself", {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.4}}),
        ("media:1935 has sent no media for 4 min", {"quiet_down_s": 240.0}),
        ("the publisher has sent no media for 20.0 s", {"quiet_up_s": 20.0, "action": "publish"}),
        (
            "media:1935 accepts no data",
            {"quiet_up_s": 20.0, "action": "publish", "state": "keeping"},
        ),
        ("resumed 20.0 s ago after a pause of 35.0 s", {"resumed_s": 20.0, "pause_s": 35.0}),
        ("Its answers are streamed", {"streaming": "streamed"}),
        ("not streamed: the configuration", {"streaming": "off"}),
        ("it lets 400 ms pass", {"latencies": {"downstream_wait": 0.4, "poll_gap": 0.4}}),
    ],
)
def test_a_diagnosis_is_described_in_these_words(words: str, changes: dict[str, Any]) -> None:
    assert words in " ".join(diagnose(summary(**changes)).notes)


def test_a_clients_text_cannot_imitate_the_diagnosis() -> None:
    found = diagnose(
        summary(
            proxies=("{delay} {0.__class__}",), latencies={"downstream_wait": 1.0, "poll_gap": 1.0}
        )
    )
    assert "({delay} {0.__class__})" in found.notes[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 ms"), (0.0851, "85 ms"), (0.9996, "1.0 s"), (1.44, "1.4 s"), (239, "4 min")],
)
def test_times_are_formatted_as_text(seconds: float, words: str) -> None:
    assert time_in_words(seconds) == words


def test_a_sudden_delay_is_distinguished_from_a_steady_delay() -> None:
    sudden = evolve(summary(), latencies={"downstream_wait": Estimate(0.01, 0.01, 3.0, 3.0, 100)})
    steady = evolve(summary(), latencies={"downstream_wait": Estimate(3.0, 2.8, 3.0, 3.0, 100)})
    assert "sudden, not steady" in " ".join(diagnose(sudden).notes)
    assert "sudden" not in " ".join(diagnose(steady).notes)


def test_every_reason_not_to_stream_has_a_description() -> None:
    for delivery in Delivery:
        notes = diagnose(summary(streaming=delivery.value)).notes
        assert sum("answers are" in note for note in notes) == 1
