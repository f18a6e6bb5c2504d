"""The key of a network, and the default routes in Linux' tables."""

from __future__ import annotations

import pytest

from gateway.client import network
from gateway.client.network import default_routes, network_key

V4 = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
wlan0	00000000	0102A8C0	0003	0	0	600	00000000	0	0	0
wlan0	0002A8C0	00000000	0001	0	0	600	00FFFFFF	0	0	0
"""
V6 = """\
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001    wlan0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fe80000000000000020000fffe000001 00000400 00000001 00000000 00000003    wlan0
"""


def test_default_routes_are_found_in_both_tables() -> None:
    assert default_routes(V4) == ["0102A8C0"]
    assert default_routes(V6) == ["fe80000000000000020000fffe000001"]


@pytest.mark.parametrize("table", ["", "\n\n", "a b c", V4[:100], V6[:100]])
def test_tables_without_a_default_route_have_none(table: str) -> None:
    assert default_routes(table) == []


def test_the_key_depends_on_gateway_proxy_route_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"route": V4, "ipv6_route": V6}
    monkeypatch.setattr(network, "_read", lambda path: tables[path.name])

    def key(gateway: str = "a", host: str = "127.0.0.1", proxy: str = "") -> str:
        return network_key(gateway, [host], proxy)

    first = key()
    assert first == key() == key(host="127.0.0.2")
    others = {first, key(gateway="b"), key(proxy="p"), key(host="256.0.0.1")}
    assert len(others) == 4
    tables["route"] = V4.replace("0102A8C0", "0103A8C0")
    assert key() not in others
    assert len(first) == 32


def test_the_key_of_this_machines_network_can_be_made() -> None:
    assert network_key("a.example", ["192.0.2.1", "2001:db8::1", "fe80::1%lo"]).isalnum()
