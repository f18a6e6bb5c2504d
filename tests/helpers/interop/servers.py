"""Servers for tests: the gateway, its embedded origin, and nginx-rtmp."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.helpers.interop.programs import Program, Programs, needs, until

ROOT = Path(__file__).resolve().parents[3]
LOOPBACK = "127.0.0.1"

# The paths in distributions.
_NGINX_RTMP = (
    Path("/usr/lib/nginx/modules/ngx_rtmp_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_rtmp_module.so"),
)
# "wait_key" has players begin at a keyframe, and "publish_notify" tells them when the publisher leaves, so
# that they end.
_NGINX_CONFIGURATION = """
load_module {module};
events {{ worker_connections 1024; }}
rtmp {{
    access_log off;
    server {{
        listen {listen};
        ack_window {window_bytes};
        application live {{ live on; wait_key on; publish_notify on; }}
        application vod {{ play {clips}; }}
    }}
}}
"""

# Of every nginx here: in the foreground, so that its pid is the one we started; it ends its one worker
# itself ("master_process off" does not go with a socket that is handed over).
_NGINX_HEAD = """
daemon off;
worker_processes 1;
user {user};
pid nginx.pid;
error_log stderr;
"""

_HAPROXY = """
defaults
    mode {mode}
    timeout connect 5s
    timeout client 20s
    timeout server 20s
listen relay
    bind fd@{descriptor} {bind_options}
    server behind {loopback}:{port} {server_options}
"""

# The options for a port that the system chooses.
ANY_PORT = ("--listen", f"{LOOPBACK}:0")


# In the folder of nginx's configuration, instead of that of the system.
_TEMP_PATHS = " ".join(
    f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


def start_gateway(
    programs: Programs, *options: str, inside: tuple[str, ...] = (), address: str = LOOPBACK
) -> tuple[Program, int]:
    """Start the gateway, and wait until it listens on a port of ``address`` that the system chose.

    ``inside``: the words before a command that runs in a network namespace. It has one worker, unless a
    configuration file says otherwise: processes are slow to start.
    """
    if "--config" not in options:
        options = (*options, "--workers", "1")
    gateway = run_gateway(programs, *options, inside=inside)
    gateway.says("ready: ")
    return gateway, port_said(gateway, f"listening on {address}:")


def start_configured_gateway(
    programs: Programs, configuration: str, listener: str = "", workers: int = 1
) -> tuple[Program, int]:
    """Start a gateway that listens on a port which the system chose. ``configuration``: what follows its
    ``[[listener]]``; ``listener``: further keys of that.
    """
    file = programs.new_folder("gateway") / "gateway.toml"
    head = f'workers = {workers}\n[[listener]]\naddress = "{LOOPBACK}:0"\n{listener}\n'
    file.write_text(head + configuration)
    return start_gateway(programs, "--config", str(file))


def run_gateway(programs: Programs, *options: str, inside: tuple[str, ...] = ()) -> Program:
    """Start the gateway without waiting."""
    return programs.start(
        *inside,
        sys.executable,
        "-c",
        "from twisted.scripts.twistd import run; run()",
        *("--nodaemon", "--pidfile=", "rtmpt-gateway", *options),
        environment={"PYTHONPATH": str(ROOT)},
    )


def port_said(program: Program, words: str) -> int:
    """The port after ``words`` in the log of ``program``, as text or JSON."""
    rest = program.says(words)
    return int(rest[: len(rest) - len(rest.lstrip("0123456789"))])


def start_origin(programs: Programs) -> tuple[Program, int]:
    """Start a gateway for its embedded origin. Returns the program and the origin's port."""
    gateway, _ = start_gateway(programs, *ANY_PORT)
    port = int(gateway.says(f"the embedded origin serves on {LOOPBACK}:"))
    return gateway, port


def start_nginx(
    programs: Programs, clips: Path, window_bytes: int = 5_000_000, port: int = 0
) -> tuple[Program, int]:
    """Start nginx-rtmp with the applications ``live`` and ``vod``, the latter with the folder ``clips``.

    ``window_bytes`` is RTMP's acknowledgement window, by default nginx's own; ffmpeg acknowledges twice as
    often, rtmpdump ten times.
    """
    return run_nginx(
        programs,
        _NGINX_CONFIGURATION,
        port,
        module=nginx_rtmp(),
        clips=clips,
        window_bytes=window_bytes,
    )


def run_nginx(
    programs: Programs, configuration_text: str, port: int = 0, **values: object
) -> tuple[Program, int]:
    """Start nginx with a configuration, in which ``{listen}`` and, for HTTP, ``{temp_paths}`` are filled in
    besides ``values``, until it serves; and its port, which is ``port`` unless that is 0.

    nginx takes its listening socket from us, as it does from an older nginx when it is upgraded, since
    it cannot say which port the system chose.
    """
    with socket.create_server((LOOPBACK, port)) as listening:
        port = listening.getsockname()[1]
        configuration = programs.new_folder("nginx") / "nginx.conf"
        user = "root" if os.geteuid() == 0 else "nobody"
        configuration.write_text(
            _NGINX_HEAD.format(user=user)
            + configuration_text.format(
                listen=f"{LOOPBACK}:{port}", temp_paths=_TEMP_PATHS, **values
            )
        )
        nginx = programs.start(
            "nginx",
            *("-p", str(configuration.parent), "-c", str(configuration), "-e", "stderr"),
            environment={"NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
        )
    pid = configuration.parent / "nginx.pid"
    until(lambda: pid.exists() or not nginx.running, "nginx has read its configuration")
    assert nginx.running, nginx.log
    return nginx, port


def nginx_rtmp() -> Path:
    for module in _NGINX_RTMP:
        if module.exists():
            return module
    pytest.skip("libnginx-mod-rtmp is not installed")


def start_haproxy(
    programs: Programs, port: int, server_options: str, bind_options: str = "", mode: str = "tcp"
) -> int:
    """Start HAProxy in front of ``port``, with a listening socket from the test. Returns HAProxy's port."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        run_haproxy(programs, listening, port, server_options, bind_options, mode)
        chosen: int = listening.getsockname()[1]
    return chosen


def run_haproxy(
    programs: Programs,
    listening: socket.socket,
    port: int,
    server_options: str = "",
    bind_options: str = "",
    mode: str = "tcp",
) -> Program:
    """Start HAProxy on ``listening``, in front of ``port``."""
    needs("haproxy")
    configuration = programs.new_folder("haproxy") / "haproxy.cfg"
    text = _HAPROXY.format(
        mode=mode,
        descriptor=listening.fileno(),
        loopback=LOOPBACK,
        port=port,
        server_options=server_options,
        bind_options=bind_options,
    )
    configuration.write_text(text)
    os.set_inheritable(listening.fileno(), True)
    haproxy = programs.start(
        "haproxy", "-db", "-f", str(configuration), pass_fds=[listening.fileno()]
    )
    until(lambda: haproxy.running, "haproxy runs")
    return haproxy
