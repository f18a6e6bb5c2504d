"""The proxy of each protocol, from the environment or a URL."""

from __future__ import annotations

import pytest

from gateway.addresses import ServerAddress
from gateway.http_proxies import Proxies, ProxyURL, parse_proxy, proxies_of
from gateway.protocols.proxy_client.digest import Credentials


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
    assert parse_proxy(text) == ProxyURL(server)


def test_credentials_are_decoded_and_not_shown() -> None:
    proxy = parse_proxy("http://ann:p%40ss:w%C3%A9@proxy:3128")
    assert proxy.credentials == Credentials("ann", "p@ss:wé")
    assert parse_proxy("ann@proxy").credentials == Credentials("ann", "")
    for shown in (str(proxy), repr(proxy)):
        assert "ann" not in shown
        assert "ss:w" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "https://ann:secret@proxy",
        "socks5://ann:secret@proxy",
        "http://ann:secret@",
        "http://ann:secret@p/x",
        "http://ann:secret%0d%0ax@p",
        # Not encoded: urlsplit ends the authority there, or refuses it with a text that has all of it.
        "http://ann:secret/x@p:1",
        "http://ann:secret?x@p:1",
        "http://ann:secret#x@p:1",
        "http://ann:secret\u2100x@p:1",
        "http://ann:[secret]@p:1",
    ],
)
def test_another_url_is_refused_without_its_credentials(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|control character|percent-encoded") as refused:
        parse_proxy(text)
    assert "secret" not in str(refused.value)


def test_the_environment_has_a_proxy_for_http_and_one_for_tls() -> None:
    environment = {"http_proxy": "http://plain:1", "HTTPS_PROXY": "http://secure:2"}
    proxies = proxies_of(environment, "media.example.org")
    plain, secure = ServerAddress("plain", 1), ServerAddress("secure", 2)
    assert proxies == Proxies(ProxyURL(plain), ProxyURL(secure))


def test_all_proxy_is_for_what_has_no_proxy_of_its_own() -> None:
    both, own = ProxyURL(ServerAddress("both", 1)), ProxyURL(ServerAddress("own", 2))
    assert proxies_of({"all_proxy": "both:1"}, "host") == Proxies(both, both)
    assert proxies_of({"ALL_PROXY": "both:1", "https_proxy": "own:2"}, "host") == Proxies(both, own)


@pytest.mark.parametrize(
    "excluded", ["*", "example.org", ".example.org", "other, media.example.org"]
)
def test_no_proxy_excludes_hosts(excluded: str) -> None:
    environment = {"http_proxy": "http://plain:1", "no_proxy": excluded}
    assert proxies_of(environment, "media.example.org") == Proxies()
    assert proxies_of({**environment, "no_proxy": "example.com"}, "media.example.org") != Proxies()


@pytest.mark.parametrize(
    ("network", "host", "excludes"),
    [
        ("10.0.0.0/8", "10.1.2.3", True),
        ("192.0.2.0/24, 10.1.0.0/16", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "10.example.org", False),
        ("10.0.0.0/88", "10.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
    ],
)
def test_no_proxy_excludes_networks_of_addresses(network: str, host: str, excludes: bool) -> None:
    found = proxies_of({"http_proxy": "http://plain:1", "no_proxy": network}, host)
    assert (found == Proxies()) is excludes


def test_a_wrong_proxy_of_the_environment_is_refused_with_its_variable() -> None:
    with pytest.raises(ValueError, match=r"^https_proxy: "):
        proxies_of({"https_proxy": "socks5://proxy"}, "host")
    with pytest.raises(ValueError, match=r"^all_proxy: "):
        proxies_of({"all_proxy": "socks5://proxy"}, "host")
