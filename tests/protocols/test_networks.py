from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.protocols.networks import Admission, Networks, client_network


def networks(*texts: str) -> Networks:
    return Networks.of(ip_network(text) for text in texts)


def admission(allow: str = "", deny: str = "") -> Admission:
    return Admission.of(map(ip_network, allow.split()), map(ip_network, deny.split()))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["11.0.0.0", "9.255.255.255", "::a00:1"]),
        ("192.0.2.1/32", ["192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        ("0.0.0.0/0", ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", "2001:db8::1"]),
        ("2001:db8::/32", ["2001:db8::", "2001:db8:ffff::1"], ["2001:db9::", "32.1.13.184"]),
        ("::/0", ["::1", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0"], ["fec0::1%eth0"]),
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.1.2.3"], ["11.1.2.3", "::ffff:11.0.0.0"]),
        ("::ffff:0:0/96", ["10.1.2.3", "255.255.255.255"], ["::1"]),
    ],
)
def test_a_network_contains_its_addresses(
    network: str, inside: list[str], outside: list[str]
) -> None:
    held = networks(network)
    assert [address for address in inside + outside if held.holds(address)] == inside


@given(st.ip_addresses(v=4), st.integers(0, 32))
def test_an_ipv4_address_mapped_to_ipv6_is_the_same_address(
    address: IPv4Address, prefix: int
) -> None:
    held = networks(str(ip_network((address, prefix), strict=False)))
    mapped = IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
    assert held.holds(str(address))
    assert held.holds(str(mapped))


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 32))
def test_any_other_address_matches_as_in_ipaddress(
    address: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address, prefix: int
) -> None:
    assume(getattr(address, "ipv4_mapped", None) is None)
    network = ip_network((other, prefix), strict=False)
    assert Networks.of([network]).holds(str(address)) == (address in network)


def test_an_empty_list_of_networks_has_no_address() -> None:
    assert not networks()
    assert not networks().holds("192.0.2.1")


@pytest.mark.parametrize("address", ["", "unix", "192.0.2.1:80", "[::1]", "1.2.3"])
def test_an_invalid_address_is_in_no_network(address: str) -> None:
    assert not networks("0.0.0.0/0", "::/0").holds(address)


@pytest.mark.parametrize(
    ("allow", "deny", "permitted"),
    [
        ("", "", True),
        ("192.0.2.0/24", "", True),
        ("198.51.100.0/24", "", False),
        ("198.51.100.0/24 192.0.2.1/32", "", True),
        ("2001:db8::/32", "", False),
        ("", "192.0.2.0/24", False),
        ("", "198.51.100.0/24", True),
        ("192.0.2.1/32", "192.0.2.0/24", False),
        ("192.0.2.0/24", "192.0.2.0/28", False),
        ("192.0.2.0/24", "192.0.2.128/25", True),
    ],
)
def test_deny_has_precedence_and_an_empty_allow_permits_all(
    allow: str, deny: str, permitted: bool
) -> None:
    rule = admission(allow, deny)
    assert rule.permits("192.0.2.1") is permitted
    assert rule.permits("::ffff:192.0.2.1") is permitted


def test_a_peer_without_an_address_is_admitted_only_if_the_listener_has_no_rules() -> None:
    assert admission().permits("")
    assert admission(deny="10.0.0.0/8").permits("")
    assert not admission(allow="0.0.0.0/0 ::/0").permits("")


def test_clients_are_told_apart_by_ipv4_address_or_ipv6_network() -> None:
    assert client_network("192.0.2.1") != client_network("192.0.2.2")
    assert client_network("::ffff:192.0.2.1") == client_network("192.0.2.1")
    assert client_network("2001:db8:1:2::5") == client_network("2001:db8:1:2:ffff::")
    assert client_network("2001:db8:1:3::5") != client_network("2001:db8:1:2::5")
    assert client_network("fe80::1%eth0") == client_network("fe80::2")
    # The peer of a UNIX socket.
    assert client_network("") == ""
