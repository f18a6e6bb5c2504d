"""The client's arguments: settings, defaults, and one line for each wrong one."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from gateway.client.arguments import parse
from gateway.client.settings import Settings
from gateway.http_proxies import NO_PROXIES

FOUR = ("rtmp:1935", "rtmps:443", "rtmpt:80", "rtmpts:443")


def all_on(port: int) -> tuple[str, ...]:
    return tuple(f"{protocol}:{port}" for protocol in ("rtmp", "rtmps", "rtmpt", "rtmpts"))


def settings_of(*words: str, **environment: str) -> Settings:
    return parse(("--gateway", "media.example.org", *words), environment)


def refusal(capsys: pytest.CaptureFixture[str], *words: str, status: int = 2) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(words, {})
    assert caught.value.code == status
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rtmpt-client: ")
    return lines[0]


def test_the_gateway_is_enough() -> None:
    settings = settings_of()
    assert settings.host == "media.example.org"
    assert tuple(map(str, settings.ways)) == FOUR
    assert tuple(map(str, settings.listen)) == ("127.0.0.1:1935",)
    assert (settings.metrics, settings.state_file) == (None, None)
    assert (settings.most_connections, settings.timeout_s) == (32, 10.0)
    assert settings.context.verify_mode is ssl.CERT_REQUIRED
    assert settings.context.check_hostname


@pytest.mark.parametrize(
    ("gateway", "host", "ways"),
    [
        ("192.0.2.1", "192.0.2.1", FOUR),
        ("[2001:db8::1]", "2001:db8::1", FOUR),
        ("a.example:1936", "a.example", all_on(1936)),
        ("a.example:80", "a.example", all_on(80)),
        ("a.example:1935", "a.example", all_on(1935)),
        ("rtmpts://a.example", "a.example", ("rtmpts:443",)),
        ("rtmp://[2001:db8::1]:1936", "2001:db8::1", ("rtmp:1936",)),
    ],
)
def test_the_gateway_is_a_host_a_port_of_it_or_a_url(
    gateway: str, host: str, ways: tuple[str, ...]
) -> None:
    settings = parse(("--gateway", gateway), {})
    assert settings.host == host
    assert tuple(map(str, settings.ways)) == ways


def test_ways_are_those_that_are_given_in_their_order() -> None:
    settings = settings_of("--way", "rtmpts", "--way", "rtmp:80", "--way", "rtmpts:443")
    assert tuple(map(str, settings.ways)) == ("rtmpts:443", "rtmp:80")


def test_the_other_options() -> None:
    settings = settings_of(
        *("--listen", "127.0.0.1:0", "--listen", "unix:/run/x", "--metrics", "[::1]:9136"),
        *("--connections", "5", "--timeout", "2.5", "--state", "/var/lib/x.json"),
        *("--log-level", "debug"),
    )
    assert tuple(map(str, settings.listen)) == ("127.0.0.1:0", "unix:/run/x")
    assert str(settings.metrics) == "[::1]:9136"
    assert (settings.most_connections, settings.timeout_s) == (5, 2.5)
    assert settings.state_file == Path("/var/lib/x.json")
    assert settings.log_level == "debug"


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/h"}, "/var/lib/a/ways.json"),
        ({"XDG_STATE_HOME": "/s", "HOME": "/h"}, "/s/rtmpt-client/ways.json"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/rtmpt-client/ways.json"),
        ({"HOME": "/h"}, "/h/.local/state/rtmpt-client/ways.json"),
    ],
)
def test_the_state_file_is_in_the_directory_of_the_service_or_user(
    environment: dict[str, str], path: str
) -> None:
    assert settings_of(**environment).state_file == Path(path)
    assert settings_of("--state", "none", **environment).state_file is None


def test_certificates_are_verified_by_the_authorities_in_a_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    file = tmp_path / "root.pem"
    file.write_bytes(authority.cert_pem.bytes())
    context = settings_of("--ca", str(file)).context
    assert len(context.get_ca_certs()) == 1
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("option", ["--listen", "--metrics"])
@pytest.mark.parametrize("address", ["0.0.0.0:1935", "[::]:1935", "192.0.2.1:1935"])
def test_addresses_that_other_machines_can_reach_must_be_permitted(
    capsys: pytest.CaptureFixture[str], option: str, address: str
) -> None:
    words = ("--gateway", "a.example", option, address)
    assert "permit it by --allow-remote" in refusal(capsys, *words)
    assert parse((*words, "--allow-remote"), {}).allows_remote


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ((), "required: --gateway"),
        (("--gateway", "http://a.example"), 'argument --gateway: "http://a.example"'),
        (("--gateway", "rtmp://a.example/live"), "leave out the path"),
        (("--gateway", "a b"), 'argument --gateway: "a b"'),
        (("--gateway", "a", "--way", "http"), "argument --way: "),
        (("--gateway", "a", "--way", "rtmp:0"), "expected a port from 1 to 65535"),
        (("--gateway", "a:1", "--way", "rtmp"), "give the gateway by its host alone"),
        (("--gateway", "rtmp://a", "--way", "rtmp"), "give the gateway by its host alone"),
        (("--gateway", "a", *("--way", "rtmp") * 17), "at most 16 ways"),
        (("--gateway", "a", "--listen", "localhost:1"), '"127.0.0.1:1" (IPv4)'),
        (("--gateway", "a", "--metrics", "unix:/x"), "expected an IP address and a port"),
        (("--gateway", "a", "--timeout", "0.5"), "expected seconds from 1 to 120"),
        (("--gateway", "a", "--timeout", "nan"), "expected seconds from 1 to 120"),
        (("--gateway", "a", "--connections", "0"), "expected a number from 1 to 10000"),
        (("--gateway", "a", "--connections", "1" * 5000), "expected a number from 1 to 10000"),
        (("--gateway", "a", "--log-level", "loud"), "argument --log-level: "),
        (("--gateway", "127.0.0.1"), "is this program's own --listen 127.0.0.1:1935"),
        (("--gateway", "localhost"), "is this program's own --listen 127.0.0.1:1935"),
        (("--gateway", "LocalHost."), "is this program's own --listen 127.0.0.1:1935"),
        (
            ("--gateway", "127.0.0.2", "--listen", "0.0.0.0:1935", "--allow-remote"),
            "is this program's own --listen 0.0.0.0:1935",
        ),
        (
            ("--gateway", "rtmpe://a"),
            '"rtmpe://a": expected one of rtmp://, rtmps://, rtmpt://, rtmpts://; RTMPE passes',
        ),
        (
            ("--gateway", "rtmp://_rtmp._tcp.a.example"),
            "expected a host, not the name of SRV records",
        ),
        (("--gateway", "::1"), 'expected the IPv6 address in brackets: "[::1]"'),
        (("--gateway", "a", "more"), "unrecognized arguments: more"),
    ],
)
def test_a_wrong_argument_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], cause: str
) -> None:
    assert cause in refusal(capsys, *words)


def test_a_file_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "root.pem"
    for text, cause in ((None, "cannot be read"), ("x", "no certificate that can be read")):
        if text is not None:
            file.write_text(text)
        line = refusal(capsys, "--gateway", "a", "--ca", str(file), status=1)
        assert cause in line
        assert "gateway's user" not in line


def test_another_address_of_a_port_is_not_this_programs_own() -> None:
    words = ("--gateway", "192.0.2.1", "--listen", "0.0.0.0:1935", "--allow-remote")
    assert parse(words, {}).host == "192.0.2.1"


# --- Proxies ---

_DIRECT = ("rtmp:1935", "rtmps:443", "rtmpt:80", "rtmpts:443")
_PROXIED = tuple(f"{way} by proxy" for way in _DIRECT)


def test_an_option_has_every_way_go_through_the_proxy_whatever_the_environment_says() -> None:
    settings = settings_of("--proxy", "http://ann:secret@p:1", https_proxy="http://other:2")
    assert tuple(map(str, settings.ways)) == _PROXIED
    assert str(settings.proxies.plain) == str(settings.proxies.secure) == "http://p:1"
    assert "secret" not in repr(settings)


def test_the_proxies_of_the_environment_come_first_and_the_ways_past_them_last() -> None:
    both = {"http_proxy": "http://p:1", "https_proxy": "http://p:1"}
    expected = ("rtmp:1935", *_PROXIED[1:], _PROXIED[0], *_DIRECT[1:])
    assert tuple(map(str, settings_of(**both).ways)) == expected
    # CONNECT is asked of the proxy for TLS alone.
    plain = ("rtmp:1935", "rtmps:443", "rtmpt:80 by proxy", "rtmpts:443", "rtmpt:80")
    assert tuple(map(str, settings_of(http_proxy="p:1").ways)) == plain


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (("--no-proxy",), {"all_proxy": "http://p:1"}),
        ((), {"all_proxy": "http://p:1", "no_proxy": "example.org"}),
    ],
)
def test_no_proxy_leaves_the_ways_as_they_are(
    words: tuple[str, ...], environment: dict[str, str]
) -> None:
    settings = settings_of(*words, **environment)
    assert tuple(map(str, settings.ways)) == _DIRECT
    assert settings.proxies == NO_PROXIES


def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = "socks5://ann:secret@p"
    said = refusal(capsys, "--gateway", "a", "--proxy", wrong)
    assert 'argument --proxy: "socks5://p": expected http://' in said
    with pytest.raises(SystemExit):
        settings_of(all_proxy=wrong)
    said = capsys.readouterr().err
    assert 'environment: all_proxy: "socks5://p": expected http://' in said
    assert "or give --no-proxy; see" in said
