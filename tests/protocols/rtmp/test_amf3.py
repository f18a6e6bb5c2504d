from __future__ import annotations

import struct
import tracemalloc
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
    Reader,
    TypedObject,
    Value,
)
from gateway.protocols.rtmp.amf3 import Decoder, References
from tests.helpers.amf3_encoder import encode

# The numbers in brackets are sections of the specification. The header of an object is a U29 whose lowest
# bit is 1, below a length or a count.
VECTORS: list[tuple[str, bytes, Value]] = [
    ("undefined (3.2)", b"\x00", UNDEFINED),
    ("null (3.3)", b"\x01", None),
    ("false (3.4)", b"\x02", False),
    ("true (3.5)", b"\x03", True),
    ("integer of one byte (3.6)", b"\x04\x7f", 127.0),
    ("integer of two bytes", b"\x04\x81\x00", 128.0),
    ("largest integer of two bytes", b"\x04\xff\x7f", 16_383.0),
    ("integer of three bytes", b"\x04\x81\x80\x00", 16_384.0),
    ("integer of four bytes", b"\x04\x80\xc0\x80\x00", 2_097_152.0),
    ("largest integer", b"\x04\xbf\xff\xff\xff", 268_435_455.0),
    ("smallest integer", b"\x04\xc0\x80\x80\x00", -268_435_456.0),
    ("minus one", b"\x04\xff\xff\xff\xff", -1.0),
    ("double (3.7)", b"\x05\x3f\xf8\x00\x00\x00\x00\x00\x00", 1.5),
    ("string (3.8)", b"\x06\x09live", "live"),
    ("string of UTF-8", b"\x06\x05\xc3\xbc", "ü"),
    ("string of another encoding", b"\x06\x03\xfc", "\ufffd"),
    ("empty string", b"\x06\x01", ""),
    ("XML document (3.9)", b"\x07\x09<a/>", "<a/>"),
    ("date (3.10)", b"\x08\x01\x40\x59\x00\x00\x00\x00\x00\x00", Date(100.0)),
    ("dense array (3.11)", b"\x09\x05\x01\x04\x01\x03", [1.0, True]),
    ("array with names", b"\x09\x03\x03a\x01\x01\x04\x02", EcmaArray({"a": None, "0": 2.0})),
    ("empty array", b"\x09\x01\x01", []),
    ("dynamic object (3.12)", b"\x0a\x0b\x01\x07app\x06\x09live\x01", {"app": "live"}),
    ("object with sealed members", b"\x0a\x23\x01\x03a\x03b\x04\x01\x02", {"a": 1.0, "b": False}),
    (
        "object of a class, with sealed and dynamic members",
        b"\x0a\x1b\x03C\x03a\x04\x01\x03b\x04\x02\x01",
        TypedObject("C", {"a": 1.0, "b": 2.0}),
    ),
    ("wrapper of Flex", b"\x0a\x07\x43flex.messaging.io.ArrayCollection\x09\x03\x01\x03", [True]),
    # The bits above are not significant.
    ("wrapper with a count", b"\x0a\x57\x3bflex.messaging.io.ObjectProxy\x03", True),
    ("XML (3.13)", b"\x0b\x09<a/>", "<a/>"),
    ("byte array (3.14)", b"\x0c\x07abc", UNDEFINED),
    ("vector of int (3.15)", b"\x0d\x05\x00\x00\x00\x00\x01\xff\xff\xff\xff", UNDEFINED),
    ("vector of uint", b"\x0e\x03\x01\xff\xff\xff\xff", UNDEFINED),
    ("vector of double", b"\x0f\x03\x00\x3f\xf8\x00\x00\x00\x00\x00\x00", UNDEFINED),
    ("vector of objects", b"\x10\x05\x00\x03C\x03\x06\x03x", [True, "x"]),
    ("dictionary (3.16)", b"\x11\x05\x00\x06\x03a\x01\x04\x01\x0a\x0b\x01\x01", UNDEFINED),
]
EACH = pytest.mark.parametrize(
    ("wire", "value"), [row[1:] for row in VECTORS], ids=[row[0] for row in VECTORS]
)


def decode(data: bytes) -> list[Value]:
    """All values in ``data``, which share their references."""
    reader, references = Reader(data), References()
    values = []
    while reader.at < len(data):
        values.append(Decoder(reader, references).value())
    return values


@EACH
def test_each_type_is_decoded_as_the_amf3_specification_says(wire: bytes, value: Value) -> None:
    assert decode(wire) == [value]
    assert type(decode(wire)[0]) is type(value)


@EACH
def test_a_value_truncated_at_any_byte_is_malformed(wire: bytes, value: Value) -> None:
    for end in range(1, len(wire)):
        with pytest.raises(RTMPError, match="cut short"):
            decode(wire[:end])


@EACH
def test_the_decoder_reads_no_byte_after_the_end_of_its_value(wire: bytes, value: Value) -> None:
    reader = Reader(wire + b"\x03\x03\x03")
    assert Decoder(reader, References()).value() == value
    assert reader.at == len(wire)


@pytest.mark.parametrize(
    ("wire", "values"),
    [
        (b"\x06\x03a\x06\x03b\x06\x00\x06\x02", ["a", "b", "a", "b"]),
        # The empty string has no number.
        (b"\x06\x01\x06\x03a\x06\x00", ["", "a", "a"]),
        # Names, class names and element classes have numbers too.
        (b"\x0a\x0b\x03C\x03a\x06\x02\x01\x06\x00", [TypedObject("C", {"a": "a"}), "C"]),
        (b"\x10\x01\x00\x03C\x06\x00", [[], "C"]),
        # XML has one among the objects, not the strings.
        (b"\x0b\x03x\x06\x03a\x06\x00\x0b\x00", ["x", "a", "a", UNDEFINED]),
        # Traits: sealed `a` of class C, then the second class, then both again.
        (
            b"\x0a\x13\x03C\x03a\x02\x0a\x0b\x03D\x01\x0a\x01\x03\x0a\x05\x02\x01\x01",
            [
                TypedObject("C", {"a": False}),
                TypedObject("D", {}),
                TypedObject("C", {"a": True}),
                TypedObject("D", {"a": None}),
            ],
        ),
    ],
)
def test_strings_and_traits_are_found_again_by_their_number(
    wire: bytes, values: list[Value]
) -> None:
    assert decode(wire) == values


@pytest.mark.parametrize("marker", [0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0F, 0x10, 0x11])
def test_a_reference_to_an_earlier_object_is_undefined(marker: int) -> None:
    assert decode(b"\x09\x01\x01" + bytes([marker, 0])) == [[], UNDEFINED]


def test_an_object_that_contains_itself_is_read_without_a_cycle() -> None:
    assert decode(b"\x0a\x0b\x01\x03a\x0a\x00\x01") == [{"a": UNDEFINED}]
    assert decode(b"\x09\x03\x01\x09\x00") == [[UNDEFINED]]


@pytest.mark.parametrize(
    "wire",
    [
        b"\x06\x00",
        b"\x06\x03a\x06\x02",
        b"\x08\x00",
        b"\x09\x01\x01\x09\x02",
        # A reference to traits 0, in the first object.
        b"\x0a\x01",
    ],
)
def test_a_reference_to_nothing_is_malformed(wire: bytes) -> None:
    with pytest.raises(RTMPError, match="to nothing"):
        decode(wire)


def test_an_externalizable_object_is_refused_by_its_class() -> None:
    with pytest.raises(RTMPError, match="externalizable class 'C'"):
        decode(b"\x0a\x07\x03C\x01")


@pytest.mark.parametrize("marker", [0x12, 0x7F, 0xFF])
def test_a_marker_of_no_type_is_refused(marker: int) -> None:
    with pytest.raises(RTMPError, match=f"{marker:#04x}"):
        decode(bytes([marker]))


@pytest.mark.parametrize(
    "opening",
    [
        b"\x09\x03\x01",
        b"\x09\x01\x03a",
        b"\x0a\x0b\x01\x03a",
        b"\x0a\x13\x01\x03a",
        b"\x0a\x07\x3bflex.messaging.io.ObjectProxy",
        b"\x10\x03\x00\x01",
        b"\x11\x03\x00",
    ],
)
def test_the_depth_of_nested_values_is_bounded(opening: bytes) -> None:
    with pytest.raises(RTMPError, match="cut short"):
        decode(opening * MAX_DEPTH)
    with pytest.raises(RTMPError, match="deeper"):
        decode(opening * (MAX_DEPTH + 1))


def test_the_number_of_values_is_bounded() -> None:
    assert len(decode(b"\x01" * MAX_VALUES)) == MAX_VALUES
    with pytest.raises(RTMPError, match="more than"):
        decode(b"\x01" * (MAX_VALUES + 1))


def test_the_number_of_names_in_traits_is_bounded() -> None:
    # 5,000 sealed members: 5,000 << 4 | 3 in three bytes. Their empty names fit into the message.
    with pytest.raises(RTMPError, match="more than"):
        decode(b"\x0a\x84\xf1\x03\x01" + b"\x01" * 5_000)


@pytest.mark.parametrize("marker", [*range(0x06, 0x08), *range(0x09, 0x12)])
def test_a_declared_length_allocates_nothing(marker: int) -> None:
    tracemalloc.start()
    with pytest.raises(RTMPError):
        decode(bytes([marker]) + b"\xff\xff\xff\xff" * 3)
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


@given(st.binary(max_size=200))
def test_any_bytes_decode_to_values_or_raise_an_rtmp_error(data: bytes) -> None:
    with suppress(RTMPError):
        decode(data)


NAMES = st.sampled_from(["a", "b", "app", "ü", "tcUrl"])
SCALARS = st.one_of(
    st.integers(-(1 << 28), (1 << 28) - 1),
    st.floats(allow_nan=False).filter(lambda number: not number.is_integer()),
    st.booleans(),
    st.text(max_size=5),
    st.none(),
    st.just(UNDEFINED),
    st.builds(Date, st.floats(allow_nan=False)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(NAMES, inner, max_size=4),
        st.dictionaries(NAMES, inner, min_size=1, max_size=4).map(EcmaArray),
        st.builds(TypedObject, NAMES, st.dictionaries(NAMES, inner, max_size=4)),
    ),
    max_leaves=12,
)


@given(st.lists(VALUES, max_size=6))
def test_values_encoded_with_references_are_read_back(values: list[Value]) -> None:
    assert decode(encode(*values)) == values


def test_the_encoder_of_these_tests_writes_references() -> None:
    same = TypedObject("C", {"a": "a"})
    wire = encode(same, same)
    assert len(wire) < len(encode(same)) * 2
    assert decode(wire) == [same, same]


def test_a_double_is_read_exactly() -> None:
    assert decode(b"\x05" + struct.pack(">d", 0.1)) == [0.1]
