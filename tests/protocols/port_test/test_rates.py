"""Rates of the port test."""

from __future__ import annotations

from gateway.protocols.port_test.rates import Rate, Rates

MANY = Rate(1000, 1000)


def test_an_address_gets_its_burst_and_then_its_rate() -> None:
    rates = Rates(Rate(3, 0.5), MANY)
    assert [rates.take("192.0.2.1", 1, 0.0) for _ in range(4)] == [True, True, True, False]
    assert rates.take("192.0.2.2", 1, 0.0)
    assert not rates.take("192.0.2.1", 1, 1.9)
    assert rates.take("192.0.2.1", 1, 2.0)
    assert [rates.take("192.0.2.1", 1, 1000.0) for _ in range(4)] == [True, True, True, False]


def test_all_addresses_share_a_rate() -> None:
    rates = Rates(MANY, Rate(2, 1))
    assert [rates.take(f"192.0.2.{n}", 1, 0.0) for n in range(3)] == [True, True, False]
    assert rates.take("192.0.2.9", 1, 1.0)


def test_a_refused_request_costs_nothing() -> None:
    rates = Rates(Rate(1, 1), Rate(2, 0))
    assert rates.take("192.0.2.1", 1, 0.0)
    assert not rates.take("192.0.2.1", 1, 0.0)
    assert rates.take("192.0.2.2", 1, 0.0)


def test_addresses_of_one_ipv6_network_and_mapped_ones_share_a_rate() -> None:
    rates = Rates(Rate(1, 0), MANY)
    assert rates.take("2001:db8:0:1::1", 1, 0.0)
    assert not rates.take("2001:db8:0:1:ffff::2", 1, 0.0)
    assert rates.take("2001:db8:0:2::1", 1, 0.0)
    assert rates.take("::ffff:192.0.2.1", 1, 0.0)
    assert not rates.take("192.0.2.1", 1, 0.0)
    # The peer of a UNIX socket.
    assert rates.take("", 1, 0.0)


def test_the_table_is_bounded_and_keeps_the_addresses_that_were_used_last() -> None:
    rates = Rates(Rate(1, 0), MANY, addresses=2)
    assert rates.take("192.0.2.1", 1, 0.0)
    assert rates.take("192.0.2.2", 1, 0.0)
    assert not rates.take("192.0.2.1", 1, 0.0)
    assert rates.take("192.0.2.3", 1, 0.0)
    assert len(rates) == 2
    assert not rates.take("192.0.2.1", 1, 0.0)
    assert rates.take("192.0.2.2", 1, 0.0)
