"""How long the first frame takes through the tunnel client in each network of ``test_client_networks``.

``python -m tests.interop.first_frames`` prints seconds from a player's connect to the first media message,
for three players one after another: the first one has a race of ways. Every frame of the stream is a key
frame, so that no player waits for one. Needs root, and a machine that does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.interop.firewalled import SERVER, Firewalled, firewalled
from tests.helpers.interop.port_tester import Site
from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.servers import LOOPBACK, ROOT
from tests.interop.test_client_networks import HOLDING, NETWORKS, connect_client, start_servers

_PLAYERS = 3
_PICTURES = ("-f", "lavfi", "-i", "testsrc=size=160x90:rate=25")
_CODEC = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "1")
_PLAY = """
import socket, sys
from time import perf_counter
from tests.helpers.interop.streams import Raw, Talk
begun = perf_counter()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 10) as connection:
    talk = Talk(Raw(connection))
    talk.start("play", "live/frames")
    talk.media()
    print(perf_counter() - begun)
"""


def measure(network: Firewalled, host: str, port: int) -> list[float]:
    """The times of players at the near side."""
    words = [*network.near, sys.executable, "-c", _PLAY, host, str(port)]
    return [float(subprocess.check_output(words, cwd=ROOT, text=True)) for _ in range(_PLAYERS)]


def main() -> None:
    with tempfile.TemporaryDirectory() as path, firewalled() as network:
        folder = Path(path)
        # Squid gives up root.
        folder.chmod(0o755)
        programs = Programs(folder)
        try:
            networks = start_servers(Site(network, programs, make_authority(folder), folder))
            # Where requests are cut, another gateway is behind.
            for gateway, port in ((networks.gateway, 1935), (networks.holding, HOLDING)):
                programs.start(
                    *(*network.far, needs("ffmpeg"), "-nostdin", "-loglevel", "error", "-re"),
                    *(*_PICTURES, *_CODEC, "-f", "flv", f"rtmp://{SERVER}:{port}/live/frames"),
                )
                gateway.says('publishes "live/frames"')
            print_times("direct", measure(network, SERVER, 1935))
            for name, found in NETWORKS.items():
                client = connect_client(networks, found, programs)
                print_times(name, measure(network, LOOPBACK, client.port))
                client.program.stop()
        finally:
            programs.stop()


def print_times(name: str, times: list[float]) -> None:
    print(f"{name:32}", *(f"{each:6.3f}" for each in times), flush=True)


if __name__ == "__main__":
    main()
