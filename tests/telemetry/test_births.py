"""Which ends of sessions make their media server suspected."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.telemetry.births import BirthWatch
from gateway.telemetry.measurement.totals import UpstreamCounts
from tests.helpers.admin_server import summary

HANDSHAKE = 1 + 2 * 1536


@pytest.mark.parametrize(
    ("end", "counts"),
    [
        ({}, True),
        ({"reason": "upstream_lost"}, True),
        ({"bytes_down": 0}, True),
        ({"bytes_down": HANDSHAKE + 1}, False),
        ({"duration_s": 2.0}, False),
        ({"reason": "client_closed"}, False),
        ({"reason": "upstream_stalled"}, False),
        ({"reason": "abandoned"}, False),
    ],
)
def test_an_end_by_the_server_soon_after_its_handshake_is_a_failure(
    end: dict[str, Any], counts: bool
) -> None:
    upstreams = UpstreamCounts()
    newborn = {"reason": "upstream_closed", "bytes_down": HANDSHAKE, "duration_s": 1.9}
    BirthWatch(upstreams).ended(summary(**{**newborn, **end}))
    assert upstreams.reasons_of("media:1935")["at_birth"] == counts
    assert upstreams.take_suspicions() == ({"media:1935": 1} if counts else {})
    assert upstreams.take_suspicions() == {}
