"""The proxy of each protocol, from the environment or a URL."""

from __future__ import annotations

from base64 import b64decode

import pytest

from gateway.addresses import ServerAddress
from gateway.port_test.proxies import Proxies, Proxy, parse_proxy, proxies_of
from gateway.port_test.ways import parse_way


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("http://proxy.example.org:3128", ServerAddress("proxy.example.org", 3128)),
        ("http://proxy:3128/", ServerAddress("proxy", 3128)),
        ("proxy:3128", ServerAddress("proxy", 3128)),
        ("http://[2001:db8::1]:8080", ServerAddress("2001:db8::1", 8080)),
        ("proxy", ServerAddress("proxy", 1080)),
    ],
)
def test_a_proxy_is_written_as_a_url_or_without_its_scheme(
    text: str, server: ServerAddress
) -> None:
    assert parse_proxy(text) == Proxy(server)


def test_credentials_are_decoded_and_not_shown() -> None:
    proxy = parse_proxy("http://ann:p%40ss:w@proxy:3128")
    assert proxy.authorization is not None
    kind, _, value = proxy.authorization.partition(" ")
    assert (kind, b64decode(value)) == ("Basic", b"ann:p@ss:w")
    assert "ann" not in str(proxy) + repr(proxy)
    assert value not in str(proxy) + repr(proxy)


@pytest.mark.parametrize(
    "text",
    [
        "https://ann:secret@proxy",
        "socks5://ann:secret@proxy",
        "http://ann:secret@",
        "http://ann:secret@p/x",
    ],
)
def test_another_url_is_refused_without_its_credentials(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        parse_proxy(text)
    assert "secret" not in str(refused.value)


def test_the_environment_has_a_proxy_for_http_and_one_for_tls() -> None:
    environment = {"http_proxy": "http://plain:1", "HTTPS_PROXY": "http://secure:2"}
    proxies = proxies_of(environment, "media.example.org")
    found = {
        name: proxies.proxy_for(parse_way(name)) for name in ("rtmp", "rtmpt", "rtmps", "rtmpts")
    }
    plain, secure = Proxy(ServerAddress("plain", 1)), Proxy(ServerAddress("secure", 2))
    assert found == {"rtmp": None, "rtmpt": plain, "rtmps": secure, "rtmpts": secure}


@pytest.mark.parametrize(
    "excluded", ["*", "example.org", ".example.org", "other, media.example.org"]
)
def test_no_proxy_excludes_hosts(excluded: str) -> None:
    environment = {"http_proxy": "http://plain:1", "no_proxy": excluded}
    assert proxies_of(environment, "media.example.org") == Proxies()
    assert proxies_of({**environment, "no_proxy": "example.com"}, "media.example.org") != Proxies()


def test_a_wrong_proxy_of_the_environment_is_refused_with_its_variable() -> None:
    with pytest.raises(ValueError, match=r"^https_proxy: "):
        proxies_of({"https_proxy": "socks5://proxy"}, "host")
