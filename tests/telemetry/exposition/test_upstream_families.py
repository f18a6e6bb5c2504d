"""The metrics of media servers, of all workers together."""

from __future__ import annotations

from gateway.telemetry.exposition.sources import SERVER_STATES, UpstreamHealth
from gateway.telemetry.exposition.upstream_families import upstream_families
from gateway.telemetry.measurement.latency import BUCKETS

COUNTS = [0, 0, 3] + [0] * (BUCKETS - 3)


def server(name: str, **values: object) -> UpstreamHealth:
    return UpstreamHealth(name, True, True, 0, COUNTS, **values)  # type: ignore[arg-type]


def samples(*servers: UpstreamHealth) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("rtmpt_gateway_upstream_"), *sample.labels.values()): sample.value
        for family in upstream_families(servers)
        for sample in family.samples
    }


def test_a_server_is_in_one_of_all_states() -> None:
    found = samples(server("a", state="slow_start"), server("b"))
    states = {key[2]: value for key, value in found.items() if key[:2] == ("state", "a")}
    assert states == {**dict.fromkeys(SERVER_STATES, 0), "slow_start": 1}
    assert found["state", "b", "up"] == 1


def test_sessions_and_weights_are_of_servers_and_waits_of_their_group() -> None:
    found = samples(
        server("a", weight=2, sessions=7, group="live", waiting=3),
        server("b", group="live", waiting=3),
        server("c", group="vod"),
    )
    assert (found["sessions", "a"], found["weight", "a"]) == (7, 2)
    assert {key: value for key, value in found.items() if key[0] == "queue"} == {
        ("queue", "live"): 3,
        ("queue", "vod"): 0,
    }


def test_checks_are_counted_by_outcome_and_servers_without_checks_have_none() -> None:
    found = samples(server("a", checks={"succeeded": COUNTS, "failed": [0] * BUCKETS}), server("b"))
    assert found["check_seconds_count", "a", "succeeded"] == 3
    assert found["check_seconds_count", "a", "failed"] == 0
    assert not [key for key in found if key[:2] == ("check_seconds_count", "b")]


def test_what_workers_count_is_left_to_them_so_that_it_does_not_fall_when_one_ends() -> None:
    lasting = [family.name for family in upstream_families([server("a")]) if family.type != "gauge"]
    # Checks are the supervisor's.
    assert lasting == ["rtmpt_gateway_upstream_check_seconds"]
