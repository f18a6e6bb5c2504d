from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp.amf import (
    MAX_DEPTH,
    MAX_VALUES,
    UNDEFINED,
    Date,
    EcmaArray,
    TypedObject,
    Value,
)
from gateway.protocols.rtmp.amf0 import Decoder, decode, encode

VECTORS: list[tuple[Value, bytes]] = [
    (1.0, b"\x00\x3f\xf0\x00\x00\x00\x00\x00\x00"),
    (True, b"\x01\x01"),
    (False, b"\x01\x00"),
    ("live", b"\x02\x00\x04live"),
    ("", b"\x02\x00\x00"),
    ("ü", b"\x02\x00\x02\xc3\xbc"),
    ({"a": None}, b"\x03\x00\x01a\x05\x00\x00\x09"),
    (None, b"\x05"),
    (UNDEFINED, b"\x06"),
    (EcmaArray(a=True), b"\x08\x00\x00\x00\x01\x00\x01a\x01\x01\x00\x00\x09"),
    ([None, "x"], b"\x0a\x00\x00\x00\x02\x05\x02\x00\x01x"),
    (Date(0.0, 0), b"\x0b" + bytes(10)),
    ("y" * 70_000, b"\x0c\x00\x01\x11\x70" + b"y" * 70_000),
    (TypedObject("C", {"a": None}), b"\x10\x00\x01C\x00\x01a\x05\x00\x00\x09"),
]


@pytest.mark.parametrize(("value", "wire"), VECTORS, ids=lambda each: repr(each)[:20])
def test_each_type_is_encoded_as_the_amf0_specification_says(value: Value, wire: bytes) -> None:
    assert encode(value) == wire
    assert decode(wire) == [value]
    assert type(decode(wire)[0]) is type(value)


@pytest.mark.parametrize(("value", "wire"), VECTORS, ids=lambda each: repr(each)[:20])
def test_a_value_truncated_at_any_byte_is_malformed(value: Value, wire: bytes) -> None:
    for end in range(1, min(len(wire), 40)):
        with pytest.raises(RTMPError):
            decode(wire[:end])


@pytest.mark.parametrize(("value", "wire"), VECTORS, ids=lambda each: repr(each)[:20])
def test_the_decoder_reads_no_byte_after_the_end_of_its_value(value: Value, wire: bytes) -> None:
    decoder = Decoder(wire + b"after")
    assert decoder.value() == value
    assert decoder.at == len(wire)


SCALARS = st.one_of(
    st.floats(allow_nan=False),
    st.booleans(),
    st.text(max_size=20),
    st.none(),
    st.just(UNDEFINED),
    st.builds(Date, st.floats(allow_nan=False), st.integers(-720, 720)),
)
NAMES = st.text(min_size=1, max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(NAMES, inner, max_size=4),
        st.dictionaries(NAMES, inner, max_size=4).map(EcmaArray),
        st.builds(TypedObject, NAMES, st.dictionaries(NAMES, inner, max_size=4)),
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=4))
def test_written_values_are_read_back(values: list[Value]) -> None:
    assert decode(encode(*values)) == values


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_values_or_raise_an_rtmp_error(data: bytes) -> None:
    with suppress(RTMPError):
        decode(data)


@pytest.mark.parametrize("marker", [0x04, 0x07, 0x09, 0x0D, 0x0E, 0x0F, 0x12, 0xFF])
def test_a_type_that_commands_do_not_use_is_refused_at_its_marker(marker: int) -> None:
    with pytest.raises(RTMPError, match=f"{marker:#04x}"):
        decode(bytes([marker]))


def test_the_depth_of_nested_values_is_bounded() -> None:
    array = b"\x0a\x00\x00\x00\x01"
    assert decode(array * MAX_DEPTH + b"\x05")
    with pytest.raises(RTMPError, match="deeper"):
        decode(array * (MAX_DEPTH + 1) + b"\x05")


def test_the_number_of_values_is_bounded() -> None:
    assert len(decode(b"\x05" * MAX_VALUES)) == MAX_VALUES
    with pytest.raises(RTMPError, match="more than"):
        decode(b"\x05" * (MAX_VALUES + 1))


def test_an_array_with_a_count_larger_than_its_message_is_refused() -> None:
    with pytest.raises(RTMPError, match="cut short"):
        decode(b"\x0a\xff\xff\xff\xff\x05")


def test_the_count_of_an_ecma_array_is_not_binding() -> None:
    wire = b"\x08\xff\xff\xff\xff\x00\x01a\x05\x00\x00\x09"
    assert decode(wire) == [EcmaArray(a=None)]


def test_values_behind_the_amf3_marker_are_amf3_and_share_their_references() -> None:
    wire = b"\x02\x00\x01x\x11\x06\x03a\x03\x00\x01k\x11\x06\x00\x00\x00\x09\x11\x04\x01"
    assert decode(wire) == ["x", "a", {"k": "a"}, 1.0]


def test_amf0_and_amf3_have_one_limit_on_depth_and_one_on_values() -> None:
    array0, array3 = b"\x0a\x00\x00\x00\x01", b"\x09\x03\x01"
    for depth0 in range(1, MAX_DEPTH):
        with pytest.raises(RTMPError, match="deeper"):
            decode(array0 * depth0 + b"\x11" + array3 * (MAX_DEPTH + 1 - depth0))
    # Two values: the marker of AMF0, and that of AMF3.
    assert len(decode(b"\x11\x01" * (MAX_VALUES // 2))) == MAX_VALUES // 2
    with pytest.raises(RTMPError, match="more than"):
        decode(b"\x11\x01" * (MAX_VALUES // 2) + b"\x05")


def test_the_extent_of_each_value_in_an_object_can_be_found() -> None:
    members = {"app": "live", "tcUrl": TypedObject("C", {"a": [1.0]}), "x": None}
    wire = encode(members)
    decoder = Decoder(wire, 1)
    found = {}
    for name in decoder.names():
        start = decoder.at
        decoder.value()
        found[name] = wire[start : decoder.at]
    assert found == {name: encode(value) for name, value in members.items()}
    assert decoder.at == len(wire)


def test_a_string_that_is_not_utf8_is_read_with_replacement_characters() -> None:
    assert decode(b"\x02\x00\x01\xfc") == ["\ufffd"]


def test_nan_is_read_as_a_number() -> None:
    (value,) = decode(b"\x00" + struct.pack(">d", float("nan")))
    assert value != value  # noqa: PLR0124


def test_values_without_an_amf0_type_raise_type_error() -> None:
    with pytest.raises(TypeError, match="bytes"):
        encode(b"bytes")  # type: ignore[arg-type]
