"""Reading a connect's properties, and replacing them in place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import RTMPError
from gateway.protocols.rtmp import amf0
from gateway.protocols.rtmp.connect_command import ConnectCommand, read_connect_command
from gateway.protocols.rtmp.messages import Message, MessageType
from gateway.protocols.templates import NAMES

NAME = amf0.encode("connect", 1.0)
END = b"\x00\x00\x09"
# An AMF3 object {a: "b"} behind AMF0's marker; an XML document and a reference, which are not decoded.
AMF3_VALUE = bytes.fromhex("110a0b01036106036201")
XML, REFERENCE = b"\x0f\x00\x00\x00\x01x", b"\x07\x00\x00"


def named(name: str, value: bytes) -> bytes:
    return len(name).to_bytes(2, "big") + name.encode() + value


def string(text: str) -> bytes:
    return amf0.encode(text)


def read(payload: bytes, message_type: MessageType = MessageType.COMMAND) -> ConnectCommand:
    return read_connect_command(Message(message_type, payload))


def an_object(*properties: bytes) -> bytes:
    return b"\x03" + b"".join(properties) + END


def test_the_properties_that_are_strings_are_read() -> None:
    given_object = an_object(
        named("app", string("live")),
        named("fpad", b"\x01\x00"),
        named("tcUrl", string("rtmp://a/live")),
    )
    connect = read(NAME + given_object)
    assert (connect.transaction, connect.text("app")) == (1.0, "live")
    assert connect.text("tcUrl") == "rtmp://a/live"
    assert (connect.text("fpad"), connect.text("pageUrl")) == ("", "")


def test_the_same_is_read_from_a_message_of_type_17() -> None:
    payload = b"\x00" + NAME + an_object(named("app", string("live")))
    connect = read(payload, MessageType.COMMAND_AMF3)
    assert connect.text("app") == "live"
    assert connect.with_texts({"app": "vod"}) == payload.replace(b"\x04live", b"\x03vod")


def test_a_replacement_leaves_all_other_bytes_in_their_places() -> None:
    before = (
        named("unknown", AMF3_VALUE)
        + named("odd", b"\x01\x07")
        + named("text", b"\x02\x00\x01\xff")
    )
    after = named("more", b"\x08\x00\x00\x00\x63" + named("x", b"\x05") + END)
    arguments = AMF3_VALUE + XML + b"\xff"
    payload = NAME + an_object(before, named("tcUrl", string("old")), after) + arguments
    assert read(payload).with_texts({"tcUrl": "another"}) == (
        NAME + an_object(before, named("tcUrl", string("another")), after) + arguments
    )


def test_properties_that_are_missing_are_added_at_the_end_of_the_object() -> None:
    app = named("app", string("live"))
    connect = read(NAME + an_object(app) + b"\x05")
    assert connect.with_texts({"pageUrl": "p", "app": "vod", "swfUrl": "s"}) == (
        NAME
        + an_object(
            named("app", string("vod")), named("pageUrl", string("p")), named("swfUrl", string("s"))
        )
        + b"\x05"
    )


def test_of_several_properties_with_a_name_the_last_counts_and_all_are_replaced() -> None:
    connect = read(NAME + an_object(named("app", string("a")), named("app", string("b"))))
    assert connect.text("app") == "b"
    assert connect.with_texts({"app": "c"}) == (
        NAME + an_object(named("app", string("c")), named("app", string("c")))
    )


@pytest.mark.parametrize("strange", [REFERENCE, XML, b"\x11\x20", b"\x02\x00\x09cut", b"\xff"])
def test_what_cannot_be_decoded_stays_and_the_properties_before_it_are_known(
    strange: bytes,
) -> None:
    rest = named("strange", strange) + named("tcUrl", string("t")) + END
    connect = read(NAME + b"\x03" + named("app", string("live")) + rest)
    assert connect.text("app") == "live"
    assert connect.with_texts({"app": "vod", "tcUrl": "u"}) == (
        NAME + b"\x03" + named("app", string("vod")) + rest
    )


def test_a_value_in_amf3_is_not_replaced_because_later_values_can_refer_to_it() -> None:
    payload = NAME + an_object(named("app", b"\x11\x06\x09live")) + b"\x11\x06\x00"
    connect = read(payload)
    assert connect.text("app") == "live"
    assert connect.with_texts({"app": "vod"}) == payload


def test_a_connect_without_an_object_stays_as_it_is() -> None:
    payload = NAME + b"\x05"
    assert read(payload).with_texts({"app": "vod"}) == payload


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("rtmp://media.example.org:1935/live", "media.example.org"),
        ("RTMPT://a/live?b://c", "a"),
        ("rtmps://[2001:db8::1]:443/live", "[2001:db8::1]"),
        ("live", ""),
        ("", ""),
    ],
)
def test_templates_know_the_host_of_the_url(url: str, host: str) -> None:
    connect = read(NAME + an_object(named("app", string("live")), named("tcUrl", string(url))))
    values = connect.template_values("10.0.0.8:1935")
    assert (values["host"], values["app"], values["tc_url"]) == (host, "live", url)
    assert (values["server"], values["page_url"], set(values)) == ("10.0.0.8:1935", "", set(NAMES))


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", amf0.encode("connect"), amf0.encode("play", 1.0), amf0.encode("connect", "1")],
)
def test_another_command_is_refused(payload: bytes) -> None:
    with pytest.raises(RTMPError):
        read(payload)


def test_a_command_without_its_format_byte_is_refused() -> None:
    """Found by fuzzing."""
    with pytest.raises(RTMPError):
        read_connect_command(Message(MessageType.COMMAND_AMF3, b""))


@given(st.binary(max_size=200), st.sampled_from([b"", NAME, NAME + b"\x03"]))
def test_any_bytes_are_read_or_refused(payload: bytes, begin: bytes) -> None:
    try:
        connect = read(begin + payload)
    except RTMPError:
        return
    assert connect.with_texts({}) == begin + payload
