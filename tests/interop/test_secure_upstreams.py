"""Media servers that are reached by TLS: HAProxy, with a private CA, in front of nginx-rtmp."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.secure import Authority, make_authority
from tests.helpers.interop.servers import (
    LOOPBACK,
    nginx_rtmp,
    run_haproxy,
    run_nginx,
    start_gateway,
    start_nginx,
)
from tests.helpers.interop.streams import Talk, connected
from tests.helpers.interop.tap import Tap

_GATEWAY = """workers = 1
[[listener]]
address = "{loopback}:0"
[[upstream]]
servers = ["rtmps://{loopback}:{port}"]
tls_authorities = "{root}"
{more}
"""
_NGINX = """
load_module {module};
events {{ worker_connections 256; }}
rtmp {{
    server {{
        listen {listen} proxy_protocol;
        access_log {log};
        application live {{ live on; }}
    }}
}}
"""
_CLIENT = "127.0.0.2"
_ENDS_S = 20.0
_DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@frozen
class Door:
    """HAProxy with TLS on ``listening``, in front of the port ``behind``."""

    programs: Programs
    listening: socket.socket
    behind: int
    authority: Authority

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    def opens(
        self, names: str = LOOPBACK, server: str = "", bind: str = "", **times: datetime
    ) -> Program:
        """Start HAProxy with a certificate for these names; ``server`` and ``bind`` are its options."""
        file = self.authority.folder / f"{len([*self.authority.folder.iterdir()])}.pem"
        issued = self.authority.ca.issue_cert(names, **times)
        file.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        options = f"ssl crt {file} {bind}"
        return run_haproxy(self.programs, self.listening, self.behind, server, options)

    def gateway(self, more: str = "") -> tuple[Program, int]:
        """Start a gateway in front of HAProxy, with further configuration; and its port."""
        file = self.authority.folder / "gateway.toml"
        root = self.authority.root_path
        file.write_text(_GATEWAY.format(loopback=LOOPBACK, port=self.port, root=root, more=more))
        return start_gateway(self.programs, "--config", str(file))


@pytest.fixture
def tap(programs: Programs, tmp_path: Path) -> Iterator[Tap]:
    """nginx-rtmp, behind a tap."""
    _, port = start_nginx(programs, tmp_path)
    with closing(Tap(port)) as tap:
        yield tap


@pytest.fixture
def door(programs: Programs, tap: Tap, authority: Authority) -> Iterator[Door]:
    with socket.create_server((LOOPBACK, 0)) as listening:
        yield Door(programs, listening, tap.port, authority)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_every_packet_arrives_unchanged_by_tls_with_a_client_certificate(
    programs: Programs,
    door: Door,
    tap: Tap,
    stream: str,
    clip: Path,
    packets: list[Packet],
    version: str,
) -> None:
    own = door.authority.certify("gateway.pem", "gateway.example")
    ca = door.authority.root_path
    bind = f"ca-file {ca} verify required ssl-min-ver TLSv{version} ssl-max-ver TLSv{version}"
    door.opens(bind=bind)
    program, gateway = door.gateway(f'tls_certificate = "{own}"\ncheck = "rtmp"\ncheck_s = 1')
    sources = [url(way, gateway, f"{stream}-{way}") for way in ("rtmpt", "rtmp")]
    players = [FFmpegPlayer(programs, source) for source in sources]
    tap.players(len(players))
    publishers = [publish(programs, clip, source) for source in sources]
    for player, publisher in zip(players, publishers, strict=True):
        assert publisher.ends(_ENDS_S) == 0
        assert player.program.ends(_ENDS_S) == 0
        got = player.packets()
        assert got == packets[: len(got)]
        assert len(packets) - len(got) <= LOST_BY_FFMPEG
    assert " is down" not in program.log


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        ("other.example", "its certificate is for other names"),
        (LOOPBACK, "its certificate has expired"),
    ],
)
def test_a_server_whose_certificate_is_not_valid_gets_no_session_and_one_line(
    door: Door, names: str, cause: str
) -> None:
    now = datetime.now(UTC)
    times = {"not_before": now - 9 * _DAY, "not_after": now - _DAY} if "expired" in cause else {}
    door.opens(names, **times)
    program, gateway = door.gateway()
    for _ in range(5):
        refused(gateway)
    program.says(f"upstream rtmps://{LOOPBACK}:{door.port} is down: {cause}; ")
    assert program.log.count(" is down") == 1
    assert "Traceback" not in program.log


def refused(gateway: int) -> None:
    """An open is answered with 503."""
    with socket.create_connection((LOOPBACK, gateway), 10) as connection:
        head = "POST /open/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-fcs\r\nContent-Length: 1"
        connection.sendall(f"{head}\r\n\r\n\0".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 503 ")


def test_the_authority_is_unknown_without_tls_authorities_and_its_health_checks_fail(
    programs: Programs, door: Door, tmp_path: Path
) -> None:
    door.opens()
    file = tmp_path / "gateway.toml"
    text = _GATEWAY.replace('tls_authorities = "{root}"\n', "")
    more = 'check = "tcp"\ncheck_s = 1\nfall = 2'
    file.write_text(text.format(loopback=LOOPBACK, port=door.port, more=more))
    program, gateway = start_gateway(programs, "--config", str(file))
    refused(gateway)
    cause = "its certificate is of an unknown authority; name that in tls_authorities"
    program.says(f"is down by its health checks: {cause}")
    assert program.log.count(f" is down: {cause}") == 1


def test_new_sessions_use_the_server_again_after_its_restart(
    programs: Programs, door: Door, stream: str, clip: Path
) -> None:
    """The sessions of TLS that the gateway has kept are unknown to the new process."""
    haproxy = door.opens()
    program, gateway = door.gateway()
    to = url("rtmpt", gateway, stream)
    for _ in range(2):
        assert publish(programs, clip, to, in_real_time=False).ends(_ENDS_S) == 0
    haproxy.stop()
    door.opens()
    assert publish(programs, clip, to, in_real_time=False).ends(_ENDS_S) == 0
    assert " is down" not in program.log


def test_a_renewed_authority_is_used_after_a_reload(door: Door, stream: str) -> None:
    door.opens()
    program, gateway = door.gateway()
    other = make_authority(door.authority.folder)
    path = Path(door.authority.root_path)
    right = path.read_bytes()
    path.write_bytes(other.ca.cert_pem.bytes())
    reload(program, "reloaded ")
    refused(gateway)
    path.write_bytes(b"no certificate")
    rest = reload(program, "the old configuration stays in use: ")
    assert f'[[upstream]] 1, key "tls_authorities": {path}: no certificate that can be read' in rest
    path.write_bytes(right)
    reload(program, "reloaded ")
    with connected("rtmpt", gateway, ssl.create_default_context(), "", _CLIENT) as up:
        Talk(up).start("publish", stream)


def reload(program: Program, says: str) -> str:
    program.send(signal.SIGHUP)
    return program.says(says)


def test_a_session_ends_with_its_server(door: Door, stream: str) -> None:
    haproxy = door.opens()
    program, gateway = door.gateway()
    with connected("rtmpt", gateway, ssl.create_default_context(), "", _CLIENT) as up:
        Talk(up).start("publish", stream)
        haproxy.kill()
        assert program.says(" ended: ").startswith("closed by the media server ")


@pytest.mark.parametrize("way", ["rtmpt", "rtmp"])
def test_the_media_server_learns_the_clients_address_by_a_header_before_tls(
    programs: Programs, authority: Authority, tmp_path: Path, stream: str, way: str
) -> None:
    log = tmp_path / "access.log"
    _, server = run_nginx(programs, _NGINX, module=nginx_rtmp(), log=log)
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server((LOOPBACK, 0)))
        door = Door(programs, listening, server, authority)
        door.opens(server="send-proxy", bind="accept-proxy")
        _, gateway = door.gateway('proxy_protocol = "v2"')
        context = ssl.create_default_context()
        talk = Talk(stack.enter_context(connected(way, gateway, context, "", _CLIENT)))
        talk.start("publish", stream)
        talk.end()
    until(lambda: log.exists() and log.read_text(), "nginx logs the publisher")
    assert log.read_text().startswith(f"{_CLIENT} ")
