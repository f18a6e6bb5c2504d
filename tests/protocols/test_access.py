"""Access rules: which of them decides."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.protocols.access import ALLOWED, AccessRequest, AccessRule, AccessRules, Action
from gateway.protocols.networks import Networks

ALL = frozenset(Action)
OFFICE = Networks.of([ip_network("10.0.0.0/8")])


def request(action: Action = Action.PUBLISH, stream: str = "cam?key=x") -> AccessRequest:
    return AccessRequest(action, "live", "" if action is Action.CONNECT else stream)


def is_allowed(asked: AccessRequest, address: str, *rules: AccessRule) -> bool:
    return AccessRules(rules).judge(asked, address) == ALLOWED


def test_a_request_that_no_rule_matches_is_allowed() -> None:
    assert is_allowed(request(), "192.0.2.1")


@pytest.mark.parametrize(
    ("action", "address", "expected"),
    [
        (Action.PUBLISH, "10.1.2.3", True),
        (Action.PUBLISH, "192.0.2.1", False),
        (Action.PUBLISH, "", False),
        (Action.PLAY, "192.0.2.1", True),
        (Action.CONNECT, "192.0.2.1", True),
    ],
)
def test_the_first_rule_that_matches_decides(action: Action, address: str, expected: bool) -> None:
    publish = frozenset({Action.PUBLISH})
    rules = AccessRule(True, publish, OFFICE), AccessRule(False, publish)
    assert is_allowed(request(action), address, *rules) is expected


@pytest.mark.parametrize(
    ("application", "stream", "matches"),
    [
        ("live", "*", True),
        ("li*", "cam", True),
        ("vod", "*", False),
        ("live", "c?m", True),
        ("live", "CAM", False),
        ("*", "cam?key=x", False),
    ],
)
def test_patterns_are_matched_with_the_name_without_its_query(
    application: str, stream: str, matches: bool
) -> None:
    rule = AccessRule(False, ALL, application=application, stream=stream)
    assert is_allowed(request(), "192.0.2.1", rule) is not matches


def test_a_rule_for_a_stream_matches_no_connect() -> None:
    assert is_allowed(request(Action.CONNECT), "192.0.2.1", AccessRule(False, ALL, stream="c*"))


def test_the_refusal_names_the_action() -> None:
    verdict = AccessRules([AccessRule(False, ALL)]).judge(request(Action.PLAY), "")
    assert verdict.refusal == "not allowed to play"
