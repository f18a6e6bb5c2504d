"""The server name in a ClientHello, found before a TLS engine reads it."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.client_hello import server_name_of


def hello(server_name: str | None) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    up = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), up, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return up.read()


HELLO = hello("a.example")


def test_the_server_name_is_found() -> None:
    assert server_name_of(HELLO) == b"a.example"


def test_a_server_name_of_invalid_bytes_is_returned_unchanged() -> None:
    assert server_name_of(HELLO.replace(b"a.example", b"\xff" * 9)) == b"\xff" * 9


def test_a_client_hello_without_a_server_name_gives_none() -> None:
    assert server_name_of(hello(None)) is None


@pytest.mark.parametrize("length", range(HELLO.index(b"a.example") + 8))
def test_an_incomplete_client_hello_gives_none(length: int) -> None:
    assert server_name_of(HELLO[:length]) is None


@given(st.binary(max_size=600), st.integers(0, len(HELLO)))
def test_no_input_raises_an_exception(data: bytes, place: int) -> None:
    server_name_of(HELLO[:place] + data)
