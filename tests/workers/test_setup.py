"""What a new worker is told."""

from __future__ import annotations

import socket

import pytest

from gateway.errors import ConfigurationError, GatewayError
from gateway.workers.setup import ConfigurationText, Setup, read_setup

SETUP = Setup(
    *(7, 3, ConfigurationText("gateway.toml", "[[listener]]\n" * 20_000), "/run/x"),
    *((5, 6), 4, "info", False, False),
)


def test_a_setup_is_read_back_and_later_bytes_are_left_on_the_channel() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        ours.sendall(SETUP.line() + b"the next message\n")
        assert read_setup(theirs) == SETUP
        assert theirs.recv(100) == b"the next message\n"


def test_a_supervisor_that_has_ended_is_an_error() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.sendall(b'{"number": 7')
        ours.close()
        with pytest.raises(GatewayError):
            read_setup(theirs)


def test_the_configuration_is_parsed_as_the_supervisor_parsed_it() -> None:
    text = '[[listener]]\naddress = "127.0.0.1:80"\n[[upstream]]\nservers = ["media"]\n'
    named = ConfigurationText("gateway.toml", text).parse()
    assert named.source.name == "gateway.toml"
    optional = ConfigurationText(listen=("127.0.0.1:80",), upstream=("media",)).parse()
    assert (named.listeners, named.upstreams) == (optional.listeners, optional.upstreams)
    with pytest.raises(ConfigurationError, match=r"gateway\.toml: not TOML"):
        ConfigurationText("gateway.toml", "nonsense").parse()


def test_other_configurations_have_other_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ConfigurationText("gateway.toml", "workers = 2\n")
    assert one.digest == ConfigurationText("gateway.toml", "workers = 2\n").digest
    assert len(one.digest) == 8
    assert one.digest != ConfigurationText("gateway.toml", "workers = 3\n").digest
    assert one.digest != ConfigurationText(listen=("127.0.0.1:80",)).digest
    before = one.digest
    monkeypatch.setattr("gateway.protocols.offers.VERSION", 99)
    assert one.digest != before
