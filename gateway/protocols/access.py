"""Access rules: who may connect, publish and play, by client address, application and stream.

Rules are tried in their order, and the first that matches decides, as with nginx's ``allow`` and ``deny``.
A request that no rule matches is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final, final

from attrs import field, frozen

from gateway.protocols.http import Fields
from gateway.protocols.networks import NO_NETWORKS, Networks


class Action(Enum):
    """A kind of request of a client. The value is its name in the configuration, in metrics and in
    callbacks.
    """

    CONNECT = "connect"
    PUBLISH = "publish"
    PLAY = "play"


@frozen
class AccessRequest:
    """A client's connect, publish or play.

    ``stream`` is the name with its query, which has the client's key and must not be logged; a connect has
    none. ``page_url``, ``swf_url``, ``tc_url`` and ``flash_version`` are from the client's connect.
    """

    action: Action
    application: str
    stream: str = field(default="", repr=False)
    tc_url: str = field(default="", repr=False)
    page_url: str = field(default="", repr=False)
    swf_url: str = ""
    flash_version: str = ""

    @property
    def name(self) -> str:
        """The stream's name without its query."""
        return self.stream.partition("?")[0]

    @property
    def query(self) -> str:
        """The query of the stream's name, or empty."""
        return self.stream.partition("?")[2]


@frozen
class Visitor:
    """The client that asks. ``alias``: of its session. ``fields``: of the HTTP request that opened it, or
    None.
    """

    alias: str
    address: str
    fields: Fields | None = None


@frozen
class Verdict:
    """Whether a request is allowed. ``refusal``: the cause of a refusal, for the client; empty if it is
    allowed. ``stream``: the stream's new name, with its query; empty to keep the name.
    """

    refusal: str = ""
    stream: str = ""


ALLOWED: Final = Verdict()


@frozen
class AccessRule:
    """``application`` and ``stream`` are patterns with ``*``, ``?`` and ``[...]``. Without networks in
    ``clients``, every address matches. A rule with a pattern for the stream matches no connect.
    """

    allows: bool
    actions: frozenset[Action]
    clients: Networks = NO_NETWORKS
    application: str = "*"
    stream: str = "*"

    def matches(self, request: AccessRequest, address: str) -> bool:
        """Whether the rule decides on ``request`` of the client at ``address``."""
        return (
            request.action in self.actions
            and (not self.clients or self.clients.holds(address))
            and fnmatchcase(request.application, self.application)
            and (self.stream == "*" or fnmatchcase(request.name, self.stream))
        )


@final
class AccessRules:
    """All rules, in their order."""

    def __init__(self, rules: Iterable[AccessRule]) -> None:
        self._rules = tuple(rules)

    def judge(self, request: AccessRequest, address: str) -> Verdict:
        """The verdict of the first rule that matches."""
        for rule in self._rules:
            if rule.matches(request, address):
                return ALLOWED if rule.allows else _denied(request.action)
        return ALLOWED


def _denied(action: Action) -> Verdict:
    return Verdict(f"not allowed to {action.value}")
