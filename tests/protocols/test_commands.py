"""Tunnel commands in request targets (PROTOCOL.md, The exchange)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.protocols.commands import Kind, command_of

SID = b"00017Zf-_abcdefghijklmnopq"

COMMANDS = {
    b"/fcs/ident2": (Kind.IDENT, b"", None),
    b"/open/1": (Kind.OPEN, b"", None),
    b"/send/" + SID + b"/0": (Kind.SEND, SID, 0),
    b"/send/" + SID + b"/17": (Kind.SEND, SID, 17),
    b"/idle/" + SID + b"/1": (Kind.IDLE, SID, 1),
    b"/idle/" + SID + b"/9999999999": (Kind.IDLE, SID, 9_999_999_999),
    b"/close/" + SID + b"/5": (Kind.CLOSE, SID, 5),
    b"/close/" + SID: (Kind.CLOSE, SID, None),
}

NO_COMMANDS = [
    b"",
    b"/",
    b"*",
    b"/fcs",
    b"/fcs/ident",
    b"/fcs/ident2/",
    b"/fcs/ident2/1",
    b"/open",
    b"/open/",
    b"/open/2",
    b"/open/1/",
    b"/open/1/1",
    b"/OPEN/1",
    b"/open/1?a=b",
    b"open/1",
    b"//open/1",
    b"/send",
    b"/send/" + SID,
    b"/send/" + SID + b"/",
    b"/send/" + SID + b"/1/",
    b"/send/" + SID + b"/1/2",
    b"/send/" + SID + b"/1?a=b",
    b"/send/" + SID + b"/-1",
    b"/send/" + SID + b"/+1",
    b"/send/" + SID + b"/1_0",
    b"/send/" + SID + b"/ 1",
    b"/send/" + SID + b"/0x1",
    b"/send/" + SID + b"/\xb2",
    b"/send/" + SID + b"/\xd9\xa1",
    b"/send/" + SID + b"/12345678901",
    b"/idle/" + SID,
    b"/Send/" + SID + b"/1",
    b"/sends/" + SID + b"/1",
    b"/ident2/" + SID + b"/1",
    b"/open/" + SID + b"/1",
    b"/close",
    b"/close/" + SID + b"/",
    b"/close/" + SID + b"/x",
    b"/x/send/" + SID + b"/1",
    b"/live/stream.flv",
]


@pytest.mark.parametrize("target", COMMANDS)
def test_each_target_of_the_table_is_parsed_as_its_command(target: bytes) -> None:
    assert command_of(b"POST", target) == COMMANDS[target]


@pytest.mark.parametrize("origin", [b"http://host", b"http://host:80", b"HTTPS://[::1]:443"])
@pytest.mark.parametrize("target", COMMANDS)
def test_a_target_in_absolute_form_is_a_command(target: bytes, origin: bytes) -> None:
    assert command_of(b"POST", origin + target) == COMMANDS[target]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT", b"post", b""])
@pytest.mark.parametrize("target", COMMANDS)
def test_a_method_other_than_post_is_not_a_command(target: bytes, method: bytes) -> None:
    assert command_of(method, target) is None


@pytest.mark.parametrize("target", NO_COMMANDS)
def test_any_other_target_is_not_a_command(target: bytes) -> None:
    assert command_of(b"POST", target) is None


@pytest.mark.parametrize(
    "target",
    [
        b"http://host",
        b"http:/open/1",
        b"http//open/1",
        b"ftp://host/open/1",
        b"://host/open/1",
        b"rtmpt://host/open/1",
        b"host:80/open/1",
        b"http://host//open/1",
    ],
)
def test_any_other_absolute_form_is_not_a_command(target: bytes) -> None:
    assert command_of(b"POST", target) is None


@pytest.mark.parametrize("target", NO_COMMANDS)
def test_the_absolute_form_of_another_target_is_not_a_command(target: bytes) -> None:
    assert command_of(b"POST", b"http://host" + target) is None


@settings(deadline=None, database=None)
@given(
    st.binary(max_size=60), st.sampled_from((b"", b"/send/", b"/close/", b"http://", b"/idle/x/"))
)
def test_any_target_is_no_command_or_a_command_with_the_number_in_the_target(
    rest: bytes, begin: bytes
) -> None:
    command = command_of(b"POST", begin + rest)
    if command is not None and command[2] is not None:
        digits = (begin + rest).rpartition(b"/")[2]
        assert digits.isdigit()
        assert command[2] == int(digits) < 10**10
