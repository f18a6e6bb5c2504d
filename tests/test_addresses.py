"""Parsing of configured addresses."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.addresses import (
    ListenAddress,
    ServerAddress,
    SystemdAddress,
    TcpAddress,
    UnixAddress,
    overlap,
    parse_listen_address,
    parse_network,
    parse_peer,
    parse_server,
    parse_website,
    quoted,
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:80", TcpAddress("0.0.0.0", 80)),
        ("127.0.0.1:0", TcpAddress("127.0.0.1", 0)),
        ("[::]:80", TcpAddress("::", 80)),
        ("[fe80::1%eth0]:65535", TcpAddress("fe80::1%eth0", 65535)),
        ("systemd:http", SystemdAddress("http")),
        ("unix:/run/rtmpt-gateway/http.sock", UnixAddress("/run/rtmpt-gateway/http.sock")),
    ],
)
def test_a_listening_address_is_formatted_as_it_was_parsed(
    text: str, address: ListenAddress
) -> None:
    assert parse_listen_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "80", ":80", "*:80", "localhost:80", "0.0.0.0", "0.0.0.0:", "0.0.0.0:x"),
        *("0.0.0.0:65536", "0.0.0.0:-1", "0.0.0.0:8 0", "0.0.0.0:80 ", "0.0.0.0:٣"),
        *("LOCALHOST:80", "[::ffff:127.0.0.1]:80", "localhost:x"),
        *("::80", "[::]", "[::]80", "[::", "[0.0.0.0]:80", "[]:80", "1.2.3:80", "256.1.1.1:80"),
        *("unix:", "unix:relative", "unix:/a\0b", "unix:/a\nb", "unix:/" + 107 * "a"),
        *("systemd:", "systemd:a:b", "systemd:a b", "tcp:80"),
        *(80, None, True, ["0.0.0.0:80"]),
    ],
)
def test_an_invalid_listening_address_is_refused_with_its_value_in_the_error(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected|number up to 65535|shorter") as refusal:
        parse_listen_address(text)
    assert str(refusal.value).startswith(quoted(text))


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        (":80", '"0.0.0.0:80" (all IPv4 addresses) or "[::]:80" (all IPv6 addresses)'),
        ("*:8080", '"0.0.0.0:8080" (all IPv4 addresses) or "[::]:8080" (all IPv6 addresses)'),
        ("443", '"0.0.0.0:443" (all IPv4 addresses) or "[::]:443" (all IPv6 addresses)'),
        ("localhost:80", '"127.0.0.1:80" (IPv4) or "[::1]:80" (IPv6)'),
    ],
)
def test_a_short_form_is_refused_with_the_full_address_in_the_error(text: str, forms: str) -> None:
    with pytest.raises(ValueError, match="such as") as refusal:
        parse_listen_address(text)
    assert str(refusal.value) == (
        f'"{text}": expected an address such as {forms}; for both, two listeners'
    )
    for form in forms.split('"')[1::2]:
        parse_listen_address(form)


def test_an_ipv4_mapped_address_is_refused_with_the_ipv4_address_in_the_error() -> None:
    with pytest.raises(ValueError, match=r'expected the IPv4 address itself: "192\.0\.2\.1:80"'):
        parse_listen_address("[::ffff:192.0.2.1]:80")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("[::]:80", "[::1]:80", True),
        ("[::0]:80", "[0:0::]:80", True),
        ("[::1]:80", "[0:0::1]:80", True),
        ("0.0.0.0:80", "[::]:80", False),
        ("127.0.0.1:80", "[::]:80", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("0.0.0.0:80", "0.0.0.0:81", False),
        ("0.0.0.0:0", "0.0.0.0:0", False),
        ("[fe80::1%a]:80", "[fe80::1%b]:80", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "127.0.0.1:80", False),
        ("systemd:a", "systemd:a", True),
    ],
)
def test_addresses_overlap_if_the_system_would_refuse_the_second(
    one: str, other: str, expected: bool
) -> None:
    first, second = parse_listen_address(one), parse_listen_address(other)
    assert overlap(first, second) is expected
    assert overlap(second, first) is expected


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("media.example.org:1936", "media.example.org", 1936),
        ("media.example.org", "media.example.org", 1935),
        ("media.example.org.", "media.example.org.", 1935),
        ("media_1", "media_1", 1935),
        ("127.0.0.1", "127.0.0.1", 1935),
        ("127.0.0.1:19350", "127.0.0.1", 19350),
        ("[::1]", "::1", 1935),
        ("[2001:db8::1]:1936", "2001:db8::1", 1936),
    ],
)
def test_the_default_port_of_a_server_is_1935(text: str, host: str, port: int) -> None:
    assert parse_server(text) == ServerAddress(host, port)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ":1935",
            "media:",
            "media:0",
            "media:65536",
            "media:rtmp",
            "me dia",
            "-media",
            "a..b",
        ),
        *("::1", "[::1", "[media]:1", "300.1.1.1", "1.2.3", "media/live"),
        *("user@media", "a" * 64, ".".join(["a" * 60] * 5), "media\n:1", 1935, None),
    ],
)
def test_an_invalid_server_is_refused_with_its_value_in_the_error(text: object) -> None:
    with pytest.raises(ValueError, match=r"expected|number up to 65535|from 1 to 65535") as refusal:
        parse_server(text)
    assert str(refusal.value).startswith(quoted(text))


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("rtmp://media", ServerAddress("media", 1935)),
        ("rtmps://media", ServerAddress("media", 443, "rtmps")),
        ("rtmpt://media", ServerAddress("media", 80, "rtmpt")),
        ("rtmpts://media", ServerAddress("media", 443, "rtmpts")),
        ("rtmpe://media", ServerAddress("media", 1935, "rtmpe")),
        ("rtmpte://media", ServerAddress("media", 80, "rtmpte")),
        ("RTMPS://media:1936", ServerAddress("media", 1936, "rtmps")),
        ("rtmps://[::1]", ServerAddress("::1", 443, "rtmps")),
        ("rtmps://192.0.2.1:1", ServerAddress("192.0.2.1", 1, "rtmps")),
    ],
)
def test_a_server_is_also_a_url_with_the_default_port_of_its_scheme(
    text: str, server: ServerAddress
) -> None:
    assert parse_server(text) == server
    assert parse_server(str(server)) == server


@pytest.mark.parametrize(
    ("text", "scheme", "url"),
    [
        ("_rtmp._tcp.example.org", "rtmp", "rtmp://example.org"),
        ("rtmps://_rtmps._TCP.example.org", "rtmps", "rtmps://example.org"),
    ],
)
def test_the_name_of_srv_records_stands_for_their_servers(text: str, scheme: str, url: str) -> None:
    found = parse_server(text)
    assert found == ServerAddress(text.rpartition("/")[2], 0, scheme)
    assert found.is_service
    assert (found.domain, found.url, str(found)) == ("example.org", url, text)


@pytest.mark.parametrize("text", ["_rtmp._tcp.a:1935", "rtmps://_rtmps._tcp.a:443"])
def test_the_name_of_srv_records_has_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="leave out the port; the SRV records have it") as refusal:
        parse_server(text)
    assert str(refusal.value).startswith(quoted(text))


@pytest.mark.parametrize(
    "text", ["_rtmp.example.org", "_rtmp._udp.example.org", "_tcp.a", "a_tcp.b"]
)
def test_other_names_with_underscores_are_those_of_hosts(text: str) -> None:
    assert parse_server(text) == ServerAddress(text, 1935)


def test_a_server_of_plain_rtmp_is_formatted_without_its_scheme() -> None:
    assert str(parse_server("rtmp://media")) == "media:1935"
    assert str(parse_server("rtmps://media")) == "rtmps://media:443"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("rtmp://media/live", 'leave out the path "/live"; clients send their own'),
        ("rtmps://[::1]/", 'leave out the path "/"; clients send their own'),
        ("rtmp://media?key=x", 'leave out the path "?key=x"; clients send their own'),
        ("rtmp://media#x", 'leave out the path "#x"; clients send their own'),
        ("rtmps://me:pass@media", 'leave out the user name "me:pass@"; clients send their own'),
        ("rtmp://", 'expected "HOST:PORT", "IPV4:PORT" or "[IPV6]:PORT"'),
        ("rtmps://media:x", 'port "x" is not a number up to 65535'),
        ("rtmps://media:0", "expected a port from 1 to 65535"),
        ("rtmps://::1", 'expected the IPv6 address in brackets: "[::1]"'),
        ("rtmps://::x", 'expected "HOST:PORT", "IPV4:PORT" or "[IPV6]:PORT"'),
        (
            "http://media",
            (
                'expected one of "rtmp://", "rtmps://", "rtmpt://", "rtmpts://", "rtmpe://", "rtmpte://",'
                " or none of them"
            ),
        ),
    ],
)
def test_an_invalid_url_of_a_server_is_refused_with_the_cause(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=r"expected|leave out|port") as refusal:
        parse_server(text)
    assert str(refusal.value) == f"{quoted(text)}: {cause}"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("http://site.example.org/live", 'leave out "http://" and the path'),
        ("http://site:1935/live/x?y=z", 'leave out "http://" and the path'),
        ("http://[::1]/", 'leave out "http://" and the path'),
        ("rtmp://media", 'leave out "rtmp://"'),
        ("HTTP://site:8134", 'leave out "HTTP://"'),
        ("http://", 'leave out "http://"'),
    ],
)
def test_the_url_of_a_website_or_a_peer_is_refused_with_the_parts_to_remove_in_the_error(
    text: str, advice: str
) -> None:
    for parse in (parse_website, parse_peer):
        with pytest.raises(ValueError, match="leave out") as refusal:
            parse(text)
        assert str(refusal.value) == f"{quoted(text)}: {advice}"


def test_an_ipv6_address_is_formatted_in_brackets() -> None:
    assert str(ServerAddress("::1", 1935)) == "[::1]:1935"
    assert str(ServerAddress("media", 1935)) == "media:1935"


def test_the_default_port_of_a_website_is_80() -> None:
    assert parse_website("site") == ServerAddress("site", 80)
    assert parse_website("site:8134") == ServerAddress("site", 8134)


def test_the_default_port_of_a_peer_is_1936() -> None:
    assert parse_peer("10.0.0.2") == ServerAddress("10.0.0.2", 1936)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"])
def test_a_network_or_a_single_address_is_parsed(text: str) -> None:
    assert parse_network(text) == ip_network(text)


def test_a_network_with_host_bits_is_refused_with_the_network_in_the_error() -> None:
    with pytest.raises(ValueError, match=r'did you mean "10\.0\.0\.0/8"'):
        parse_network("10.1.2.3/8")


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "10.0.0", "example.org", 10, None, True])
def test_an_invalid_network_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_network(text)


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::", False)]
)
def test_loopback_addresses_are_recognised(host: str, loopback: bool) -> None:
    assert TcpAddress(host, 1).is_loopback is loopback


def test_a_quoted_value_is_shortened_to_one_line() -> None:
    assert quoted("é\n\x1b[31m\x9b\u2028") == '"é\\n\\u001b[31m\\u009b\\u2028"'
    assert quoted("x" * 1000) == f'"{"x" * 55}..."'
    assert quoted(["x" * 1000]) == f'["{"x" * 55}...'
