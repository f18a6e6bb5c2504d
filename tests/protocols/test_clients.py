"""Which client programs are recognised, and which signs of a proxy."""

from __future__ import annotations

import pytest

from gateway.protocols.clients import FFMPEG, LIBRTMP, OTHER, Client, is_direct, recognise
from gateway.protocols.http import Fields, RequestReader
from gateway.protocols.limits import Limits

# Captured: FFmpeg 5.1, rtmpdump 2.4.
FFMPEG_HEAD = (
    b"POST /open/1 HTTP/1.1\r\nAccept: */*\r\nConnection: keep-alive\r\nHost: 127.0.0.1:8080\r\n"
    b"Content-Length: 1\r\nIcy-MetaData: 1\r\nCache-Control: no-cache\r\n"
    b"Content-type: application/x-fcs\r\nUser-Agent: Shockwave Flash\r\n\r\n"
)
LIBRTMP_HEAD = (
    b"POST /open/1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\nUser-Agent: Shockwave Flash\r\n"
    b"Connection: Keep-Alive\r\nCache-Control: no-cache\r\nContent-type: application/x-fcs\r\n"
    b"Content-length: 1\r\n\r\n"
)
# Flash Player 10, as captured from public traces.
FLASH_HEAD = (
    b"POST /open/1 HTTP/1.1\r\nUser-Agent: Shockwave Flash\r\nHost: 127.0.0.1:8080\r\n"
    b"Content-Length: 1\r\nConnection: Keep-Alive\r\nCache-Control: no-cache\r\n\r\n"
)


def fields_of(head: bytes) -> Fields:
    reader = RequestReader(Limits())
    reader.receive(head)
    fields = reader.next_head()
    assert fields is not None
    return fields


def with_field(head: bytes, line: bytes) -> bytes:
    return head[:-2] + line + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "client"),
    [(FFMPEG_HEAD, FFMPEG), (LIBRTMP_HEAD, LIBRTMP), (FLASH_HEAD, OTHER)],
    ids=["ffmpeg", "librtmp", "flash"],
)
def test_a_client_program_is_recognised_by_its_request_head(head: bytes, client: Client) -> None:
    assert recognise(fields_of(head)) is client


@pytest.mark.parametrize("head", [FFMPEG_HEAD, LIBRTMP_HEAD], ids=["ffmpeg", "librtmp"])
@pytest.mark.parametrize(
    "line",
    [b"Via: 1.1 squid", b"X-Forwarded-For: 10.0.0.1", b"Forwarded: for=x", b"X-Real-IP: ::1"],
)
def test_a_header_field_that_a_proxy_adds_reveals_the_proxy(head: bytes, line: bytes) -> None:
    fields = fields_of(with_field(head, line))
    client = recognise(fields)
    assert client is recognise(fields_of(head))
    assert is_direct(client, fields_of(head))
    assert not is_direct(client, fields)


def test_an_http_1_0_request_reveals_a_proxy() -> None:
    fields = fields_of(FFMPEG_HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert not is_direct(recognise(fields), fields)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # HAProxy removes the field; nginx writes its own fields first.
        (b"Connection: keep-alive\r\n", b""),
        (
            b"Accept: */*\r\nConnection: keep-alive\r\nHost: 127.0.0.1:8080\r\n",
            b"Host: x\r\nAccept: */*\r\n",
        ),
    ],
)
def test_changed_hop_by_hop_fields_reveal_a_proxy_that_adds_no_field(
    old: bytes, new: bytes
) -> None:
    fields = fields_of(FFMPEG_HEAD.replace(old, new))
    assert recognise(fields) is FFMPEG
    assert not is_direct(FFMPEG, fields)


def test_librtmp_behind_a_proxy_that_changes_its_fields_is_not_recognised() -> None:
    assert recognise(fields_of(LIBRTMP_HEAD.replace(b"Connection: Keep-Alive\r\n", b""))) is OTHER


def test_librtmp_with_a_connection_field_of_a_proxy_is_not_direct() -> None:
    fields = fields_of(LIBRTMP_HEAD.replace(b"Keep-Alive", b"keep-alive"))
    assert recognise(fields) is LIBRTMP
    assert not is_direct(LIBRTMP, fields)
