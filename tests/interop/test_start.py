"""A gateway that accepts connections serves them."""

from __future__ import annotations

from tests.helpers.interop.clients import RtmpdumpPlayer, url
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import ANY_PORT, start_gateway
from tests.interop.conftest import Upstream


def test_a_client_that_connects_at_startup_is_served(
    programs: Programs, nginx: Upstream, stream: str
) -> None:
    _, port = start_gateway(programs, *ANY_PORT, "--upstream", nginx.server)
    player = RtmpdumpPlayer(programs, url("rtmpt", port, stream))
    nginx.tap.players(1)
    # While it waits for data, it does not end by SIGTERM.
    player.program.kill()
