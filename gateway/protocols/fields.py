"""Strict parsing of HTTP header fields and trailer fields, of requests and responses.

A line that is not ``name: value``, a folded line, or a control character raises BadRequest; the parser of
responses converts it to its own error. Names are returned in lower case, and values without surrounding
white space, in their order.

This module does not know the meaning of any field.
"""

from __future__ import annotations

import re

from gateway.errors import BadRequest

Items = tuple[tuple[bytes, bytes], ...]

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Bytes that are not allowed in a head, except CR LF as line ends (RFC 9110, 5.5). One set of bytes, and
# conditions behind it: with alternatives, each byte of a head takes six times as long.
FORBIDDEN = re.compile(rb"[\x00-\x08\n-\x1f\x7f](?<!\r(?=\n))(?<!\r\n)")
_NAME = re.compile(TOKEN)


def items_of(block: bytes) -> Items:
    """Parse field lines. Each ends in CR LF, and the last one is empty. Raises BadRequest."""
    if FORBIDDEN.search(block):
        raise BadRequest("control character in a field")
    return tuple(_item_of(line) for line in block.split(b"\r\n") if line)


def field_lines(head: bytes) -> int:
    """The number of field lines in a whole head, without parsing it."""
    # The first line and the empty one have ends too.
    return head.count(b"\r\n") - 2


def values(items: Items, name: bytes) -> list[bytes]:
    """All values of the field ``name`` (in lower case)."""
    return [value for key, value in items if key == name]


def tokens(items: Items, name: bytes) -> set[bytes]:
    """The tokens of the list field ``name``, in lower case."""
    listed = b",".join(values(items, name))
    return {token.strip(b" \t").lower() for token in listed.split(b",")}


def _item_of(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise BadRequest("malformed field")
    return name.lower(), value.strip(b" \t")
