"""A real gateway exposes all series from the start."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import closing, nullcontext
from http.client import HTTPConnection
from pathlib import Path
from time import time

import pytest

from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.secure import make_authority
from tests.helpers.interop.servers import LOOPBACK, port_said
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

_SERIES = re.compile(r"^(rtmpt_gateway_[^ ]+) \S+$", re.MULTILINE)
_PATIENCE_S = 30.0
# Of the loopback interface too; each listener is told by its address.
_SECURE = "127.0.0.2"
# C0 and C1 of an RTMP handshake.
_HANDSHAKE = b"\x03" + bytes(1536)


@pytest.fixture
def gateway(programs: Programs) -> WatchedGateway:
    return start_watched_gateway(programs)


def series(gateway: WatchedGateway) -> set[str]:
    return set(_SERIES.findall(gateway.get("/metrics")))


def value(gateway: WatchedGateway, name: str) -> float:
    found = re.search(f"^{re.escape(name)} (.*)$", gateway.get("/metrics"), re.MULTILINE)
    assert found, name
    return float(found[1])


def opens(gateway: WatchedGateway) -> int:
    """Open a tunnel and close the connection. Returns the status of the answer."""
    with closing(HTTPConnection(LOOPBACK, gateway.port, timeout=_PATIENCE_S)) as connection:
        connection.request("POST", "/open/1", b"\0")
        answer = connection.getresponse()
        session = answer.read().decode().strip()
        if answer.status == 200:
            connection.request("POST", f"/close/{session}/0", b"\0")
            connection.getresponse().read()
        return answer.status


def relays(gateway: WatchedGateway) -> None:
    """Send RTMP until an answer arrives, and close the connection."""
    with socket.create_connection((LOOPBACK, gateway.port), _PATIENCE_S) as client:
        client.sendall(_HANDSHAKE)
        assert client.recv(1) == b"\x03"
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass


def test_every_series_exists_before_its_first_event(gateway: WatchedGateway) -> None:
    before = series(gateway)
    assert opens(gateway) == 200
    relays(gateway)
    with socket.create_connection((LOOPBACK, gateway.port), _PATIENCE_S) as client:
        client.sendall(b"neither")
        unknown = (
            f'rtmpt_gateway_connections_refused_total{{cause="unknown",listener="{LOOPBACK}:0"}}'
        )
        until(lambda: value(gateway, unknown) == 1, "it is refused")
    gateway.change("POST", "/drain")
    assert opens(gateway) == 503
    ended = 'rtmpt_gateway_sessions_ended_total{protocol="rtmp",reason="client_closed"}'
    until(lambda: value(gateway, ended) == 1, "the relay has ended")
    assert series(gateway) == before


def test_handshakes_and_certificate_expiries_are_exposed(
    programs: Programs, tmp_path: Path
) -> None:
    authority = make_authority(tmp_path)
    file = authority.certify("site.pem", "a.example")
    gateway = start_watched_gateway(
        programs,
        f'[[listener]]\naddress = "{_SECURE}:0"\ntls = true\n[tls]\ncertificates = ["{file}"]\n',
    )
    address = (_SECURE, port_said(gateway.program, f"listening on {_SECURE}:"))
    before = series(gateway)
    contexts = authority.client_context(), ssl.create_default_context()
    for context, fails in zip(contexts, (nullcontext(), pytest.raises(ssl.SSLError)), strict=True):
        with socket.create_connection(address, _PATIENCE_S) as client, fails:
            context.wrap_socket(client, server_hostname="a.example").close()
    handshakes = f'rtmpt_gateway_tls_handshakes_total{{listener="{_SECURE}:0",outcome="%s"}}'
    for outcome in ("succeeded", "failed"):
        name = handshakes % outcome
        until(lambda asked=name: value(gateway, asked) == 1, name)
    ends = f'rtmpt_gateway_tls_certificate_expiry_timestamp_seconds{{certificate="{file}"}}'
    assert 59 < (value(gateway, ends) - time()) / 86400 < 61
    assert series(gateway) == before


def test_opens_refused_during_a_drain_are_counted_as_draining(gateway: WatchedGateway) -> None:
    gateway.change("POST", "/drain")
    assert opens(gateway) == 503
    refused = 'rtmpt_gateway_opens_refused_total{cause="%s"}'
    assert value(gateway, refused % "draining") == 1
    assert value(gateway, refused % "capacity_reached") == 0
    gateway.change("DELETE", "/drain")
    assert opens(gateway) == 200


def test_a_media_server_is_down_until_it_accepts_a_client(programs: Programs) -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        name = f"{LOOPBACK}:{server.getsockname()[1]}"
        gateway = start_watched_gateway(programs, f'[[upstream]]\nservers = ["{name}"]\n')
        up = f'rtmpt_gateway_upstream_up{{upstream="{name}"}}'
        assert value(gateway, up) == 1
        assert opens(gateway) == 503
        assert value(gateway, up) == 0
        assert not gateway.is_ready
        # It is not tried again by itself: only when somebody can be given to it.
        until(lambda: gateway.is_ready, "it is due to be tried")
        assert value(gateway, up) == 0
        server.listen()
        assert opens(gateway) == 200
        assert value(gateway, up) == 1
