"""The choice of a server for a new session, with numbers for time and sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.addresses import ServerAddress
from gateway.upstreams.dial import Server
from gateway.upstreams.group import Choice, Group
from gateway.upstreams.member import AVOIDED_S, Member, OwnCount


def named(weights: Iterable[int]) -> dict[str, int]:
    return dict(zip("abcdef", weights, strict=False))


class Bench:
    """A group of servers called a, b, c, …, and a clock."""

    def __init__(self, choose: Choice, *weights: int, balance_factor: float = 0.0) -> None:
        self.now = 1000.0
        self.slow_start_s = 10.0
        self.members = [self.member(name, weight) for name, weight in named(weights).items()]
        self.group = Group(self.members, choose, balance_factor=balance_factor)

    def member(self, name: str, weight: int) -> Member:
        server = Server(ServerAddress(name, 1935))
        return Member(server, lambda: self.now, weight, slow_start_s=self.slow_start_s)

    def open(self, key: str = "") -> str:
        """Open a session. The name of its server."""
        chosen = self.group.choose(self.members, key)
        chosen.count.add(1)
        return chosen.name[0]

    def opened(self, number: int) -> str:
        return "".join(self.open() for _ in range(number))


def test_first_takes_the_first_of_the_list_whatever_its_sessions_and_weight() -> None:
    assert Bench("first", 1, 9).opened(4) == "aaaa"


def test_turns_follow_the_weights_and_are_spread() -> None:
    """The example of nginx's commit that introduced the method."""
    assert Bench("round_robin", 5, 1, 1).opened(14) == "aabacaa" * 2


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_each_server_gets_exactly_its_weight_of_every_round(weights: list[int]) -> None:
    bench = Bench("round_robin", *weights)
    for _ in range(3):
        assert Counter(bench.opened(sum(weights))) == named(weights)


def test_fewest_sessions_counts_them_in_proportion_to_the_weights() -> None:
    bench = Bench("fewest_sessions", 1, 2)
    assert Counter(bench.opened(30)) == {"a": 10, "b": 20}
    bench.members[0].count = OwnCount()
    assert bench.opened(9) == "a" * 9
    # The session to come counts: one of ten is less than one of one.
    bench = Bench("fewest_sessions", 1, 10)
    assert bench.opened(2) == "bb"


def test_of_servers_with_equally_few_sessions_another_one_is_taken_each_time() -> None:
    bench = Bench("fewest_sessions", 1, 1, 1)
    taken = []
    for _ in range(3):
        taken.append(bench.open())
        for member in bench.members:
            member.count = OwnCount()
    assert sorted(taken) == ["a", "b", "c"]


def test_a_hash_keeps_a_key_at_its_server_however_many_sessions_it_has() -> None:
    bench = Bench("hash", 1, 1, 1)
    assert {bench.open("live/show") for _ in range(100)} == {bench.open("live/show")}
    assert len({bench.open(f"live/{number}") for number in range(50)}) == 3


def test_a_balance_factor_bounds_the_sessions_of_one_key_at_a_server() -> None:
    bench = Bench("hash", 1, 1, balance_factor=1.25)
    for _ in range(80):
        bench.open("live/show")
    assert sorted(member.sessions for member in bench.members) == [30, 50]


def recovered(bench: Bench) -> Member:
    """One that was down by its checks until now."""
    member = bench.members[0]
    member.note_checks(False)
    bench.now += 100.0
    member.note_checks(True)
    return member


@pytest.mark.parametrize("choose", ["round_robin", "fewest_sessions"])
def test_the_share_of_a_server_that_has_come_up_rises_from_nothing(choose: Choice) -> None:
    bench = Bench(choose, 1, 1)
    returned = recovered(bench)
    shares = []
    for _ in range(4):
        for member in bench.members:
            member.count = OwnCount()
        shares.append(bench.opened(200).count("a"))
        bench.now += 5.0
    assert shares[0] < 12
    assert 55 <= shares[1] <= 75  # 0.5 of 1.5
    assert shares[2] == shares[3] == 100
    assert not returned.is_starting


def test_a_server_that_has_not_been_down_has_its_full_share() -> None:
    bench = Bench("round_robin", 1, 1)
    bench.members[0].note_checks(True)
    assert bench.opened(4) == "abab"
    assert not bench.members[0].is_starting


def test_a_slow_start_follows_a_failed_connect_too_and_is_no_share_of_a_hash() -> None:
    bench = Bench("hash", 1, 1)
    keys = [str(number) for number in range(20)]
    before = [bench.open(key) for key in keys]
    member = bench.members[0]
    assert member.failed()
    bench.now += AVOIDED_S
    assert member.connected()
    assert member.is_starting
    assert [bench.open(key) for key in keys] == before
