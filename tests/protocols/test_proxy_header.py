"""PROXY protocol headers for servers."""

from __future__ import annotations

import pytest

from gateway.protocols.proxy_header import datagram_header, proxy_header

V2 = b"\r\n\r\n\0\r\nQUIT\n"


@pytest.mark.parametrize(
    ("client", "server", "header"),
    [
        ("192.0.2.7", "198.51.100.1", b"PROXY TCP4 192.0.2.7 198.51.100.1 0 1935\r\n"),
        ("2001:db8::7", "2001:db8::1", b"PROXY TCP6 2001:db8::7 2001:db8::1 0 1935\r\n"),
        ("2001:db8::7", "198.51.100.1", b"PROXY TCP6 2001:db8::7 :: 0 1935\r\n"),
        ("192.0.2.7", "2001:db8::1", b"PROXY TCP4 192.0.2.7 0.0.0.0 0 1935\r\n"),
        ("fe80::7%eth0", "fe80::1", b"PROXY TCP6 fe80::7 fe80::1 0 1935\r\n"),
        ("", "198.51.100.1", b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1_names_the_client(client: str, server: str, header: bytes) -> None:
    assert proxy_header(1, client, server, 1935) == header


@pytest.mark.parametrize(
    ("client", "rest"),
    [
        ("192.0.2.7", b"\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x00\x00\x07\x8f"),
        (
            "2001:db8::7",
            b"\x21\x21\x00\x24\x20\x01\x0d\xb8" + bytes(11) + b"\x07" + bytes(16) + b"\0\0\x07\x8f",
        ),
        ("", b"\x20\x00\x00\x00"),
    ],
)
def test_version_2_names_the_client(client: str, rest: bytes) -> None:
    assert proxy_header(2, client, "198.51.100.1", 1935) == V2 + rest


@pytest.mark.parametrize(
    ("client", "listener", "rest"),
    [
        (
            ("192.0.2.7", 4660),
            ("198.51.100.1", 1935),
            b"\x21\x12\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x12\x34\x07\x8f",
        ),
        (
            ("fe80::7%eth0", 4660),
            ("fe80::1", 1935),
            b"\x21\x22\x00\x24\xfe\x80"
            + bytes(13)
            + b"\x07\xfe\x80"
            + bytes(13)
            + b"\x01\x12\x34\x07\x8f",
        ),
    ],
)
def test_a_datagrams_header_has_both_addresses_and_ports(
    client: tuple[str, int], listener: tuple[str, int], rest: bytes
) -> None:
    assert datagram_header(client, listener) == V2 + rest
