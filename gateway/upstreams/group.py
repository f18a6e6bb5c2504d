"""The servers of one ``[[upstream]]``, and the choice of one for a new session.

``first``            the first in the list that is up
``round_robin``      each in its turn, as often as its weight says, with turns of others in between
``fewest_sessions``  the one with the fewest sessions for its weight
``hash``             always the same one for the same key (``hashing``)

A server that has as many sessions as it may is passed over. With a hash without bound it is not: the stream
of the key is there only, so the session has to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, final

from gateway.upstreams import hashing
from gateway.upstreams.member import Member
from gateway.upstreams.services import Service
from gateway.upstreams.waiting import WaitingQueue

# As ``[[upstream]] choose`` has them.
Choice = Literal["first", "round_robin", "fewest_sessions", "hash"]
# As ``[[upstream]] hash_by`` has them: the application, or application and stream.
HashBy = Literal["application", "stream"]


@final
class Group:
    """``sources``: servers, and services, whose servers are members while they are in the records; when
    these change, ``update`` must be called. ``name``: by which a session can be kept to this group; "" for
    none. ``balance_factor``: of the hash; 0.0 for no bound. ``queue``: of the sessions that wait for a
    place; None to refuse them. ``is_named_only``: whether it gets only sessions that are kept to it by its
    name. ``hash_by``: which key of a session it is given.
    """

    def __init__(
        self,
        sources: Sequence[Member | Service],
        choose: Choice = "first",
        name: str = "",
        balance_factor: float = 0.0,
        queue: WaitingQueue | None = None,
        is_named_only: bool = False,
        hash_by: HashBy = "application",
    ) -> None:
        self.name = name
        self.hash_by = hash_by
        self.sources = sources
        self.queue = queue
        self.is_named_only = is_named_only
        self._balance_factor = balance_factor
        self._choose = _CHOICES[choose]
        self._is_fixed = choose == "hash" and not balance_factor
        self.update()

    def update(self) -> None:
        """The servers of a service have changed. A server that several sources have is the first one's."""
        found: dict[str, Member] = {}
        for source in self.sources:
            for member in source.members if isinstance(source, Service) else (source,):
                found.setdefault(member.name, member)
        self.members: Sequence[Member] = [*found.values()]
        # Those of a tier get sessions only while all of the tiers before are down or drained.
        tiers: dict[tuple[bool, int], list[Member]] = {}
        for member in self.members:
            tiers.setdefault((member.is_backup, member.priority), []).append(member)
        self.tiers = [tiers[place] for place in sorted(tiers)]

    def with_place(self, members: Sequence[Member], key: str) -> list[Member]:
        """Those of these members that may get a session with this key now."""
        eligible = hashing.order(key, members)[:1] if self._is_fixed else members
        return [member for member in eligible if not member.is_full]

    def choose(self, members: Sequence[Member], key: str) -> Member:
        """Choose the member that gets a session with this key, among members that have a place. There must
        be at least one.
        """
        return self._choose(self, members, key)

    def _first(self, members: Sequence[Member], _: str) -> Member:
        return members[0]

    def _round_robin(self, members: Sequence[Member], _: str) -> Member:
        """Each gets its share as credit, and the one with the most pays for all: nginx's smooth weights."""
        for member in members:
            member.credit += member.share
        chosen = max(members, key=lambda member: member.credit)
        chosen.credit -= sum(member.share for member in members)
        return chosen

    def _fewest_sessions(self, members: Sequence[Member], key: str) -> Member:
        loads = [(member.sessions + 1) / member.share for member in members]
        fewest = min(loads)
        # Of those with equally few, another one each time.
        equal = [each for each, load in zip(members, loads, strict=True) if load == fewest]
        return self._round_robin(equal, key)

    def _hash(self, members: Sequence[Member], key: str) -> Member:
        ordered = hashing.order(key, members)
        if not self._balance_factor:
            return ordered[0]
        return hashing.below_bound(ordered, self._balance_factor)[0]


_CHOICES: Final[Mapping[Choice, Callable[[Group, Sequence[Member], str], Member]]] = {
    "first": Group._first,
    "round_robin": Group._round_robin,
    "fewest_sessions": Group._fewest_sessions,
    "hash": Group._hash,
}
