"""Fixtures with real programs: clips, upstreams, the gateway.

Servers that no test breaks are started once and serve all tests; each test has its own stream.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.interop.clips import Packet, make_clip, make_sparse_clip, packets_of_media
from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import (
    ANY_PORT,
    LOOPBACK,
    start_gateway,
    start_nginx,
    start_origin,
)
from tests.helpers.interop.tap import Tap

_names = count()


@frozen
class Upstream:
    """An RTMP server, and the tap in front of it through which all clients connect."""

    program: Program
    tap: Tap

    @property
    def server(self) -> str:
        return f"{LOOPBACK}:{self.tap.port}"


@pytest.fixture(scope="session")
def lasting_programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    programs = Programs(tmp_path_factory.mktemp("lasting"))
    yield programs
    programs.stop()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(tmp_path)
    yield programs
    programs.stop()


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the clips, which nginx serves as the application ``vod``."""
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def clip(clips: Path) -> Path:
    return make_clip(clips / "clip.flv")


@pytest.fixture(scope="session")
def packets(clip: Path) -> list[Packet]:
    """The expected packets of ``clip``."""
    return packets_of_media(clip)


@pytest.fixture(scope="session")
def sparse_clip(clips: Path) -> Path:
    return make_sparse_clip(clips / "sparse.flv")


@pytest.fixture(scope="session")
def sparse_packets(sparse_clip: Path) -> list[Packet]:
    """The expected packets of ``sparse_clip``."""
    return packets_of_media(sparse_clip)


@pytest.fixture(scope="session")
def lasting_nginx(lasting_programs: Programs, clips: Path) -> tuple[Program, int]:
    return start_nginx(lasting_programs, clips)


@pytest.fixture(scope="session")
def lasting_origin(lasting_programs: Programs) -> tuple[Program, int]:
    return start_origin(lasting_programs)


@pytest.fixture(scope="session")
def tapped_nginx(lasting_nginx: tuple[Program, int]) -> Iterator[Upstream]:
    with closing(Tap(lasting_nginx[1])) as tap:
        yield Upstream(lasting_nginx[0], tap)


@pytest.fixture(scope="session")
def tapped_origin(lasting_origin: tuple[Program, int]) -> Iterator[Upstream]:
    with closing(Tap(lasting_origin[1])) as tap:
        yield Upstream(lasting_origin[0], tap)


@pytest.fixture
def nginx(tapped_nginx: Upstream) -> Upstream:
    tapped_nginx.tap.forget()
    return tapped_nginx


@pytest.fixture
def origin(tapped_origin: Upstream) -> Upstream:
    tapped_origin.tap.forget()
    return tapped_origin


@pytest.fixture(params=["nginx", "origin"])
def upstream(request: pytest.FixtureRequest) -> Upstream:
    """Each upstream in turn."""
    tapped: Upstream = request.getfixturevalue(request.param)
    return tapped


@pytest.fixture(scope="session")
def lasting_gateways() -> dict[str, int]:
    """The ports of the gateways that ``gateway`` has started, by their servers."""
    return {}


@pytest.fixture
def gateway(
    lasting_programs: Programs, lasting_gateways: dict[str, int], upstream: Upstream
) -> int:
    """The port of a gateway in front of ``upstream``, which serves all tests."""
    if upstream.server not in lasting_gateways:
        _, port = start_gateway(lasting_programs, *ANY_PORT, "--upstream", upstream.server)
        lasting_gateways[upstream.server] = port
    return lasting_gateways[upstream.server]


@pytest.fixture
def stream() -> str:
    """Application and name of a live stream that only this test uses."""
    return f"live/stream{next(_names)}"


@pytest.fixture
def free_port() -> int:
    """A port for a program that cannot say which one the system chose."""
    with socket.create_server((LOOPBACK, 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A reserved port without a listener."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield bound.getsockname()[1]
