"""Malformed requests compared with two other HTTP parsers (the columns of ``malformed.py``).

A library lets a request pass here when it reports no error for it and for the request behind it: it has
understood both, or has quietly thrown something away, or waits for more. h11 and httptools (llhttp) are
careful readers; what they let pass, others in front of us or behind us may read in another way.
"""

from __future__ import annotations

from collections.abc import Callable

import h11
import httptools
import pytest

from tests.protocols.malformed import LIBRARIES, MALFORMED, NEXT, ODD_BUT_WELL_FORMED, Malformed


class Deaf:
    """A handler that ignores the events of httptools."""


def httptools_takes(wire: bytes) -> bool:
    parser = httptools.HttpRequestParser(Deaf())
    try:
        parser.feed_data(wire)
    except httptools.HttpParserUpgrade:
        return True
    except httptools.HttpParserError:
        return False
    return True


def h11_takes(wire: bytes) -> bool:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(wire)
    try:
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            if type(event) is h11.EndOfMessage:
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return True
                connection.start_next_cycle()
    except h11.RemoteProtocolError:
        return False
    return True


TAKES: dict[str, Callable[[bytes], bool]] = {"h11": h11_takes, "httptools": httptools_takes}


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda malformed: malformed.name)
def test_other_parsers_accept_exactly_the_refused_requests_that_the_table_says(
    malformed: Malformed,
) -> None:
    takers = {name for name, takes in TAKES.items() if takes(malformed.wire + NEXT)}
    assert takers == malformed.also_taken_by


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_a_library_accepts_the_valid_requests(library: str) -> None:
    """Otherwise the library refuses for another cause, and its column proves nothing."""
    assert TAKES[library](ODD_BUT_WELL_FORMED[0].wire + NEXT)


def test_each_request_of_the_table_has_its_own_name() -> None:
    assert len({malformed.name for malformed in MALFORMED}) == len(MALFORMED)
