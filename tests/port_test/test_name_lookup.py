"""Look-ups of names, without a name server."""

from __future__ import annotations

import asyncio

import pytest

from gateway.port_test.name_lookup import look_up
from gateway.port_test.observations import Kind, TrialFailed
from gateway.port_test.ways import Route


@pytest.mark.parametrize(
    ("host", "route"),
    [
        ("127.0.0.1", Route.IPV4),
        ("::1", Route.IPV6),
        ("127.0.0.1", Route.PROXY),
        ("::1", Route.PROXY),
    ],
)
def test_an_address_is_its_own_result(host: str, route: Route) -> None:
    assert asyncio.run(look_up(host, route)) == host


@pytest.mark.parametrize(("host", "route"), [("127.0.0.1", Route.IPV6), ("::1", Route.IPV4)])
def test_a_host_without_an_address_of_the_family_is_unknown(host: str, route: Route) -> None:
    with pytest.raises(TrialFailed) as failed:
        asyncio.run(look_up(host, route))
    assert failed.value.kind is Kind.UNKNOWN_NAME


def test_an_abandoned_look_up_does_not_delay_the_end() -> None:
    async def abandon() -> None:
        task = asyncio.create_task(look_up("127.0.0.1", Route.IPV4))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(abandon())
