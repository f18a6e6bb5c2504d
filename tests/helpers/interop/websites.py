"""Web servers behind the gateway: nginx with real files, and a server controlled by the test."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread
from typing import final

from attrs import frozen

from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import LOOPBACK, ROOT, run_nginx

# Uploads are WebDAV's PUT; "small" refuses large ones before their body.
_NGINX_CONFIGURATION = """
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    client_max_body_size 0;
    {temp_paths}
    server {{
        listen {listen};
        root {root};
        default_type text/html;
        location /put/ {{ dav_methods PUT; create_full_put_path on; }}
        location /events.txt {{ default_type text/event-stream; types {{}} }}
        location /small/ {{ dav_methods PUT; client_max_body_size 1k; }}
        location /socket {{
            proxy_pass http://{websocket};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""

_GATEWAY_CONFIGURATION = """
workers = 1
[[listener]]
address = "{loopback}:0"
[website]
server = "{loopback}:{port}"
[tunnel]
latency = 0
[limits]
website_answer_s = 1.0
"""


@frozen
class WebGateway:
    """A gateway with a website behind it."""

    program: Program
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of its only worker."""
        (pid,) = self.program.children
        return pid

    @property
    def memory_bytes(self) -> int:
        """The maximum memory of the worker so far."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    @property
    def processor_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start_web_gateway(programs: Programs, port: int) -> WebGateway:
    """Start a gateway whose website is at ``port``, and wait until it listens."""
    file = programs.new_folder("configuration") / "gateway.toml"
    file.write_text(_GATEWAY_CONFIGURATION.format(loopback=LOOPBACK, port=port))
    gateway = programs.start(
        sys.executable,
        *("-c", "from twisted.scripts.twistd import run; run()"),
        *("--nodaemon", "--pidfile=", "rtmpt-gateway", "--config", str(file)),
        environment={"PYTHONPATH": str(ROOT)},
    )
    listening = int(gateway.says(f"listening on {LOOPBACK}:"))
    gateway.says("ready: ")
    return WebGateway(gateway, listening)


def start_site(programs: Programs, root: Path, websocket_port: int) -> int:
    """Start nginx with the files in ``root``. Returns its port; the socket is passed as in an upgrade."""
    _, port = run_nginx(
        programs,
        _NGINX_CONFIGURATION,
        root=root,
        websocket=f"{LOOPBACK}:{websocket_port}",
    )
    return port


@final
class PlayedServer:
    """A server that records the received data; ``answer`` plays one connection, from its first head on."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listening = socket.create_server((LOOPBACK, 0))
        self._lock = Lock()
        self.port: int = self._listening.getsockname()[1]
        self.heads: list[bytes] = []
        Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        # Closing alone does not end an accept of another thread.
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        head = b""
        with connection:
            try:
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                if head:
                    with self._lock:
                        self.heads.append(head)
                    self._answer(connection)
            except OSError:
                return


@contextmanager
def played(answer: Callable[[socket.socket], None]) -> Iterator[PlayedServer]:
    server = PlayedServer(answer)
    yield server
    server.stop()


def make_large_file(path: Path, size: int) -> None:
    """A sparse file in which each MiB contains its offset."""
    with path.open("wb") as file:
        for offset in range(0, size, 1 << 20):
            file.seek(offset)
            file.write(b"%016x" % offset)
        file.truncate(size)
