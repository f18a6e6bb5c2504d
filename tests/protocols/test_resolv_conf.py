"""The settings in resolv.conf, and the names that they make of a host."""

from __future__ import annotations

import pytest

from gateway.protocols.resolv_conf import ResolverSettings, parse_resolver_settings

_KUBERNETES = """# made by the kubelet
search media.svc.cluster.local svc.cluster.local cluster.local.
nameserver 10.96.0.10
nameserver not-an-address
nameserver fd00::10
options ndots:5 timeout:1
"""


def test_servers_the_search_list_and_ndots_are_read() -> None:
    assert parse_resolver_settings(_KUBERNETES) == ResolverSettings(
        (("10.96.0.10", 53), ("fd00::10", 53)),
        ("media.svc.cluster.local", "svc.cluster.local", "cluster.local"),
        5,
    )


@pytest.mark.parametrize(
    "text",
    ["", "nameserver", "options ndots:x ndots:٣ ndots", "search", "\0", "sortlist x", "search ."],
)
def test_without_settings_the_server_is_that_of_this_machine(text: str) -> None:
    assert parse_resolver_settings(text) == ResolverSettings((("127.0.0.1", 53),))


def test_long_lists_are_cut_as_the_system_does() -> None:
    lines = [f"nameserver 192.0.2.{number}" for number in range(9)]
    text = "\n".join([*lines, "search " + " ".join("abcdefghij"), "options ndots:99"])
    found = parse_resolver_settings(text)
    assert (len(found.servers), len(found.search), found.ndots) == (3, 6, 15)


@pytest.mark.parametrize(
    ("host", "candidates"),
    [
        ("media", ("media.example.org", "media")),
        ("media.example", ("media.example", "media.example.example.org")),
        ("media.example.", ("media.example",)),
    ],
)
def test_names_with_fewer_dots_than_ndots_are_searched_first(
    host: str, candidates: tuple[str, ...]
) -> None:
    settings = ResolverSettings(search=("example.org",))
    assert settings.candidates(host) == candidates
