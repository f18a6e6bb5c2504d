"""The admin server's socket over an upgrade."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.supervisor.admin_server import AdminServer
from tests.helpers.turning import Turning


@pytest.fixture
def turning() -> Iterator[Turning]:
    turning = Turning()
    yield turning
    turning.close()


def configured(token: Path) -> Config:
    return loading.from_text(
        "gateway.toml",
        f'''
            [[listener]]
            address = "127.0.0.1:0"
            [[upstream]]
            servers = ["media"]
            [admin]
            address = "127.0.0.1:0"
            token_file = "{token}"
        ''',
    )


def test_a_connection_waits_while_the_successor_cannot_read_the_token(
    turning: Turning, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.touch(0o600)
    configuration = configured(token)
    nothing: Any = None
    successor = AdminServer(nothing, turning.reactor, {})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        successor.adopt(configuration, os.dup(listening.fileno()))
    with pytest.raises(ConfigurationError, match="token_file"):
        successor.prepare(configuration)
    with socket.create_connection(address) as client:
        client.sendall(b"GET /nonesuch HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.setblocking(False)
        turning.settle()
        with pytest.raises(BlockingIOError):
            client.recv(1)
        token.write_text("fedcba9876543210")
        successor.use(successor.prepare(configuration))
        received: list[bytes] = []

        def is_answered() -> bool:
            try:
                received.append(client.recv(100))
            except BlockingIOError:
                return False
            return True

        turning.until(is_answered)
    assert received[0].startswith(b"HTTP/1.1 401 ")
    successor.close()
    turning.settle()
