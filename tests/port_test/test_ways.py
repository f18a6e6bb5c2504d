"""Targets, ways, and the URLs made of them."""

from __future__ import annotations

import pytest

from gateway.port_test.ways import DEFAULT_WAYS, Target, Way, parse_target, parse_way


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("media.example.org", Target("media.example.org")),
        ("media.example.org/", Target("media.example.org")),
        ("media.example.org/live", Target("media.example.org", "live")),
        ("192.0.2.1/live/a", Target("192.0.2.1", "live", "a")),
        ("[2001:db8::1]/vod/mp4:a/b.mp4?k=v", Target("2001:db8::1", "vod", "mp4:a/b.mp4?k=v")),
    ],
)
def test_a_target_is_host_application_and_stream(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "expected"),
        ("a b", "expected"),
        ("host:1935/live", "give ports by --way, such as --way rtmp:1935"),
        ("rtmp://host/live", "leave out"),
        ("host//stream", "expected HOST/APP/STREAM"),
        ("::1/live", r'^"::1": expected the IPv6 address in brackets: "\[::1\]"$'),
        # Not "HOST:PORT", which is refused, too.
        ("a..b", r'^"a..b": expected a host name, an IPv4 address or "\[IPV6\]"$'),
        ("[::x]", r'^"\[::x\]": expected a host name, an IPv4 address or "\[IPV6\]"$'),
        ("", r'^"": expected a host name, an IPv4 address or "\[IPV6\]"$'),
        ("host:99999", "is not a number up to 65535"),
        ("[::1]:1935", "give ports by --way, such as --way rtmp:1935"),
    ],
)
def test_a_wrong_target_is_refused_with_its_cause(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        parse_target(text)


def test_the_stream_is_not_in_the_representation() -> None:
    assert "secret" not in repr(parse_target("host/live/secret"))


@pytest.mark.parametrize(
    ("text", "way"),
    [
        ("rtmp", "rtmp:1935"),
        ("rtmpt", "rtmpt:80"),
        ("rtmps", "rtmps:443"),
        ("rtmpts:8443", "rtmpts:8443"),
    ],
)
def test_a_way_has_the_port_of_its_protocol_if_none_is_given(text: str, way: str) -> None:
    assert str(parse_way(text)) == way


@pytest.mark.parametrize(
    "text", ["", "rtmfp", "rtmp:", "rtmp:0", "rtmp:65536", "rtmp:x", "rtmp:-1"]
)
def test_a_wrong_way_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_way(text)


def test_the_usual_ways_are_tried() -> None:
    assert [str(way) for way in DEFAULT_WAYS] == [
        *("rtmp:1935", "rtmp:443", "rtmp:80"),
        *("rtmpt:80", "rtmpt:443", "rtmpt:8080"),
        *("rtmps:443", "rtmpts:443"),
    ]


@pytest.mark.parametrize(
    ("host", "way", "url"),
    [
        ("host", "rtmp", "rtmp://host/live"),
        ("host", "rtmp:443", "rtmp://host:443/live"),
        ("2001:db8::1", "rtmpts", "rtmpts://[2001:db8::1]/live"),
    ],
)
def test_a_url_has_a_port_only_if_it_is_not_the_usual_one(host: str, way: str, url: str) -> None:
    assert Target(host, "live").url(parse_way(way)) == url


def test_only_plain_rtmp_passes_by_proxies() -> None:
    proxied = {way.protocol.value for way in DEFAULT_WAYS if way.proxied}
    assert proxied == {"rtmpt", "rtmps", "rtmpts"}
    assert not Way(parse_way("rtmp").protocol, 80).proxied
