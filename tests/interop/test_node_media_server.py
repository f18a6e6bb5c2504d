"""Node-Media-Server, from npm, behind the gateway."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import ANY_PORT, LOOPBACK, port_said, start_gateway

_VERSION = "2.7.4"
_INSTALL_S = 120.0
_ENDS_S = 20.0
# It listens on all addresses and on a fixed port, and does not say which streams are played.
_SCRIPT = """
const net = require("net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, listening) {
    return listen.call(this, 0, "127.0.0.1", () => {
        console.log("listens on 127.0.0.1:" + this.address().port + " now");
        if (listening) listening();
    });
};
const Server = require("node-media-server");
const server = new Server({ logType: 2, rtmp: { port: 1935, chunk_size: 60000, gop_cache: true } });
server.on("prePlay", (id, path) => console.log("plays " + path));
server.run();
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the package."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    subprocess.run(
        [
            *(npm, "install", "--prefix", str(folder), f"node-media-server@{_VERSION}"),
            *("--ignore-scripts", "--no-audit", "--no-fund"),
        ],
        check=True,
        capture_output=True,
        timeout=_INSTALL_S,
    )
    (folder / "server.js").write_text(_SCRIPT)
    return folder


@pytest.fixture
def media_server(programs: Programs, modules: Path) -> tuple[Program, int]:
    program = programs.start("node", str(modules / "server.js"))
    return program, port_said(program, "listens on 127.0.0.1:")


@pytest.mark.parametrize("way", ["rtmpt", "rtmp"])
def test_publish_and_play_are_exact(
    programs: Programs,
    media_server: tuple[Program, int],
    clip: Path,
    packets: list[Packet],
    stream: str,
    way: str,
) -> None:
    program, upstream = media_server
    _, port = start_gateway(programs, *ANY_PORT, "--upstream", f"{LOOPBACK}:{upstream}")
    player = FFmpegPlayer(programs, url(way, port, stream))
    program.says(f"plays /{stream}")
    assert publish(programs, clip, url(way, port, stream)).ends(_ENDS_S) == 0
    assert player.program.ends(_ENDS_S) == 0
    received = player.packets()
    assert received == packets[: len(received)]
    assert len(received) >= len(packets) - (LOST_BY_FFMPEG if way == "rtmpt" else 0)
