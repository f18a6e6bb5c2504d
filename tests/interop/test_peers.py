"""Nodes that forward commands to each other, behind balancers that do not know session ids."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession, SessionEnded
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.secure import Authority, make_authority
from tests.helpers.interop.servers import LOOPBACK, port_said, start_gateway
from tests.helpers.interop.watched import WatchedGateway

_CONFIGURATION = """
workers = {workers}
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[admin]
address = "127.0.0.1:0"
[node]
id = "{node}"
address = "127.0.0.1:{own}"
certificate = "{certificate}"
authorities = "{authorities}"
[[peer]]
node = "{peer}"
address = "127.0.0.1:{other}"
"""


@frozen
class Group:
    """Two nodes: what they are configured with."""

    programs: Programs
    folder: Path
    upstream: int
    ports: dict[str, int]

    def start(self, node: str, authority: Authority, workers: int = 1) -> WatchedGateway:
        (peer,) = set(self.ports) - {node}
        file = self.folder / f"{node}.toml"
        file.write_text(
            _CONFIGURATION.format(
                workers=workers,
                upstream=self.upstream,
                node=node,
                own=self.ports[node],
                certificate=authority.certify(f"{node}.pem", LOOPBACK),
                authorities=authority.root_path,
                peer=peer,
                other=self.ports[peer],
            )
        )
        program, port = start_gateway(self.programs, "--config", str(file))
        return WatchedGateway(program, port, port_said(program, f"admin server on {LOOPBACK}:"))


@pytest.fixture
def group(programs: Programs, tmp_path: Path) -> Iterator[Group]:
    with (
        echo_server() as upstream,
        socket.create_server((LOOPBACK, 0)) as one,
        socket.create_server((LOOPBACK, 0)) as other,
    ):
        ports = {"a0": one.getsockname()[1], "b0": other.getsockname()[1]}
        one.close()
        other.close()
        yield Group(programs, tmp_path, upstream, ports)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


def metric(gateway: WatchedGateway, name: str) -> float:
    found = [line for line in gateway.get("/metrics").splitlines() if line.startswith(name + " ")]
    return float(found[0].rpartition(" ")[2]) if found else -1.0


def await_peers(*gateways: WatchedGateway) -> None:
    for gateway, peer in zip(gateways, ("b0", "a0"), strict=True):
        up = f'rtmpt_gateway_peer_up{{node="{peer}"}}'
        until(lambda gateway=gateway, up=up: metric(gateway, up) == 1, f"{peer} is connected")


def test_commands_that_reach_another_node_are_forwarded(group: Group, authority: Authority) -> None:
    """With two workers, half of them reach a third process."""
    one, other = group.start("a0", authority, 2), group.start("b0", authority, 2)
    await_peers(one, other)
    sessions = [NumberedSession(one.port, False, other.port) for _ in range(10)]
    sessions += [NumberedSession(other.port, False, one.port) for _ in range(10)]
    for _ in range(10):
        for session in sessions:
            session.step()
    assert {session.id[:2] for session in sessions} == {"a0", "b0"}
    for session in sessions:
        session.finish()
    for gateway in (one, other):
        assert metric(gateway, 'rtmpt_gateway_forwarded_commands_total{outcome="forwarded"}') > 100
        assert gateway.sessions() == []


def test_sessions_of_a_stopped_node_end_and_it_is_connected_again_after_its_start(
    group: Group, authority: Authority
) -> None:
    one, other = group.start("a0", authority), group.start("b0", authority)
    await_peers(one, other)
    session = NumberedSession(other.port, keeps=False)
    session.move(one.port)
    session.step()
    other.program.stop()
    with pytest.raises(SessionEnded, match="404"):
        session.step()
    assert metric(one, 'rtmpt_gateway_peer_up{node="b0"}') == 0
    again = group.start("b0", authority)
    await_peers(one, again)
    newer = NumberedSession(again.port, False, one.port)
    newer.step()
    newer.finish()


def test_a_node_with_a_certificate_of_another_authority_is_not_connected(
    group: Group, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "strange").mkdir()
    one = group.start("a0", authority)
    other = group.start("b0", make_authority(tmp_path / "strange"))
    one.program.says("no connection to node b0")
    other.program.says("no connection to node a0")
    session = NumberedSession(one.port, False, other.port)
    # Its second command reaches the other node.
    with pytest.raises(SessionEnded, match="404"):
        session.step()
    unknown = 'rtmpt_gateway_forwarded_commands_total{outcome="unknown_worker"}'
    assert metric(other, unknown) >= 1
    assert "Traceback" not in one.program.log + other.program.log


def test_a_node_without_a_certificate_gets_no_answer(group: Group, authority: Authority) -> None:
    one = group.start("a0", authority)
    session = NumberedSession(one.port, keeps=True)
    with socket.create_connection((LOOPBACK, group.ports["a0"]), 10) as connection:
        connection.sendall(b"rtmpt-gateway peer 1\n" + bytes(200))
        assert_closed(connection)
    with socket.create_connection((LOOPBACK, group.ports["a0"]), 10) as plain:
        context = authority.client_context()
        with context.wrap_socket(plain, server_hostname=LOOPBACK) as connection:
            connection.sendall(b"rtmpt-gateway peer 1\n" + bytes(200))
            with pytest.raises(OSError, match="certificate required"):
                connection.recv(100)
    session.step()
    session.finish()


def assert_closed(connection: socket.socket) -> None:
    try:
        # TLS says why, by an alert.
        while connection.recv(100):
            pass
    except ConnectionResetError:
        return
