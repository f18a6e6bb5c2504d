"""The memory of the ways that were used: by network, bounded, and robust against a damaged file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.way_memory import MOST_NETWORKS, Remembered, WayMemory


def key(number: int) -> str:
    return f"{number:032x}"


def test_the_last_way_of_each_network_is_recalled() -> None:
    memory = WayMemory()
    memory.remember(key(1), "rtmp:1935", 0.1)
    memory.remember(key(2), "rtmps:443", 0.2)
    memory.remember(key(1), "rtmpts:443", 0.3)
    assert memory.recall(key(1)) == Remembered("rtmpts:443", 0.3)
    assert memory.recall(key(2)) == Remembered("rtmps:443", 0.2)
    assert memory.recall(key(3)) is None


def test_a_way_that_fails_is_forgotten_unless_another_one_is_remembered() -> None:
    memory = WayMemory()
    memory.remember(key(1), "rtmp:1935", 0.1)
    assert not memory.forget(key(1), "rtmps:443")
    assert not memory.forget(key(2), "rtmp:1935")
    assert memory.recall(key(1)) is not None
    assert memory.forget(key(1), "rtmp:1935")
    assert memory.recall(key(1)) is None


def test_the_network_that_was_used_least_recently_is_forgotten_first() -> None:
    memory = WayMemory()
    for number in range(MOST_NETWORKS):
        memory.remember(key(number), "rtmp:1935", 0.1)
    memory.remember(key(0), "rtmp:1935", 0.1)
    memory.remember(key(MOST_NETWORKS), "rtmp:1935", 0.1)
    assert memory.recall(key(1)) is None
    assert memory.recall(key(0)) is not None
    assert len(json.loads(memory.to_json())["networks"]) == MOST_NETWORKS


def test_json_has_all_entries_in_their_order() -> None:
    memory, again = WayMemory(), WayMemory()
    for number in range(MOST_NETWORKS):
        memory.remember(key(number), f"rtmpt:{number + 1}", number / 8)
    again.read_json(memory.to_json())
    assert again.to_json() == memory.to_json()
    again.remember(key(1000), "rtmp:1935", 0.1)
    assert again.recall(key(0)) is None


GOOD = {"network": key(1), "way": "rtmp:1935", "took_ms": 100}


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"networks": 1}', '{"networks": {"a": 1}}', "[" * 100_000),
        *(
            json.dumps({"networks": [entry]})
            for entry in (
                *("text", None, {}, {**GOOD, "network": "../x"}, {**GOOD, "network": "0" * 65}),
                *(
                    {**GOOD, "way": 1},
                    {**GOOD, "way": "rtmp:1935\n"},
                    {**GOOD, "way": "x" * 65},
                    {**GOOD, "took_ms": True},
                ),
                *({**GOOD, "took_ms": -1}, {**GOOD, "took_ms": 1e300}, {**GOOD, "took_ms": None}),
            )
        ),
    ],
)
def test_malformed_documents_and_entries_are_left_out(text: str) -> None:
    memory = WayMemory()
    memory.read_json(text)
    assert json.loads(memory.to_json()) == {"networks": []}


def test_good_entries_beside_malformed_ones_are_read() -> None:
    memory = WayMemory()
    memory.read_json(json.dumps({"networks": [{}, GOOD, 1]}))
    assert memory.recall(key(1)) == Remembered("rtmp:1935", 0.1)


def test_a_document_with_too_many_entries_is_bounded() -> None:
    memory = WayMemory()
    entries = [{**GOOD, "network": key(number)} for number in range(3 * MOST_NETWORKS)]
    memory.read_json(json.dumps({"networks": entries}))
    assert len(json.loads(memory.to_json())["networks"]) == MOST_NETWORKS


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    WayMemory().read_json(text)
