"""The filter of commands: what a server reads behind it, for any client and any decisions."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkReader
from gateway.protocols.rtmp.command_filter import CommandFilter
from gateway.protocols.rtmp.messages import Message, MessageType, abort, set_chunk_size

LONG_AGO = 20_000_000  # ms: 5.5 h, so that the timestamp is extended


def command(name: str, *values: amf0.Value) -> Message:
    return Message(MessageType.COMMAND, amf0.encode(name, 1, None, *values), 1)


def media(size: int, timestamp: int = 0) -> Message:
    return Message(MessageType.VIDEO, bytes(size), 1, timestamp)


def written(*messages: Message) -> bytes:
    writer = ChunkWriter()
    return b"".join(map(writer.write, messages))


def filtered(data: bytes, size: int, replaced: dict[bytes, Message] | None = None) -> bytes:
    """What passes of ``data`` in pieces of ``size``, with commands replaced by their payload."""
    commands, out = CommandFilter(), b""
    for start in range(0, len(data), size):
        out += commands.receive(data[start : start + size], 0.0)
        while commands.command is not None:
            out += commands.resume((replaced or {}).get(commands.command.payload))
    return out


def read(data: bytes) -> list[Message]:
    return ChunkReader().feed(data)


ORDINARY = (
    command("connect"),
    set_chunk_size(4096),
    command("publish", "name"),
    media(10_000, LONG_AGO),
    media(9_000, LONG_AGO + 40),
    media(9_000, LONG_AGO + 80),
    command("deleteStream", 1.0),
)


@pytest.mark.parametrize("size", [1, 7, 1000, 100_000])
def test_bytes_of_passed_commands_do_not_change_in_any_segmentation(size: int) -> None:
    data = written(*ORDINARY)
    assert filtered(data, size) == data


def test_nothing_behind_a_command_passes_before_its_decision() -> None:
    commands = CommandFilter()
    before, rest = written(media(10)), written(command("publish", "x"), media(10))
    assert commands.receive(before + rest, 0.0) == before
    assert commands.command is not None
    assert commands.receive(b"", 0.0) == b""
    assert commands.resume() == rest


def test_an_unfinished_command_is_kept_with_the_media_between_its_chunks() -> None:
    writer = ChunkWriter()
    start, end = list(writer.chunks(command("publish", "x" * 150)))[:2]
    between = writer.write(media(10))
    commands = CommandFilter()
    assert commands.receive(start + between, 0.0) == b""
    assert commands.receive(end, 0.0) == b""
    assert commands.resume() == start + between + end


@pytest.mark.parametrize("size", [1, 11, 100_000])
@pytest.mark.parametrize("stream", ["n", "another name", "x" * 5000])
def test_the_server_reads_a_replacement_and_everything_else_unchanged(
    size: int, stream: str
) -> None:
    """The client's later commands have headers that depend on the replaced one."""
    first, second = command("publish", "name"), command("publish", "eman")
    third = command("publish", "mean")
    new = command("publish", stream)
    messages = (command("connect"), first, second, third, media(300), command("close"))
    out = filtered(written(*messages), size, {first.payload: new})
    assert read(out) == [messages[0], new, *messages[2:]]


def test_a_replacement_has_chunks_of_the_size_at_the_beginning_of_its_command() -> None:
    """The client has announced larger chunks between the chunks of the command."""
    writer = ChunkWriter()
    chunks = list(writer.chunks(command("publish", "x" * 150)))
    between = writer.write(set_chunk_size(4096))
    data = chunks[0] + between + b"".join(chunks[1:]) + writer.write(media(3000))
    new = command("publish", "y" * 1000)
    out = filtered(data, 1000, {command("publish", "x" * 150).payload: new})
    assert read(out) == [new, media(3000)]


def test_a_missing_extended_timestamp_is_added() -> None:
    """Old librtmp and OBS omit it in chunks of format 3; most servers take the next four bytes for it."""
    strict = written(media(300, LONG_AGO))
    field = LONG_AGO.to_bytes(4, "big")
    header = bytes([3 << 6 | 6])
    assert strict.count(header + field) == 2
    assert filtered(strict.replace(header + field, header), 100) == strict


def test_a_repeated_timestamp_becomes_the_repeated_field() -> None:
    """SRS takes four bytes that are not the field for payload, and the end of the payload for a header."""
    first = media(10, 1000)
    header = bytes([1 << 6 | 6]) + b"\xff\xff\xff" + (200).to_bytes(3, "big") + bytes([first.type])
    field = LONG_AGO.to_bytes(4, "big")
    timestamp = (LONG_AGO + 1000).to_bytes(4, "big")
    begin = written(first) + header + field + bytes(128)
    passed = filtered(begin + bytes([3 << 6 | 6]) + timestamp + bytes(72), 1000)
    assert passed == begin + bytes([3 << 6 | 6]) + field + bytes(72)


@pytest.mark.parametrize(
    "message",
    [abort(3), *(Message(kind, bytes(20)) for kind in (MessageType.AGGREGATE, 16, 19))],
    ids=["abort", "aggregate", "shared object of AMF3", "shared object"],
)
def test_messages_that_servers_understand_differently_are_errors(message: Message) -> None:
    with pytest.raises(RTMPError, match="which clients do not send"):
        CommandFilter().receive(written(message), 0.0)


def test_a_command_within_an_unfinished_command_is_an_error() -> None:
    start = next(iter(ChunkWriter().chunks(command("publish", "x" * 200))))
    other = ChunkWriter().write(command("publish", "y"), 8)
    with pytest.raises(RTMPError, match="within an unfinished command"):
        CommandFilter().receive(start + other, 0.0)


def test_media_within_an_unfinished_command_is_limited() -> None:
    start = next(iter(ChunkWriter().chunks(command("publish", "x" * 200))))
    commands = CommandFilter()
    commands.receive(start, 0.0)
    between = written(set_chunk_size(1024), *[media(1024)] * 300)
    with pytest.raises(RTMPError, match="too many chunks"):
        commands.receive(between, 0.0)


def test_what_is_stored_behind_a_waiting_command_is_limited() -> None:
    commands = CommandFilter()
    commands.receive(written(command("publish", "x")), 0.0)
    for _ in range(32):
        assert commands.receive(bytes(64 * 1024), 0.0) == b""
    with pytest.raises(RTMPError, match="too many bytes behind"):
        commands.receive(b"x", 0.0)


def test_without_a_command_nothing_can_be_resumed() -> None:
    with pytest.raises(ValueError, match="no command waits"):
        CommandFilter().resume()


@given(
    st.lists(
        st.one_of(
            st.builds(command, st.sampled_from(["a", "b" * 40, "c" * 500]), st.text(max_size=200)),
            st.builds(media, st.integers(0, 3000), st.integers(0, 2**32 - 1)),
            st.builds(set_chunk_size, st.integers(1, 5000)),
        ),
        max_size=12,
    ),
    st.sets(st.integers(0, 11)),
    st.integers(1, 5000),
)
def test_a_server_reads_what_the_client_sent_but_for_replaced_commands(
    messages: list[Message], replaced: set[int], size: int
) -> None:
    decided = {
        message.payload: attrs.evolve(message, payload=amf0.encode("new", 1, None, index))
        for index, message in enumerate(messages)
        if message.type == MessageType.COMMAND and index in replaced
    }
    expected = [
        decided.get(message.payload, message)
        for message in messages
        if message.type != MessageType.SET_CHUNK_SIZE
    ]
    assert read(filtered(written(*messages), size, decided)) == expected
