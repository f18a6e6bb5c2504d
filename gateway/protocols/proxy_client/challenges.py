"""The challenges of a proxy's answer with status 407 (RFC 9110, 11.3): ``Proxy-Authenticate`` fields.

A field is a list of challenges, and a challenge has a list of parameters, both separated by commas. Reading
stops at the first malformed part; the challenges before it count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from gateway.protocols.fields import TOKEN, Items, values

FIELD: Final = b"proxy-authenticate"
_PARAMETER: Final = re.compile(
    rb'[ \t,]*(%b)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|(%b))[ \t]*(?=,|$)' % (TOKEN, TOKEN)
)
# A scheme is followed by parameters, or by one token such as NTLM's, which is not kept.
_SCHEME: Final = re.compile(
    rb"[ \t,]*(%b)(?:[ \t]+(?:[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|$))?|(?=,|$))" % TOKEN
)
_ESCAPE: Final = re.compile(rb"\\(.)")


@frozen
class Challenge:
    """``scheme`` and the names of ``parameters`` are in lower case; values are without quotes."""

    scheme: bytes
    parameters: Mapping[bytes, bytes]


def challenges_of(items: Items) -> list[Challenge]:
    """All challenges of a response's fields."""
    return [challenge for value in values(items, FIELD) for challenge in _read(value)]


def _read(value: bytes) -> list[Challenge]:
    found: list[tuple[bytes, dict[bytes, bytes]]] = []
    at = 0
    while at < len(value):
        match = _PARAMETER.match(value, at)
        if match is not None and found:
            name, quoted, token = match.groups()
            text = token if quoted is None else _ESCAPE.sub(rb"\1", quoted)
            found[-1][1].setdefault(name.lower(), text)
        else:
            match = _SCHEME.match(value, at)
            if match is None:
                break
            found.append((match[1].lower(), {}))
        at = match.end()
    return [Challenge(*each) for each in found]
