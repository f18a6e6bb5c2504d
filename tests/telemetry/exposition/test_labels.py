"""The closed lists of label values match the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import gateway.listeners.protocol_detection
from gateway.errors import ServiceUnavailable
from gateway.protocols.ingress import PROTOCOLS
from gateway.protocols.reasons import EndReason
from gateway.telemetry.exposition.labels import RELAYED, TUNNELLED, Entrance, Expected
from gateway.telemetry.logs.refusals import CAUSES, cause_of

# The methods whose arguments are keys of ``counts``.
_COUNTING = frozenset({"_count", "_refuse", "_hand_over"})


def test_every_protocol_is_tunnelled_or_relayed() -> None:
    assert {*TUNNELLED, *RELAYED} == set(PROTOCOLS)
    assert not {*TUNNELLED} & {*RELAYED}


def test_every_end_reason_belongs_to_a_tunnel_or_a_relay() -> None:
    ends = Expected((Entrance("0.0.0.0:443", tls=True),)).ends()
    assert {reason for _, reason in ends} == {reason.value for reason in EndReason}


def test_every_refusal_of_an_open_has_a_cause_label() -> None:
    assert sorted(CAUSES) == sorted(map(cause_of, ServiceUnavailable.__subclasses__()))


def counted_keys() -> Iterator[str]:
    """The keys that connections are counted under, read from the source."""
    tree = ast.parse(Path(gateway.listeners.protocol_detection.__file__).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in _COUNTING:
            yield from _words(*node.args)
        elif isinstance(node, ast.FunctionDef) and node.name.startswith("refusal"):
            returned = (each.value for each in ast.walk(node) if isinstance(each, ast.Return))
            yield from _words(*filter(None, returned))


def _words(*nodes: ast.expr) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.IfExp):
            yield from _words(node.body, node.orelse)


def test_every_counted_key_is_in_the_list_of_a_listener() -> None:
    counts = Entrance("0.0.0.0:443", True, True, by_address=True, socket_policy=True).counts
    assert sorted(counts) == sorted(set(counted_keys()))


def test_a_listener_has_no_counts_for_disabled_features() -> None:
    counts = Entrance("0.0.0.0:80").counts
    assert not {"tls", "tls_failed", "untrusted_proxy", "bad_proxy_header", "denied"} & {*counts}
    assert "policy" not in counts
