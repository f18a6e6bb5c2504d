"""The order of the ways, and what to type into programs."""

from __future__ import annotations

from gateway.port_test.observations import Delivery, Holding, Kind, Step, Trial
from gateway.port_test.order import addresses_to_type, best_first, recommended
from gateway.port_test.ways import Route, Target
from tests.port_test.making import failed, works


def names(trials: list[Trial]) -> list[str]:
    return [f"{trial.way} {trial.route.value}" for trial in trials]


def disturbed(holding: Holding) -> Trial:
    trial = works("rtmpt")
    trial.holding = holding
    return trial


def test_a_way_that_works_is_before_one_that_fails_and_fewer_layers_are_before_more() -> None:
    trials = [
        failed("rtmp", Step.CONNECT, Kind.NO_ANSWER),
        *(works(name) for name in ("rtmpts", "rtmpt", "rtmps", "rtmp:80")),
        failed("rtmp:443", Step.HANDSHAKE, Kind.SPEAKS_HTTP),
    ]
    assert names(best_first(trials)) == [
        *("rtmp:80 IPv4", "rtmps:443 IPv4", "rtmpt:80 IPv4", "rtmpts:443 IPv4"),
        # By how far they came.
        *("rtmp:443 IPv4", "rtmp:1935 IPv4"),
    ]


def test_a_route_past_the_proxy_is_before_one_through_it() -> None:
    assert names(best_first([works("rtmps", Route.PROXY), works("rtmpt")])) == [
        "rtmpt:80 IPv4",
        "rtmps:443 proxy",
    ]


def test_a_clearly_shorter_round_trip_is_first_and_noise_is_not() -> None:
    far = [works("rtmp", Route.IPV4, 200.0), works("rtmp", Route.IPV6, 20.0)]
    near = [works("rtmp", Route.IPV4, 21.0), works("rtmp", Route.IPV6, 20.0)]
    assert names(best_first(far))[0] == "rtmp:1935 IPv6"
    assert names(best_first(near))[0] == "rtmp:1935 IPv4"


def test_a_disturbed_tunnel_is_after_a_proxied_one_that_is_not() -> None:
    for holding in (
        Holding(closes=True),
        Holding(cut_after_ms=1000.0),
        Holding(delivery=Delivery.BUFFERED),
    ):
        ordered = best_first([disturbed(holding), works("rtmpts", Route.PROXY)])
        assert names(ordered) == ["rtmpts:443 proxy", "rtmpt:80 IPv4"]


def test_a_way_that_still_runs_is_not_recommended() -> None:
    running = works("rtmp")
    running.step = Step.HANDSHAKE
    assert recommended([running]) is None
    assert recommended([failed("rtmp", Step.CONNECT, Kind.REFUSED)]) is None
    assert recommended([]) is None


def test_each_program_gets_the_best_way_that_it_has() -> None:
    target = Target("host", "live", "key")
    assert dict(
        addresses_to_type([works("rtmps"), works("rtmpts"), works("rtmpt:8080")], target)
    ) == {
        "OBS, encoders": "server rtmps://host/live, stream key key",
        "FFmpeg": "rtmps://host/live/key",
        "Flash Player": "connect to rtmpt://host:8080/live, stream key",
    }


def test_flash_player_names_the_tunnel_in_tls_rtmps() -> None:
    typed = dict(addresses_to_type([works("rtmpts", Route.PROXY)], Target("host")))
    assert typed == {
        "FFmpeg": "rtmpts://host/APP/STREAM, through the proxy",
        "Flash Player": "connect to rtmps://host/APP, stream STREAM, through the proxy",
    }


def test_nothing_is_typed_if_no_way_works() -> None:
    assert addresses_to_type([failed("rtmp", Step.CONNECT, Kind.REFUSED)], Target("host")) == []
