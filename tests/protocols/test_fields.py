"""Field lines: the bytes that are not allowed in them, and how long their search takes."""

from __future__ import annotations

import re
import time
from itertools import product

from gateway.protocols.fields import FORBIDDEN

SEARCHES = 20


def is_forbidden(block: bytes, at: int) -> bool:
    """The rule, for one byte."""
    if block[at] == ord("\r"):
        return block[at + 1 : at + 2] != b"\n"
    if block[at] == ord("\n"):
        return block[max(0, at - 1) : at] != b"\r"
    return (block[at] < 0x20 and block[at] != ord("\t")) or block[at] == 0x7F


def test_control_characters_are_found_and_line_ends_are_not() -> None:
    blocks = [bytes([octet]) for octet in range(256)]
    blocks += [bytes(block) for size in range(6) for block in product(b"\r\na\t\0", repeat=size)]
    for block in blocks:
        expected = next((at for at in range(len(block)) if is_forbidden(block, at)), None)
        found = FORBIDDEN.search(block)
        assert (None if found is None else found.start()) == expected, block


def test_the_search_takes_about_as_long_as_that_for_one_set_of_bytes() -> None:
    block = b"X: " + b"a" * 32_000 + b"\r\n"
    plain = re.compile(rb"[\x00-\x08]")
    assert seconds(FORBIDDEN, block) < 4 * seconds(plain, block)


def seconds(pattern: re.Pattern[bytes], block: bytes) -> float:
    """The minimum of several searches: other load on the machine can only increase the time."""
    times = []
    for _ in range(SEARCHES):
        begun = time.process_time_ns()
        assert pattern.search(block) is None
        times.append(time.process_time_ns() - begun)
    return min(times)
