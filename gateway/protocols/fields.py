"""The fields of a message, read strictly: of requests, of answers, and of trailers alike.

A line that is not ``name: value`` to the letter, folded lines and control characters among them, is
BadRequest; whoever reads something other than a request says in its own words whose fault that is. Names
come out in lower case, values without the white space around them, both in the order they came in.

This module does not know what any field means.
"""

from __future__ import annotations

import re

from gateway.errors import BadRequest

Items = tuple[tuple[bytes, bytes], ...]

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Everything that may not stand in a head, CR LF as line ends apart (RFC 9110, 5.5).
FORBIDDEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)|(?<!\r)\n")
_NAME = re.compile(TOKEN)


def items_of(block: bytes) -> Items:
    """The fields of lines that each end in CR LF, the last one empty. Raises BadRequest."""
    if FORBIDDEN.search(block):
        raise BadRequest("control character in a field")
    return tuple(_item_of(line) for line in block.split(b"\r\n") if line)


def values(items: Items, name: bytes) -> list[bytes]:
    """All values of the field ``name`` (in lower case)."""
    return [value for key, value in items if key == name]


def tokens(items: Items, name: bytes) -> set[bytes]:
    """What the field ``name`` lists, in lower case."""
    listed = b",".join(values(items, name))
    return {token.strip(b" \t").lower() for token in listed.split(b",")}


def _item_of(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _NAME.fullmatch(name):
        raise BadRequest("malformed field")
    return name.lower(), value.strip(b" \t")
