"""The listening sockets of the supervisor, over reloads and its succession."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import pytest
from twisted.internet import reactor

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.supervisor.listening_sockets import ListeningSockets


def configuration(*addresses: str) -> Config:
    return loading.from_options(addresses, ["media"])


@pytest.fixture
def sockets() -> Iterator[ListeningSockets]:
    sockets = ListeningSockets(reactor, {})
    yield sockets
    sockets.close()
    reactor.runUntilCurrent()  # type: ignore[attr-defined]


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


def test_a_listener_that_stays_keeps_its_socket(sockets: ListeningSockets) -> None:
    (first,) = sockets.open(configuration("127.0.0.1:0"))
    again, other = sockets.open(configuration("127.0.0.1:0", "[::1]:0"))
    assert again is first
    assert other is not first


def test_listeners_on_port_0_have_a_socket_each(sockets: ListeningSockets) -> None:
    twice = attrs.evolve(
        configuration("127.0.0.1:0"), listeners=configuration("127.0.0.1:0").listeners * 2
    )
    first, second = sockets.open(twice)
    assert first.getHost().port != second.getHost().port


def test_a_listener_that_goes_is_closed_and_clients_of_the_others_wait(
    sockets: ListeningSockets,
) -> None:
    old = configuration("127.0.0.1:0", "127.0.0.2:0")
    kept, dropped = sockets.open(old)
    address = dropped.getHost()
    sockets.close_others([configuration("127.0.0.1:0")])
    # Twisted closes it in its next iteration.
    reactor.runUntilCurrent()  # type: ignore[attr-defined]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port), timeout=5)
    host = kept.getHost()
    socket.create_connection((host.host, host.port), timeout=5).close()
    assert sockets.of(old) == [kept]


def test_no_socket_of_an_unusable_configuration_stays_open(
    sockets: ListeningSockets, taken_port: int
) -> None:
    wrong = configuration("127.0.0.1:0", f"127.0.0.1:{taken_port}")
    with pytest.raises(ConfigurationError, match="in use"):
        sockets.open(wrong)
    assert sockets.of(wrong) == []


def test_listening_sockets_are_handed_over_to_a_successor(sockets: ListeningSockets) -> None:
    (port,) = sockets.open(configuration("127.0.0.1:0"))
    handed_over = sockets.hand_over(ExitStack())
    assert all(os.get_inheritable(each.descriptor) for each in handed_over)
    successor = ListeningSockets(reactor, {})
    successor.adopt(handed_over)
    (adopted,) = successor.open(configuration("127.0.0.1:0"))
    assert adopted.getHost() == port.getHost()
    successor.close()


def test_a_successor_removes_the_files_of_unix_sockets(
    sockets: ListeningSockets, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    sockets.open(configuration(f"unix:{path}"))
    successor = ListeningSockets(reactor, {})
    successor.adopt(sockets.hand_over(ExitStack()))
    assert path.is_socket()
    successor.close_others([])
    reactor.runUntilCurrent()  # type: ignore[attr-defined]
    assert not path.exists()
    # For the end of the program before, which does not come to that.
    path.touch()


def of_proxies(given: Config) -> Config:
    """The configuration with a PROXY header on all listeners."""
    listeners = tuple(attrs.evolve(each, proxy_protocol=True) for each in given.listeners)
    return attrs.evolve(given, listeners=listeners)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_other_users_cannot_claim_client_addresses_on_a_unix_socket(
    sockets: ListeningSockets, tmp_path: Path
) -> None:
    plain, proxies = tmp_path / "plain", tmp_path / "proxies"
    sockets.open(configuration(f"unix:{plain}"))
    sockets.open(of_proxies(configuration(f"unix:{proxies}")))
    assert (mode_of(plain), mode_of(proxies)) == (0o666, 0o660)


def test_a_reload_changes_the_mode_of_a_unix_socket_that_stays(
    sockets: ListeningSockets, tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    plain = configuration(f"unix:{path}")
    sockets.open(plain)
    sockets.open(of_proxies(plain))
    assert mode_of(path) == 0o660
    # It could not be used.
    sockets.close_others([plain])
    assert mode_of(path) == 0o666
    sockets.open(of_proxies(plain))
    sockets.close_others([of_proxies(plain)])
    sockets.open(plain)
    # The workers that expect headers still accept.
    assert mode_of(path) == 0o660
    sockets.close_others([plain])
    assert mode_of(path) == 0o666
