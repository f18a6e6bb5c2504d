"""Session ids: unguessable, well-formed, and unique (DESIGN.md, Rules of a session)."""

from __future__ import annotations

import os
import re

import pytest

from gateway.tunnels.ids import PORT_TEST, SessionIds, base36, is_of_port_test


def test_an_id_consists_of_node_worker_and_128_random_bits() -> None:
    ids = SessionIds("a7", 37, lambda size: bytes(range(size)))
    session_id, alias = ids.next()
    assert session_id == b"a711" + b"AAECAwQFBgcICQoLDA0ODw"
    assert alias == "a711-1"


def test_ids_of_the_port_test_are_told_from_others() -> None:
    ordinary, _ = SessionIds("00", 1, bytes).next()
    of_test, _ = SessionIds("00", 1, bytes, PORT_TEST).next()
    assert of_test == ordinary + PORT_TEST
    assert is_of_port_test(of_test)
    for other in (ordinary, b"", PORT_TEST, ordinary[:-5] + PORT_TEST, of_test + b"x"):
        assert not is_of_port_test(other)


def test_the_random_part_has_at_least_128_bits_from_the_source() -> None:
    asked: list[int] = []

    def random_bytes(size: int) -> bytes:
        asked.append(size)
        return os.urandom(size)

    SessionIds("00", 0, random_bytes).next()
    assert sum(asked) * 8 >= 128


@pytest.mark.parametrize("ending", [b"", PORT_TEST])
@pytest.mark.parametrize("octet", [0x00, 0x3E, 0xFB, 0xFF])
def test_an_id_has_only_characters_that_clients_and_proxies_pass_unchanged(
    octet: int, ending: bytes
) -> None:
    session_id, _ = SessionIds("zz", 1295, lambda size: bytes([octet]) * size, ending).next()
    assert re.fullmatch(rb"[A-Za-z0-9_-]{1,31}", session_id)
    assert session_id.startswith(b"zzzz")


def test_each_random_bit_changes_the_id() -> None:
    def id_of(secret: int) -> bytes:
        return SessionIds("00", 0, lambda size: secret.to_bytes(size, "big")).next()[0]

    assert len({id_of(1 << bit) for bit in range(128)} | {id_of(0)}) == 129


def test_no_two_sessions_of_a_worker_share_an_id_or_an_alias() -> None:
    ids = SessionIds("00", 0, os.urandom)
    made = [ids.next() for _ in range(1000)]
    assert len({session_id for session_id, _ in made}) == 1000
    assert len({alias for _, alias in made}) == 1000


def test_an_alias_does_not_contain_the_random_part_of_the_id() -> None:
    session_id, alias = SessionIds("n0", 1, os.urandom).next()
    assert alias.partition("-")[0].encode() == session_id[:4]
    assert session_id[4:] not in alias.encode()
    assert len(alias) < 20


@pytest.mark.parametrize(("node", "worker"), [("a", 0), ("abc", 0), ("", 0), ("00", 36 * 36)])
def test_a_node_or_worker_number_that_is_too_large_is_refused(node: str, worker: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        SessionIds(node, worker, os.urandom)


@pytest.mark.parametrize(
    ("number", "width", "digits"),
    [(0, 2, "00"), (0, 1, "0"), (35, 2, "0z"), (36, 2, "10"), (1295, 2, "zz"), (1296, 2, "100")],
)
def test_base36_numbers_are_padded_and_never_truncated(
    number: int, width: int, digits: str
) -> None:
    assert base36(number, width) == digits
