"""A server that is one of the gateway's own listeners is refused: its connections would loop."""

from __future__ import annotations

import socket

import pytest

from gateway.addresses import ServerAddress, TcpAddress, parse_listen_address, parse_server
from gateway.configuration import loading
from gateway.errors import ConfigurationError
from gateway.workers import proxy_loops

# Documentation addresses (RFC 5737, RFC 3849), which no machine has.
ELSEWHERE = ("192.0.2.1:80", "[2001:db8::1]:80")


def checked(listener: str, server: str, table: str = "upstream") -> str:
    document: dict[str, object] = {"listener": [{"address": listener}]}
    document |= (
        {"upstream": [{"servers": [server]}]}
        if table == "upstream"
        else {"website": {"server": server}}
    )
    try:
        proxy_loops.check(loading.from_document("FILE", document))
    except ConfigurationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("listener", "server"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.9.9.9:80"),
        ("0.0.0.0:80", "localhost:80"),
        ("[::]:80", "LOCALHOST:80"),
        ("[::]:80", "[::1]:80"),
        ("[::1]:80", "[0::1]:80"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
    ],
)
def test_the_gateway_as_its_own_upstream_is_refused(listener: str, server: str) -> None:
    found = checked(listener, server)
    assert found.startswith('FILE: [[upstream]] 1, key "servers", item 1: "')
    assert f'is the gateway\'s own listener "{listener}"' in found
    assert checked(listener, server, "website").startswith('FILE: [website], key "server": "')


@pytest.mark.parametrize(
    ("listener", "server"),
    [
        ("127.0.0.1:80", "127.0.0.1:81"),
        ("127.0.0.1:80", "127.0.0.2:80"),
        ("127.0.0.1:80", "[::1]:80"),
        ("0.0.0.0:80", "[::1]:80"),
        ("[::]:80", "127.0.0.1:80"),
        *(("0.0.0.0:80", server) for server in ELSEWHERE),
        *(("[::]:80", server) for server in ELSEWHERE),
        ("0.0.0.0:80", "no.invalid:80"),
        ("unix:/run/x", "127.0.0.1:80"),
        ("127.0.0.1:0", "127.0.0.1:80"),
    ],
)
def test_any_other_server_is_accepted(listener: str, server: str) -> None:
    assert checked(listener, server) == ""


def test_an_interface_address_belongs_to_this_machine() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("no route, so only loopback addresses")
        own = probe.getsockname()[0]
    assert "own listener" in checked("0.0.0.0:80", f"{own}:80")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(
            (host, True)
            for host in ("127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::ffff:127.0.0.1")
        ),
        *((host, False) for host in ("192.0.2.1", "2001:db8::1", "10.0.0.1")),
    ],
)
def test_loopback_addresses_are_recognised(host: str, expected: bool) -> None:
    assert proxy_loops.is_loopback(host) is expected


def test_a_resolved_name_is_refused_if_it_is_a_listener() -> None:
    listening = [parse_listen_address("unix:/run/x"), TcpAddress("0.0.0.0", 1935)]
    server = parse_server("media")
    proxy_loops.refuse_loop(server, ["192.0.2.1"], listening, "upstream")
    with pytest.raises(ConfigurationError) as refusal:
        proxy_loops.refuse_loop(server, ["192.0.2.1", "127.0.0.1"], listening, "upstream")
    assert str(refusal.value).startswith(
        'upstream "media:1935" is the gateway\'s own listener "0.0.0.0:1935"'
    )
    proxy_loops.refuse_loop(ServerAddress("media", 1936), ["127.0.0.1"], listening, "upstream")


def test_datagrams_may_not_be_relayed_to_an_address_that_receives_them() -> None:
    document = {
        "listener": [{"address": "127.0.0.1:1935"}],
        "udp": [
            {"address": "0.0.0.0:1935", "server": "127.0.0.1:1936"},
            {"address": "127.0.0.1:1936", "server": "localhost:1935"},
        ],
    }
    with pytest.raises(ConfigurationError) as refused:
        proxy_loops.check(loading.from_document("FILE", document))
    first, second = str(refused.value).splitlines()
    assert '[[udp]] 1, key "server": "127.0.0.1:1936" is the gateway\'s own listener' in first
    assert '[[udp]] 2, key "server": "localhost:1935" is the gateway\'s own listener' in second
