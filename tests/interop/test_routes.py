"""Routes of real clients to several media servers, over rtmp, rtmps, rtmpt and rtmpts."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.secure import Authority, Gateway, make_authority, start
from tests.helpers.interop.servers import LOOPBACK
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.interop.tap import Tap

NAME, OTHER_NAME = "a.example", "x.named.example"
# Another address of this machine.
NEAR = "127.0.0.2"
_ROUTES = """
[[upstream]]
servers = ["{loopback}:{named}"]
name = "named"
[[upstream]]
servers = ["{loopback}:{hosted}"]
name = "hosted"
[[upstream]]
servers = ["{loopback}:{near}"]
name = "near"
[[route]]
sni = "*.named.example"
upstream = "named"
[[route]]
host = "gateway"
upstream = "hosted"
[[route]]
client = "127.0.0.2/32"
upstream = "near"
[[route]]
upstream = "1"
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.fixture
def taps(lasting_origin: tuple[Program, int]) -> Iterator[dict[str, Tap]]:
    """A tap in front of the same server for each upstream."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(Tap(lasting_origin[1])))
            for name in ("rest", "named", "hosted", "near")
        }


@pytest.fixture
def routing(programs: Programs, authority: Authority, taps: dict[str, Tap]) -> Gateway:
    ports = {name: tap.port for name, tap in taps.items()}
    first = f'[[upstream]]\nservers = ["{LOOPBACK}:{ports["rest"]}"]\n'
    return start(
        programs,
        [authority.certify("site.pem", NAME, OTHER_NAME)],
        "",
        first + _ROUTES.format(loopback=LOOPBACK, **ports),
    )


def test_the_upstream_depends_on_server_name_host_and_network(
    authority: Authority, taps: dict[str, Tap], routing: Gateway, stream: str
) -> None:
    context: ssl.SSLContext = authority.client_context()
    cases = [
        ("rtmps", OTHER_NAME, LOOPBACK, "named"),
        ("rtmpts", OTHER_NAME, LOOPBACK, "named"),
        ("rtmpts", NAME, LOOPBACK, "hosted"),
        ("rtmpt", NAME, NEAR, "hosted"),
        ("rtmp", NAME, NEAR, "near"),
        ("rtmps", NAME, NEAR, "near"),
        ("rtmp", NAME, LOOPBACK, "rest"),
        ("rtmps", NAME, LOOPBACK, "rest"),
    ]
    for number, (way, name, address, upstream) in enumerate(cases):
        with connected(way, routing.port(way), context, name, address) as connection:
            talk = Talk(connection)
            talk.start("publish", f"{stream}-{number}")
            talk.end()
        found = [each for each, tap in taps.items() if f"{stream[5:]}-{number}" in _seen(tap)]
        assert found == [upstream], (way, name, address)


def _seen(tap: Tap) -> str:
    return b"".join(bytes(link.up) for link in tap.links).decode("latin-1")
