"""Several media servers behind the gateway, and what they learn of its clients."""

from __future__ import annotations

import json
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from time import sleep

import pytest

from tests.helpers.interop.clients import FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.echo import EchoServer
from tests.helpers.interop.numbered import NumberedSession, SessionEnded
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import (
    LOOPBACK,
    nginx_rtmp,
    run_nginx,
    start_gateway,
    start_haproxy,
    start_nginx,
)
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.interop.tap import Tap
from tests.helpers.interop.watched import start_watched_gateway

# Other addresses of this machine.
_CLIENT, _OTHER = "127.0.0.2", "127.0.0.3"
_GATEWAY = """workers = 1
[[listener]]
address = "{loopback}:0"
[[upstream]]
servers = [{servers}]
{more}
"""
_NGINX = """
load_module {module};
events {{ worker_connections 256; }}
rtmp {{
    server {{
        listen {listen} proxy_protocol;
        access_log {log};
        application live {{ live on; allow publish {allowed}; deny publish all; }}
    }}
}}
"""
# nginx's stream module reads both versions, and sends the first.
_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_NGINX_STREAM = """
load_module {module};
events {{ worker_connections 256; }}
stream {{
    server {{
        listen {listen} proxy_protocol;
        set_real_ip_from {loopback};
        proxy_pass {loopback}:{behind};
        proxy_protocol on;
    }}
}}
"""
_ENDS_S = 20.0


def start(programs: Programs, folder: Path, *servers: int, more: str = "") -> tuple[Program, int]:
    """Start a gateway in front of the servers with these ports; and its port."""
    file = folder / "gateway.toml"
    listed = ", ".join(f'"{LOOPBACK}:{port}"' for port in servers)
    file.write_text(_GATEWAY.format(loopback=LOOPBACK, servers=listed, more=more))
    return start_gateway(programs, "--config", str(file))


@pytest.mark.parametrize(
    ("version", "through"), [("v1", ""), ("v2", "haproxy"), ("v1", "nginx"), ("v2", "nginx")]
)
def test_a_media_server_logs_the_clients_address_and_applies_its_rules_to_it(
    programs: Programs, tmp_path: Path, stream: str, version: str, through: str
) -> None:
    if through == "nginx" and not _STREAM_MODULE.exists():
        pytest.skip("libnginx-mod-stream is not installed")
    log = tmp_path / "access.log"
    _, server = run_nginx(programs, _NGINX, module=nginx_rtmp(), log=log, allowed=_CLIENT)
    # nginx-rtmp reads version 1 only.
    if through == "haproxy":
        server = start_haproxy(programs, server, "send-proxy", "accept-proxy")
    elif through == "nginx":
        _, server = run_nginx(
            programs, _NGINX_STREAM, module=_STREAM_MODULE, loopback=LOOPBACK, behind=server
        )
    _, gateway = start(programs, tmp_path, server, more=f'proxy_protocol = "{version}"')
    context = ssl.create_default_context()
    for way in ("rtmpt", "rtmp"):
        with connected(way, gateway, context, "", _OTHER) as up:
            talk = Talk(up)
            talk.start("publish", f"{stream}-{way}")
            # nginx ends the connection behind its answer.
            with pytest.raises(AssertionError):
                talk.media()
        with connected(way, gateway, context, "", _CLIENT) as up:
            talk = Talk(up)
            talk.start("publish", f"{stream}-{way}-allowed")
            talk.end()
        allowed = f"-{way}-allowed"
        until(lambda allowed=allowed: allowed in log.read_text(), "nginx logs the publisher")
        assert log.read_text().splitlines()[-1].startswith(f"{_CLIENT} ")


def test_all_players_reach_the_publishers_server_by_default(
    programs: Programs, tmp_path: Path, stream: str, clip: Path, packets: list[Packet]
) -> None:
    servers = [start_nginx(programs, tmp_path) for _ in range(2)]
    taps = [Tap(port) for _, port in servers]
    _, gateway = start(programs, tmp_path, *(tap.port for tap in taps))
    source = url("rtmpt", gateway, stream)
    players = [FFmpegPlayer(programs, source) for _ in range(3)]
    taps[0].players(3)
    assert publish(programs, clip, source).ends(_ENDS_S) == 0
    for player in players:
        assert player.program.ends(_ENDS_S) == 0
        assert player.packets() == packets[: len(player.packets())]
        assert len(player.packets()) > len(packets) // 2
    # Health checks connect, and send nothing after a first handshake.
    assert sum(bool(link.up) for link in taps[1].links) <= 1
    assert all(len(link.up) <= 1537 for link in taps[1].links)
    for tap in taps:
        tap.close()


def test_no_client_waits_for_a_server_that_is_down_by_its_checks(
    programs: Programs, tmp_path: Path, stream: str, clip: Path
) -> None:
    """It accepts connections and says nothing, and the next one works."""
    _, working = start_nginx(programs, tmp_path)
    with socket.create_server((LOOPBACK, 0)) as silent:
        checks = 'check = "rtmp"\ncheck_s = 1\nfall = 2\n[limits]\nupstream_connect_s = 0.5'
        program, gateway = start(programs, tmp_path, silent.getsockname()[1], working, more=checks)
        program.says("is down by its health checks: it does not answer the handshake in time")
        # Its workers know a second later.
        sleep(1.2)
        to = url("rtmpt", gateway, stream)
        assert publish(programs, clip, to, in_real_time=False).ends(_ENDS_S) == 0
    assert program.log.count("is down by its health checks") == 1


def test_a_server_that_ends_takes_its_own_sessions_alone_and_comes_back(
    programs: Programs, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(closing(EchoServer())) for _ in range(3)]
        more = 'choose = "round_robin"\ncheck_s = 1\nfall = 2\nrise = 2'
        program, port = start(programs, tmp_path, *(each.port for each in servers), more=more)
        sessions = [NumberedSession(port, keeps=number % 2 == 0) for number in range(30)]
        for session in sessions:
            session.step()
        servers[0].close()
        # No open fails, neither before the gateway has noticed nor after.
        newer = [NumberedSession(port, keeps=False) for _ in range(10)]
        lost = [session for session in sessions if not still_works(session)]
        assert len(lost) == 10
        program.says(f":{servers[0].port} is down by its health checks")
        newer += [NumberedSession(port, keeps=False) for _ in range(10)]
        servers[0].start()
        program.says(f":{servers[0].port} is up again")
        until(lambda: reaches(servers[0], port, newer), "new sessions reach it")
        for session in [*newer, *(each for each in sessions if each not in lost)]:
            session.step()
            session.finish()


def reaches(server: EchoServer, port: int, opened: list[NumberedSession]) -> bool:
    """Open a session; whether the server has two or more, beside the connection of a health check."""
    opened.append(NumberedSession(port, keeps=False))
    return server.connections >= 3


def test_the_cap_of_a_server_is_of_all_workers_and_further_opens_wait_for_a_place(
    programs: Programs,
) -> None:
    with closing(EchoServer()) as server:
        gateway = start_watched_gateway(
            programs,
            f"""
            [[upstream]]
            name = "capped"
            queue_s = 20.0
            queue = 4
            [[upstream.servers]]
            address = "{LOOPBACK}:{server.port}"
            max_sessions = 6
            """,
            workers=2,
        )
        sessions = of_both_workers(gateway.port, 6)
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(NumberedSession, gateway.port, False) for _ in range(2)]
            until(lambda: 'queue{group="capped"} 2.0' in gateway.get("/metrics"), "both wait")
            (found,) = json.loads(gateway.get("/upstreams"))["upstreams"]
            assert (found["sessions"], found["waiting"]) == (6, 2)
            assert not any(each.done() for each in waiting)
            for session in sessions[:2]:
                session.finish()
            later = [each.result() for each in waiting]
        for session in [*sessions[2:], *later]:
            session.step()
            session.finish()
        until(lambda: not server.connections, "no session is left")
        NumberedSession(gateway.port, keeps=False).finish()


def of_both_workers(port: int, number: int) -> list[NumberedSession]:
    """So many sessions, not all of one worker."""
    sessions = [NumberedSession(port, keeps=False) for _ in range(number)]
    while len({session.worker for session in sessions}) == 1:
        sessions.pop().finish()
        sessions.append(NumberedSession(port, keeps=False))
    return sessions


def test_without_a_queue_opens_above_the_cap_are_refused_at_once(programs: Programs) -> None:
    with closing(EchoServer()) as server:
        gateway = start_watched_gateway(
            programs,
            f"""
            [[upstream]]
            servers = [{{ address = "{LOOPBACK}:{server.port}", max_sessions = 1 }}]
            queue = 0
            """,
        )
        first = NumberedSession(gateway.port, keeps=False)
        with pytest.raises(SessionEnded, match="503"):
            NumberedSession(gateway.port, keeps=False)
        assert 'opens_refused_total{cause="upstream_full"} 1.0' in gateway.get("/metrics")
        first.finish()


def still_works(session: NumberedSession) -> bool:
    try:
        session.step()
    except SessionEnded:
        return False
    return True


def test_new_sessions_go_to_the_next_server_if_the_first_one_is_stopped(
    programs: Programs, tmp_path: Path, stream: str, clip: Path
) -> None:
    servers: list[tuple[Program, int]] = [start_nginx(programs, tmp_path) for _ in range(2)]
    _, gateway = start(programs, tmp_path, *(port for _, port in servers))
    to = url("rtmpt", gateway, stream)
    assert publish(programs, clip, to, in_real_time=False).ends(_ENDS_S) == 0
    servers[0][0].stop()
    assert publish(programs, clip, to, in_real_time=False).ends(_ENDS_S) == 0
