"""nginx-rtmp asks publishers for a key as in the README, and the gateway passes it on."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from textwrap import dedent

import pytest

from tests.helpers.interop.clients import publish, url
from tests.helpers.interop.programs import Programs
from tests.helpers.interop.servers import (
    ANY_PORT,
    LOOPBACK,
    ROOT,
    nginx_rtmp,
    run_nginx,
    start_gateway,
)

_PUBLISHED_S = 20.0
_HEAD = "load_module {module};\nevents {{ worker_connections 256; }}\n"


def readmes_configuration() -> str:
    """The README's nginx configuration, as a format with placeholders for the two addresses."""
    found = re.search(
        r"\n\n(      rtmp \{\n.*?\n      \}\n)\n", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert found
    text = dedent(found[1]).replace("{", "{{").replace("}", "}}")
    for address, name in ((f"{LOOPBACK}:1935", "{listen}"), (f"{LOOPBACK}:8081", "{asked}")):
        assert address in text
        text = text.replace(address, name)
    return _HEAD + text


@pytest.fixture
def gateway(programs: Programs) -> int:
    """The port of a gateway in front of such an nginx."""
    with socket.create_server((LOOPBACK, 0)) as free:
        asked = f"{LOOPBACK}:{free.getsockname()[1]}"
    _, upstream = run_nginx(programs, readmes_configuration(), module=nginx_rtmp(), asked=asked)
    _, port = start_gateway(programs, *ANY_PORT, "--upstream", f"{LOOPBACK}:{upstream}")
    return port


@pytest.mark.parametrize("protocol", ["rtmpt", "rtmp"])
@pytest.mark.parametrize(
    ("query", "is_let_in"), [("?key=SECRET", True), ("?key=other", False), ("", False)]
)
def test_only_publishers_with_the_key_can_publish(
    programs: Programs, gateway: int, clip: Path, protocol: str, query: str, is_let_in: bool
) -> None:
    to = url(protocol, gateway, f"live/stream{query}")
    publisher = publish(programs, clip, to, in_real_time=False)
    assert (publisher.ends(_PUBLISHED_S) == 0) is is_let_in
