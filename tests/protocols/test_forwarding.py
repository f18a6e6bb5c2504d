"""Heads and bodies of forwarded requests and responses."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest
from gateway.protocols.fields import items_of
from gateway.protocols.forwarding import (
    Request,
    accepts_upgrade,
    chunk,
    framing_to,
    interim_head,
    request_head,
    response_head,
    upgrade_head,
)
from gateway.protocols.http import RequestReader
from gateway.protocols.limits import Limits
from gateway.protocols.responses import Framing, Response, ResponseReader

SERVER = b"web:8080"


def request(*lines: bytes, address: str = "192.0.2.1", secure: bool = False) -> Request:
    """The request with these lines, read by ``RequestReader``."""
    reader = RequestReader(Limits())
    reader.receive(b"\r\n".join((*lines, b"", b"")))
    fields = reader.next_head()
    assert fields is not None
    return Request(reader.method, reader.target, fields, address, secure)


def get(*fields: bytes, target: bytes = b"/a?b=c", address: str = "192.0.2.1") -> Request:
    return request(b"GET %b HTTP/1.1" % target, b"Host: site", *fields, address=address)


def trusted(*lines: bytes) -> Request:
    return evolve(get(*lines), is_trusted=True)


def response(*lines: bytes, to_head: bool = False) -> Response:
    reader = ResponseReader(Limits(), to_head)
    reader.receive(b"\r\n".join((*lines, b"", b"")))
    head = reader.next_head()
    assert head is not None
    return head


def line_and_fields(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    line, _, rest = head.partition(b"\r\n")
    assert rest.endswith(b"\r\n\r\n") or rest == b"\r\n"
    return line, list(items_of(rest))


def sent(of: Request) -> dict[bytes, bytes]:
    """The fields that the server gets; checks that none is repeated."""
    _, items = line_and_fields(request_head(of, SERVER))
    assert len(dict(items)) == len(items)
    return dict(items)


def answered(of: Response, version: int = 1, closes: bool = False) -> dict[bytes, bytes]:
    head = response_head(of, framing_to(version, of), version, closes)
    return dict(line_and_fields(head)[1])


# --- Requests ---


def test_a_request_head_is_rebuilt_from_its_fields() -> None:
    head = request_head(get(b"ACCEPT:  */*  ", b"Cookie: a=b"), SERVER)
    assert head == (
        b"GET /a?b=c HTTP/1.1\r\nHost: site\r\nAccept: */*\r\nCookie: a=b\r\n"
        b"X-Forwarded-Proto: http\r\nForwarded: for=192.0.2.1;proto=http\r\n"
        b"X-Forwarded-For: 192.0.2.1\r\n\r\n"
    )


@pytest.mark.parametrize(
    "field",
    [
        b"Connection: keep-alive",
        b"Keep-Alive: timeout=5",
        b"TE: trailers",
        b"Trailer: X-Sum",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic YTpi",
        b"Proxy-Anything: a",
        b"Proxy: http://evil",
        b"Expect: 100-continue",
    ],
)
def test_a_hop_by_hop_field_is_not_forwarded(field: bytes) -> None:
    assert sent(get(field)) == sent(get())


def test_fields_named_by_connection_are_removed() -> None:
    fields = sent(get(b"Connection: close, X-Private ,x-other", b"X-Private: a", b"X-Other: b"))
    assert fields == sent(get())


def test_connection_cannot_remove_the_gateways_fields() -> None:
    named = b"Connection: Host, Content-Length, X-Forwarded-For, X-Forwarded-Proto, Forwarded"
    assert sent(get(named)) == sent(get())


@pytest.mark.parametrize(
    "field",
    [
        b"Content_Length: 5",
        b"Transfer_Encoding: chunked",
        b"X_Forwarded_For: 127.0.0.1",
        b"X_Forwarded-Proto: https",
        b"Proxy_Authorization: a",
    ],
)
def test_underscores_cannot_bypass_the_removal_of_fields(field: bytes) -> None:
    assert sent(get(field)) == sent(get())
    assert sent(get(b"X_Odd: a"))[b"x_odd"] == b"a"


@pytest.mark.parametrize(
    ("target", "host", "origin"),
    [
        (b"/", b"site", b"/"),
        (b"/a//b?c", b"site", b"/a//b?c"),
        (b"http://other:81/a?b", b"other:81", b"/a?b"),
        (b"HTTPS://other", b"other", b"/"),
        (b"http://other?b", b"other", b"/?b"),
        (b"http://[2001:db8::1]:8/", b"[2001:db8::1]:8", b"/"),
    ],
)
def test_a_target_is_forwarded_in_origin_form_with_its_host(
    target: bytes, host: bytes, origin: bytes
) -> None:
    line, items = line_and_fields(request_head(get(target=target), SERVER))
    assert line == b"GET %b HTTP/1.1" % origin
    assert items[0] == (b"host", host)


@pytest.mark.parametrize(
    "target",
    [b"*", b"a", b"site:80", b"/a#b", b"http:///a", b"http://u@h/", b"ftp://h/", b"http://h,i/"],
)
def test_a_target_of_an_unknown_form_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        request_head(get(target=target), SERVER)


@pytest.mark.parametrize("target", [b"/", b"site:80", b"http://site/"])
def test_connect_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest):
        request_head(request(b"CONNECT %b HTTP/1.1" % target, b"Host: site"), SERVER)


def test_options_may_have_an_asterisk_as_its_target() -> None:
    head = request_head(request(b"OPTIONS * HTTP/1.1", b"Host: a"), SERVER)
    assert head.startswith(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n")


@pytest.mark.parametrize("fields", [(), (b"Host:",)])
def test_a_request_without_a_host_gets_the_address_of_the_server_as_its_host(
    fields: tuple[bytes, ...],
) -> None:
    head = request_head(request(b"GET / HTTP/1.0", *fields), SERVER)
    assert head.startswith(b"GET / HTTP/1.1\r\nHost: web:8080\r\n")


def test_the_address_list_of_a_trusted_proxy_is_kept_and_extended() -> None:
    fields = sent(
        trusted(
            b"X-Forwarded-For: 198.51.100.1",
            b"X-Forwarded-For: 198.51.100.2, 198.51.100.3",
            b"X-Forwarded-Proto: https",
            b"Forwarded: for=198.51.100.1",
        )
    )
    assert fields[b"x-forwarded-for"] == b"198.51.100.1, 198.51.100.2, 198.51.100.3, 192.0.2.1"
    assert fields[b"forwarded"] == b"for=198.51.100.1, for=192.0.2.1;proto=http"
    assert fields[b"x-forwarded-proto"] == b"https"


def test_address_lists_of_untrusted_peers_are_replaced() -> None:
    fields = sent(
        get(
            b"X-Forwarded-For: 198.51.100.1",
            b"X-Forwarded-Proto: https",
            b"Forwarded: for=198.51.100.1",
        )
    )
    assert fields[b"x-forwarded-for"] == b"192.0.2.1"
    assert fields[b"forwarded"] == b"for=192.0.2.1;proto=http"
    assert fields[b"x-forwarded-proto"] == b"http"


@pytest.mark.parametrize(
    "field",
    [
        b"X-Real-IP: 198.51.100.1",
        b"X_Real_IP: 198.51.100.1",
        b"X-Forwarded-Host: evil.example.org",
        b"X_Forwarded_Host: evil.example.org",
        b"X-Forwarded-Port: 443",
        b"X-Forwarded: for=198.51.100.1",
    ],
)
def test_only_trusted_proxies_make_claims_about_clients(field: bytes) -> None:
    assert sent(get(field)) == sent(get())
    name, value = field.split(b": ")
    assert sent(trusted(field))[name.lower()] == value


@pytest.mark.parametrize("value", [b'for="a', b"for", b"for=a;", b"for=a b", b'for="a"b', b";"])
def test_a_malformed_forwarded_is_dropped_even_of_a_trusted_proxy(value: bytes) -> None:
    assert sent(trusted(b"Forwarded: " + value))[b"forwarded"] == b"for=192.0.2.1;proto=http"


@pytest.mark.parametrize("value", [b'"a', b"a,,b", b"a b", b"a;b"])
def test_a_malformed_x_forwarded_for_is_dropped_even_of_a_trusted_proxy(value: bytes) -> None:
    assert sent(trusted(b"X-Forwarded-For: " + value))[b"x-forwarded-for"] == b"192.0.2.1"


def test_a_client_address_is_written_in_the_syntax_of_each_field() -> None:
    fields = sent(get(address="2001:db8::1"))
    assert fields[b"x-forwarded-for"] == b"2001:db8::1"
    assert fields[b"forwarded"] == b'for="[2001:db8::1]";proto=http'
    unknown = sent(get(address=""))
    assert b"x-forwarded-for" not in unknown
    assert unknown[b"forwarded"] == b"for=unknown;proto=http"


def test_a_request_over_tls_is_marked_as_secure() -> None:
    fields = sent(request(b"GET / HTTP/1.1", b"Host: a", secure=True))
    assert fields[b"x-forwarded-proto"] == b"https"
    assert fields[b"forwarded"].endswith(b"proto=https")


def test_a_request_body_keeps_its_framing() -> None:
    post = (b"POST / HTTP/1.1", b"Host: a")
    assert sent(request(*post, b"Content-Length: 007"))[b"content-length"] == b"7"
    assert sent(request(*post, b"Content-Length: 0"))[b"content-length"] == b"0"
    chunked = sent(request(*post, b"Transfer-Encoding: Chunked"))
    assert chunked[b"transfer-encoding"] == b"chunked"
    assert b"content-length" not in chunked
    assert b"content-length" not in sent(request(*post))


def test_expect_is_passed_on_with_a_body() -> None:
    waiting = request(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Expect: 100-Continue")
    assert waiting.waits_for_continue
    assert sent(waiting)[b"expect"] == b"100-continue"


@pytest.mark.parametrize(
    ("method", "fields", "may"),
    [
        (b"GET", (), True),
        (b"HEAD", (), True),
        (b"DELETE", (), True),
        (b"POST", (), False),
        (b"PATCH", (), False),
        (b"get", (), False),
        (b"PUT", (b"Content-Length: 1",), False),
        (b"GET", (b"Transfer-Encoding: chunked",), False),
    ],
)
def test_only_idempotent_requests_may_be_repeated(
    method: bytes, fields: tuple[bytes, ...], may: bool
) -> None:
    assert request(b"%b / HTTP/1.1" % method, b"Host: a", *fields).may_be_repeated is may


# --- WebSocket ---

UPGRADE = (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket")


def test_an_upgrade_to_websocket_is_forwarded() -> None:
    fields = sent(get(*UPGRADE, b"Sec-WebSocket-Key: a"))
    assert fields[b"connection"] == b"Upgrade"
    assert fields[b"upgrade"] == b"websocket"
    assert fields[b"sec-websocket-key"] == b"a"


@pytest.mark.parametrize(
    "lines",
    [
        (b"POST / HTTP/1.1", b"Host: a", *UPGRADE),
        (b"GET / HTTP/1.0", b"Host: a", *UPGRADE),
        (b"GET / HTTP/1.1", b"Host: a", *UPGRADE, b"Content-Length: 1"),
        (b"GET / HTTP/1.1", b"Host: a", UPGRADE[1]),
        (b"GET / HTTP/1.1", b"Host: a", UPGRADE[0], b"Upgrade: h2c"),
        (b"GET / HTTP/1.1", b"Host: a", UPGRADE[0], b"Upgrade: websocket, h2c"),
        (b"GET / HTTP/1.1", b"Host: a", *UPGRADE, b"Upgrade: websocket"),
    ],
)
def test_an_upgrade_that_is_not_one_to_websocket_is_not_forwarded(lines: tuple[bytes, ...]) -> None:
    asked = request(*lines)
    assert b"upgrade" not in sent(asked)
    assert b"connection" not in sent(asked)
    accepted = response(b"HTTP/1.1 101 Switching Protocols", *UPGRADE)
    assert not accepts_upgrade(asked, accepted)


def test_an_accepted_upgrade_is_sent_to_the_client() -> None:
    accepted = response(
        b"HTTP/1.1 101 Switching Protocols", *UPGRADE, b"Sec-WebSocket-Accept: a", b"Keep-Alive: 5"
    )
    assert accepts_upgrade(get(*UPGRADE), accepted)
    assert upgrade_head(accepted) == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-Websocket-Accept: a\r\n\r\n"
    )


def test_a_response_that_upgrades_to_another_protocol_is_not_accepted() -> None:
    assert not accepts_upgrade(
        get(*UPGRADE), response(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: h2c")
    )


# --- Answers ---


def test_a_response_head_is_rebuilt_from_its_fields() -> None:
    of = response(
        b"HTTP/1.0 404 Not  here",
        b"Set-Cookie: a",
        b"Connection: close, x-private",
        b"X-Private: a",
        b"Proxy-Authenticate: Basic",
        b"Set-Cookie: b",
        b"Content-Length: 003",
    )
    assert response_head(of, Framing.LENGTH, 1, closes=False) == (
        b"HTTP/1.1 404 Not  here\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("field", "version", "framing"),
    [
        (b"Content-Length: 1", 1, Framing.LENGTH),
        (b"Content-Length: 1", 0, Framing.LENGTH),
        (b"Transfer-Encoding: chunked", 1, Framing.CHUNKED),
        (b"Transfer-Encoding: chunked", 0, Framing.UNTIL_CLOSE),
        (b"A: b", 1, Framing.CHUNKED),
        (b"A: b", 0, Framing.UNTIL_CLOSE),
    ],
)
def test_a_response_body_has_a_framing_that_the_clients_version_supports(
    field: bytes, version: int, framing: Framing
) -> None:
    of = response(b"HTTP/1.1 200 OK", field)
    assert framing_to(version, of) is framing
    fields = answered(of, version, closes=framing is Framing.UNTIL_CLOSE)
    assert (b"content-length" in fields) is (framing is Framing.LENGTH)
    assert (b"transfer-encoding" in fields) is (framing is Framing.CHUNKED)


def test_a_response_to_head_keeps_its_content_length() -> None:
    of = response(b"HTTP/1.1 200 OK", b"Content-Length: 5", to_head=True)
    assert answered(of) == {b"content-length": b"5"}
    unknown = response(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked", to_head=True)
    assert answered(unknown) == {}


def test_a_204_response_has_no_content_length() -> None:
    assert answered(response(b"HTTP/1.1 204 No Content", b"Content-Length: 0")) == {}


def test_the_connection_field_says_whether_the_connection_persists() -> None:
    of = response(b"HTTP/1.1 200 OK", b"Content-Length: 0")
    assert b"connection" not in answered(of)
    assert answered(of, closes=True)[b"connection"] == b"close"
    assert answered(of, version=0)[b"connection"] == b"keep-alive"


def test_an_interim_response_has_no_framing_fields() -> None:
    early = response(b"HTTP/1.1 103 Early Hints", b"Link: </a>", b"Connection: keep-alive")
    assert interim_head(early) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def test_an_empty_piece_of_a_body_is_not_written_as_the_last_chunk() -> None:
    assert chunk(b"hello world!") == b"c\r\nhello world!\r\n"
    assert chunk(b"") == b""


_NAMES = st.text("abcdefghijklmnopqrstuvwxyz-_", min_size=1, max_size=20).map(str.encode)
_VALUES = st.binary(max_size=20).map(lambda value: bytes(c for c in value if c >= 32 and c != 127))
_OURS = ("connection", "host", "content-length", "transfer-encoding", "upgrade", "expect")


@given(st.lists(st.tuples(_NAMES | st.sampled_from([n.encode() for n in _OURS[:1]]), _VALUES)))
def test_a_head_with_any_fields_is_exactly_one_request_without_a_body(
    items: list[tuple[bytes, bytes]],
) -> None:
    kept = [item for item in items if item[0].decode() not in _OURS[1:]]
    head = request_head(get(*(b"%b: %b" % item for item in kept)), SERVER)
    reader = RequestReader(Limits())
    reader.receive(head)
    fields = reader.next_head()
    assert fields is not None
    assert (reader.buffer, fields.content_length, fields.chunked) == (b"", 0, False)
    assert fields.value(b"host") == b"site"
    assert fields.persistent
