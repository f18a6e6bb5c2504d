"""Prometheus as deployed, with the gateway and real clients."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.interop.clients import FFmpegPlayer, publish, url
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.prometheus import Prometheus, start_prometheus
from tests.helpers.interop.tap import Tap
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

# An idle is held for up to this long, and what comes meanwhile goes out at once: nothing should ever wait
# for as long as a hold on the loopback interface.
_HOLD_S = 0.25
_PLAYED_S = 20.0
_SEEN_S = 15.0


@pytest.fixture(scope="module")
def gateway(lasting_programs: Programs) -> WatchedGateway:
    return start_watched_gateway(lasting_programs, f"[tunnel]\nlatency = {_HOLD_S}\n")


@pytest.fixture(scope="module")
def prometheus(lasting_programs: Programs, gateway: WatchedGateway) -> Prometheus:
    prometheus = start_prometheus(lasting_programs, gateway.admin_port)
    prometheus.scrapes()
    return prometheus


def p95_of(action: str, stream: str) -> str:
    """The expression for the downstream wait of a session, selected by its stream and action."""
    return (
        'rtmpt_gateway_session_latency_seconds{latency="downstream_wait", statistic="p95"}'
        " * on (job, instance, session) group_left (stream)"
        f' rtmpt_gateway_session_info{{protocol="rtmpt", action="{action}", stream="{stream}"}}'
    )


def test_every_recording_rule_has_a_result_before_the_first_client(prometheus: Prometheus) -> None:
    """The first session, refusal or fault is then an increase of an existing series."""
    recorded = [rule["name"] for rule in prometheus.rules() if rule["type"] == "recording"]
    for name in recorded:
        until(lambda asked=name: prometheus.query(asked), name, _SEEN_S)


def test_the_downstream_wait_of_a_player_has_a_series_only_during_its_session(
    programs: Programs, gateway: WatchedGateway, prometheus: Prometheus, stream: str, clip: Path
) -> None:
    name = stream.rpartition("/")[2]
    with closing(Tap(gateway.port)) as tap:
        source = url("rtmpt", tap.port, stream)
        player = FFmpegPlayer(programs, source)
        tap.players(1)
        publisher = publish(programs, clip, source)
        (seen,) = until(
            lambda: prometheus.query(p95_of("play", name)), "PromQL knows the player", _SEEN_S
        )
        assert publisher.ends(_PLAYED_S) == 0
        assert player.program.ends(_PLAYED_S) == 0

    assert 0 <= seen.value < _HOLD_S
    until(lambda: not prometheus.query(p95_of("play", name)), "the player is gone", _SEEN_S)
    # Its last figures, and those of all, are kept by Prometheus.
    alias = seen.labels["session"]
    minute = f'{{session="{alias}", latency="downstream_wait", statistic="p95"}}[1m]'
    last = prometheus.value(f"last_over_time(rtmpt_gateway_session_latency_seconds{minute})")
    assert 0 <= last < _HOLD_S
    filled = "max_over_time(rtmpt_gateway_session_answers_total"
    answers = prometheus.value(f'{filled}{{session="{alias}", content="filled"}}[1m])')
    assert answers > 20
    counted = 'rtmpt_gateway_downstream_wait_seconds_count{protocol="rtmpt"}'
    until(
        lambda: prometheus.value(counted) >= answers,
        "the wait of each answer is in the histogram",
        _SEEN_S,
    )
    until(
        lambda: (
            0
            <= prometheus.value(
                'instance_protocol:rtmpt_gateway_downstream_wait_seconds:p95_5m{protocol="rtmpt"}'
            )
            < _HOLD_S
        ),
        "the recording rules say the same of all sessions",
        _SEEN_S,
    )


def test_no_alert_fires_for_a_healthy_gateway(prometheus: Prometheus) -> None:
    until(
        lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"},
        "all rules have been evaluated",
        _SEEN_S,
    )
    until(lambda: not prometheus.query("ALERTS"), "there is nothing to tell", _SEEN_S)
