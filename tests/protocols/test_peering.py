"""Frames between workers: written frames are read back, and malformed ones are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.commands import Kind
from gateway.protocols.peering import (
    ANSWER,
    COMMAND,
    FORGET,
    GREETING,
    FrameReader,
    OutOfStep,
    PeerCommand,
    command_head,
    connection_and_session,
    frame,
    read_command,
    read_connection_and_session,
)

COMMANDS = st.tuples(
    st.binary(min_size=1, max_size=31),
    st.sampled_from((Kind.SEND, Kind.IDLE, Kind.CLOSE)),
    st.integers(0, 100) | st.just(9_999_999_999),
    st.binary(max_size=200),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, 15),
    st.binary(max_size=255),
)


def written(request: int, command: PeerCommand) -> bytes:
    session_id, kind, number, body, source, flags, via = command
    return command_head(request, session_id, kind, number, len(body), source, flags, via) + body


@given(st.lists(COMMANDS, max_size=5), st.lists(st.integers(1, 300), min_size=1))
def test_commands_are_read_back_in_any_segmentation(
    commands: list[PeerCommand], sizes: list[int]
) -> None:
    stream = GREETING + b"".join(written(*each) for each in enumerate(commands))
    reader = FrameReader(GREETING)
    found: list[Any] = []
    at = turn = 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        found += reader.receive(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [(type_, request) for type_, request, _ in found] == [
        (COMMAND, number) for number in range(len(commands))
    ]
    assert [read_command(payload) for _, _, payload in found] == commands


@given(st.lists(COMMANDS, min_size=1, max_size=5))
def test_commands_that_arrive_whole_are_read_back(commands: list[PeerCommand]) -> None:
    reader = FrameReader(GREETING)
    assert reader.receive(GREETING) == []
    for request, command in enumerate(commands):
        ((_, read, payload),) = reader.receive(written(request, command))
        assert (read, read_command(payload)) == (request, command)


def test_other_frames_are_read_back() -> None:
    stream = frame(ANSWER, 7, b"\x01data") + frame(FORGET, 8)
    assert FrameReader().receive(stream) == [(ANSWER, 7, b"\x01data"), (FORGET, 8, b"")]
    payload = connection_and_session(1 << 50, b"0001abc")
    assert read_connection_and_session(payload) == (1 << 50, b"0001abc")


@pytest.mark.parametrize(
    "stream",
    [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", GREETING.replace(b"1", b"2"), GREETING + b"\0" * 9],
    ids=["HTTP", "another version", "a frame without its head"],
)
def test_a_stream_of_another_protocol_or_version_is_refused(stream: bytes) -> None:
    with pytest.raises(OutOfStep):
        FrameReader(GREETING).receive(stream)


@pytest.mark.parametrize("payload", [b"", b"\x09" + b"\0" * 19, b"\0" * 18 + b"\xff\xff"])
def test_a_malformed_command_is_refused(payload: bytes) -> None:
    with pytest.raises(OutOfStep):
        read_command(payload)
