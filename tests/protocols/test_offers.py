"""Messages that offer a connection to another worker, and which connections are offered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.limits import Limits
from gateway.protocols.offers import (
    MOST_BYTES,
    MalformedOffer,
    Offer,
    read_offer,
    session_of_first_request,
)

LIMITS = Limits()
IDLE = b"POST /idle/0001abc/7 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n\0"
ADDRESSES = st.one_of(st.just(""), st.ip_addresses().map(str))


@given(st.integers(0, 0xFFFF), ADDRESSES, st.binary(min_size=1, max_size=70_000))
def test_an_offer_is_read_as_it_was_made_or_too_long(
    listener: int, address: str, first: bytes
) -> None:
    offer = Offer(listener, address, first)
    if len(first) <= 64 * 1024:
        assert len(offer.message) <= MOST_BYTES
        assert read_offer(offer.message, listener + 1) == offer
    elif len(offer.message) > MOST_BYTES:
        with pytest.raises(MalformedOffer):
            read_offer(offer.message, listener + 1)


@given(st.binary(max_size=200), st.integers(1, 3))
def test_any_message_is_an_offer_or_refused(message: bytes, listeners: int) -> None:
    try:
        offer = read_offer(message, listeners)
    except MalformedOffer:
        return
    assert offer.listener < listeners
    assert offer.first
    assert offer.message == message


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0\0",
        b"\0\0\0",
        b"\0\0\x09192.0.2.1",
        b"\0\0\x0a192.0.2.1",
        b"\0\0\x09192.0.2.xPOST",
        b"\0\0\x02\xc3\xa9POST",
        b"\0\x01\x09192.0.2.1POST",
        b"\0\0\x41" + b"1" * 65 + b"POST",
        Offer(0, "", bytes(MOST_BYTES)).message,
    ],
)
def test_a_malformed_offer_is_refused(message: bytes) -> None:
    with pytest.raises(MalformedOffer):
        read_offer(message, 1)


@pytest.mark.parametrize("command", [b"send", b"idle", b"close"])
@pytest.mark.parametrize("more", [b"", b"POST /idle/0002b/1 HTTP/1.1\r\n", b"\r\n"])
def test_a_connection_belongs_to_the_session_of_its_first_command(
    command: bytes, more: bytes
) -> None:
    assert session_of_first_request(IDLE.replace(b"idle", command) + more, LIMITS) == b"0001abc"


def test_the_body_of_the_first_command_may_be_missing() -> None:
    assert session_of_first_request(IDLE[:-1], LIMITS) == b"0001abc"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"POST ",
        IDLE[:-2],
        IDLE.replace(b"POST", b"GET"),
        IDLE.replace(b"/idle/0001abc/7", b"/open/1"),
        IDLE.replace(b"/idle/0001abc/7", b"/fcs/ident2"),
        IDLE.replace(b"/idle/0001abc/7", b"/"),
        IDLE.replace(b"/idle", b"/idle/x"),
        IDLE.replace(b"Host: a\r\n", b""),
        IDLE.replace(b"Host: a", b"Host: a\r\nHost: a"),
        IDLE.replace(b"\r\n", b"\n"),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + IDLE,
    ],
)
def test_no_other_first_request_names_a_session(first: bytes) -> None:
    assert session_of_first_request(first, LIMITS) == b""


@pytest.mark.parametrize(
    ("version", "field", "is_kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: keep-alive\r\n", True),
    ],
)
def test_a_connection_that_closes_after_its_first_command_belongs_to_no_session(
    version: bytes, field: bytes, is_kept: bool
) -> None:
    first = IDLE.replace(b"1.1\r\n", version + b"\r\n" + field)
    assert session_of_first_request(first, LIMITS) == (b"0001abc" if is_kept else b"")
