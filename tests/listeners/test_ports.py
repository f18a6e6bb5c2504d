"""Listening on real sockets: chosen ports, UNIX sockets, sockets of systemd."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Protocol, ServerFactory

from gateway.addresses import ListenAddress, SystemdAddress, TcpAddress, UnixAddress
from gateway.errors import ConfigurationError
from gateway.listeners.ports import (
    SocketOptions,
    address_of,
    cause_of,
    check_congestion_control,
    listen,
    places_of,
)
from gateway.transport import EagerServer, EagerUnixServer
from tests.helpers.turning import Turning

FIRST_DESCRIPTOR = 3
ROOT = Path(__file__).resolve().parents[2]


class Echo(Protocol):
    def connectionMade(self) -> None:
        self.factory.connected.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(data)


class Echoes(ServerFactory):
    noisy = False
    protocol = Echo

    def __init__(self) -> None:
        self.connected: list[Any] = []


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.close()


@pytest.fixture
def echoes() -> Echoes:
    return Echoes()


def answers(turning: Turning, address: Any, family: int = socket.AF_INET) -> bool:
    """Whether an echo server listens there, and closes when the client closes."""
    with socket.socket(family) as client:
        client.connect(address)
        client.setblocking(False)
        client.sendall(b"hello")
        got: list[bytes] = []

        def heard() -> bool:
            try:
                got.append(client.recv(100))
            except BlockingIOError:
                return False
            return True

        turning.until(heard)
        return got == [b"hello"]


def stop(turning: Turning, port: Any) -> None:
    stopped: list[object] = []
    port.stopListening().addCallback(stopped.append)
    turning.until(lambda: stopped)


def test_port_0_listens_on_a_port_chosen_by_the_system(turning: Turning, echoes: Echoes) -> None:
    port = listen(turning.reactor, TcpAddress("127.0.0.1", 0), echoes, {})
    chosen = address_of(port)
    assert chosen.port > 0
    assert answers(turning, (chosen.host, chosen.port))


def test_an_accepted_connection_has_the_eager_transport_and_no_delay(turning, echoes) -> None:
    port = listen(turning.reactor, TcpAddress("127.0.0.1", 0), echoes, {})
    assert answers(turning, ("127.0.0.1", address_of(port).port))
    (echo,) = echoes.connected
    assert type(echo.transport) is EagerServer
    assert echo.transport.getTcpNoDelay()


def test_accepted_connections_detect_a_vanished_peer(turning, echoes) -> None:
    port = listen(
        turning.reactor,
        TcpAddress("127.0.0.1", 0),
        echoes,
        {},
        options=SocketOptions(vanished_s=9.0),
    )
    assert answers(turning, ("127.0.0.1", address_of(port).port))
    accepted = echoes.connected[0].transport.socket
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 9000
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 3
    # Linear timeouts of thin streams (linux/tcp.h).
    assert accepted.getsockopt(socket.IPPROTO_TCP, 16) == 1


def test_accepted_connections_have_the_listeners_congestion_control(turning, echoes) -> None:
    port = listen(
        turning.reactor,
        TcpAddress("127.0.0.1", 0),
        echoes,
        {},
        options=SocketOptions(congestion_control="reno"),
    )
    assert answers(turning, ("127.0.0.1", address_of(port).port))
    accepted = echoes.connected[0].transport.socket
    name = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    assert name.rstrip(b"\0") == b"reno"


def test_an_unknown_congestion_control_is_refused_with_the_list_of_available_ones() -> None:
    check_congestion_control("reno")
    with pytest.raises(
        ConfigurationError, match=r'"nonesuch": the kernel refuses it .* it has: .*reno'
    ):
        check_congestion_control("nonesuch")


def test_a_port_whose_options_cannot_be_set_is_closed(turning: Turning, echoes: Echoes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = TcpAddress("127.0.0.1", free.getsockname()[1])
    options = SocketOptions(congestion_control="nonesuch")
    with pytest.raises(ConfigurationError, match="cannot be listened on"):
        listen(turning.reactor, address, echoes, {}, options=options)
    turning.turn()
    assert address_of(listen(turning.reactor, address, echoes, {})) == address


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_listener_on_an_ipv6_address_accepts_connections(
    turning: Turning, echoes: Echoes
) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 loopback here")
    port = listen(turning.reactor, TcpAddress("::1", 0), echoes, {})
    assert answers(turning, ("::1", address_of(port).port), socket.AF_INET6)


@pytest.mark.parametrize("first", ["0.0.0.0", "::"])
def test_all_ipv4_and_all_ipv6_addresses_are_two_listeners_on_one_port(
    turning: Turning, echoes: Echoes, first: str
) -> None:
    second = "::" if first == "0.0.0.0" else "0.0.0.0"
    port = address_of(listen(turning.reactor, TcpAddress(first, 0), echoes, {})).port
    listening = listen(turning.reactor, TcpAddress(second, port), Echoes(), {})
    assert places_of(listening) == [TcpAddress(second, port)]
    assert answers(turning, ("127.0.0.1", port))
    assert answers(turning, ("::1", port), socket.AF_INET6)


def test_a_listener_on_all_ipv6_addresses_accepts_no_ipv4_connection(
    turning: Turning, echoes: Echoes
) -> None:
    port = address_of(listen(turning.reactor, TcpAddress("::", 0), echoes, {})).port
    with pytest.raises(ConnectionRefusedError):
        answers(turning, ("127.0.0.1", port))


def test_a_port_in_use_is_an_error_that_names_the_address(turning: Turning, echoes: Echoes) -> None:
    taken = address_of(listen(turning.reactor, TcpAddress("127.0.0.1", 0), echoes, {}))
    assert refusal(turning, echoes, taken) == (
        f'"127.0.0.1:{taken.port}": '
        "in use: another program listens there; stop it, or use another port"
    )


def refusal(turning: Turning, echoes: Echoes, address: ListenAddress) -> str:
    with pytest.raises(ConfigurationError) as refused:
        listen(turning.reactor, address, echoes, {})
    return str(refused.value)


def test_an_address_of_another_machine_is_an_error_that_names_the_address(turning, echoes) -> None:
    assert refusal(turning, echoes, TcpAddress("192.0.2.1", 0)) == (
        '"192.0.2.1:0": this machine has no such address; use one of its own, '
        "or 0.0.0.0 or [::] for all"
    )


@pytest.mark.parametrize(
    ("address", "number", "cause"),
    [
        (
            TcpAddress("::", 1023),
            errno.EACCES,
            "ports below 1024 need CAP_NET_BIND_SERVICE or root",
        ),
        (TcpAddress("::", 80), errno.EADDRINUSE, "another program listens there"),
        (TcpAddress("::", 1024), errno.EACCES, "cannot be listened on: Permission denied"),
        (UnixAddress("/a"), errno.EACCES, "must be able to write in its folder"),
        (UnixAddress("/a"), errno.ENOTDIR, "cannot be listened on: Not a directory"),
        (SystemdAddress("a"), errno.EBADF, "cannot be listened on: Bad file descriptor"),
    ],
)
def test_the_reason_for_a_failed_listen_is_explained(
    address: ListenAddress, number: int, cause: str
) -> None:
    assert cause in cause_of(address, OSError(number, os.strerror(number)))


# --- UNIX sockets ---

# Twisted's unix.Port does, when it cannot bind; the collector closes it.
_leaves_a_socket_open = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.sock"


def test_a_unix_socket_accepts_connections_and_is_removed_at_shutdown(
    turning: Turning, echoes: Echoes, path: Path
) -> None:
    port = listen(turning.reactor, UnixAddress(str(path)), echoes, {})
    assert answers(turning, str(path), socket.AF_UNIX)
    (echo,) = echoes.connected
    assert type(echo.transport) is EagerUnixServer
    echo.transport.acknowledge_now()
    stop(turning, port)
    assert not path.exists()


def test_a_unix_socket_left_by_a_killed_gateway_is_replaced(
    turning: Turning, echoes: Echoes, path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    listen(turning.reactor, UnixAddress(str(path)), echoes, {})
    assert answers(turning, str(path), socket.AF_UNIX)


@_leaves_a_socket_open
def test_a_unix_socket_of_another_listener_is_reported_as_in_use_and_not_removed(
    turning: Turning, echoes: Echoes, path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        assert refusal(turning, echoes, UnixAddress(str(path))) == (
            f'"unix:{path}": in use: another program listens there; stop it, or use another path'
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_file_that_is_not_a_socket_is_not_removed(
    turning: Turning, echoes: Echoes, path: Path
) -> None:
    path.write_text("somebody's")
    assert refusal(turning, echoes, UnixAddress(str(path))) == (
        f'"unix:{path}": a file that is no socket is there; remove it, or use another path'
    )
    assert path.read_text() == "somebody's"


@_leaves_a_socket_open
def test_a_missing_folder_is_reported(turning: Turning, echoes: Echoes, path: Path) -> None:
    assert refusal(turning, echoes, UnixAddress(f"{path}/x")) == (
        f'"unix:{path}/x": its folder does not exist; create it, or use another path'
    )


def test_a_unix_socket_with_a_full_backlog_does_not_block_the_start(path: Path) -> None:
    """A blocking connect to a listener with a full backlog would block the start for ever."""
    script = """
        import socket, sys
        from pathlib import Path
        from gateway.listeners.ports import _remove_dead_socket
        path = sys.argv[1]
        busy = socket.socket(socket.AF_UNIX)
        busy.bind(path)
        busy.listen(0)
        clients = []
        for _ in range(3):
            clients.append(socket.socket(socket.AF_UNIX))
            clients[-1].setblocking(False)
            try:
                clients[-1].connect(path)
            except BlockingIOError:
                break
        _remove_dead_socket(Path(path))
        assert Path(path).is_socket()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, cwd=ROOT, timeout=5).returncode == 0


# --- systemd's ---


@pytest.fixture
def third_descriptor() -> Iterator[None]:
    """Free the descriptor that systemd passes first, and restore it after the test."""
    try:
        kept = os.dup(FIRST_DESCRIPTOR)
    except OSError:
        kept = -1
    yield
    if kept >= 0:
        os.dup2(kept, FIRST_DESCRIPTOR)
        os.close(kept)
    else:
        os.close(FIRST_DESCRIPTOR)


def handed_over(listening: socket.socket, at: int = FIRST_DESCRIPTOR) -> None:
    os.dup2(listening.fileno(), at)


def environment(names: str) -> dict[str, str]:
    count = len(names.split(":"))
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names}


@pytest.mark.usefixtures("third_descriptor")
def test_a_tcp_socket_from_systemd_accepts_connections(turning: Turning, echoes: Echoes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handed_over(listening)
        port = listen(turning.reactor, SystemdAddress("http"), echoes, environment("http"))
        assert address_of(port) == TcpAddress("127.0.0.1", listening.getsockname()[1])
        assert answers(turning, listening.getsockname())
        assert type(echoes.connected[0].transport) is EagerServer


@pytest.mark.usefixtures("third_descriptor")
@pytest.mark.parametrize("shared", [True, False])
def test_an_ipv6_socket_from_systemd_keeps_its_address_families(
    turning: Turning, echoes: Echoes, shared: bool
) -> None:
    """BindIPv6Only= determines the address families."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=shared) as made:
        handed_over(made)
        listening = listen(turning.reactor, SystemdAddress("http"), echoes, environment("http"))
        port = made.getsockname()[1]
        both = [TcpAddress("::", port), TcpAddress("0.0.0.0", port)]
        assert places_of(listening) == (both if shared else both[:1])


@pytest.mark.usefixtures("third_descriptor")
def test_a_tcp_socket_from_systemd_still_listens_after_shutdown(turning, echoes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        handed_over(listening)
        port = listen(turning.reactor, SystemdAddress("http"), echoes, environment("http"))
        stop(turning, port)
        with socket.create_connection(listening.getsockname()):
            pass


@pytest.fixture
def unix_listening(path: Path, third_descriptor: None) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o660)
        listening.listen(100)
        handed_over(listening)
        yield listening


def test_a_unix_socket_from_systemd_accepts_connections(
    turning, echoes, path, unix_listening
) -> None:
    listen(turning.reactor, SystemdAddress("local"), echoes, environment("local"))
    assert answers(turning, str(path), socket.AF_UNIX)
    assert type(echoes.connected[0].transport) is EagerUnixServer


def test_a_unix_socket_from_systemd_keeps_its_mode(turning, echoes, path, unix_listening) -> None:
    """SocketMode= says who may connect; the gateway must not change it."""
    listen(turning.reactor, SystemdAddress("local"), echoes, environment("local"))
    assert path.stat().st_mode & 0o777 == 0o660


def test_a_unix_socket_from_systemd_is_not_removed_at_shutdown(
    turning, echoes, path, unix_listening
) -> None:
    """systemd continues to listen on the socket for the next start."""
    port = listen(turning.reactor, SystemdAddress("local"), echoes, environment("local"))
    stop(turning, port)
    assert path.is_socket()


@pytest.mark.usefixtures("third_descriptor")
def test_a_socket_from_systemd_is_selected_by_its_name(turning: Turning, echoes: Echoes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as wanted:
        handed_over(wanted)
        for names in ("http", "http:other", "http::x"):
            port = listen(turning.reactor, SystemdAddress("http"), echoes, environment(names))
            assert address_of(port).port == wanted.getsockname()[1]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"},
        {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "other"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "httpx"},
    ],
)
def test_a_socket_that_systemd_did_not_pass_is_a_configuration_error(
    turning, echoes, given
) -> None:
    with pytest.raises(ConfigurationError, match="http"):
        listen(turning.reactor, SystemdAddress("http"), echoes, given)
