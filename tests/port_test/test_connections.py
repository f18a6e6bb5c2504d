"""What a connection has received, and how its end is reported."""

from __future__ import annotations

import asyncio
import errno

import pytest

from gateway.port_test.connections import Connection, errors_as_failures
from gateway.port_test.observations import Kind, TrialFailed


def test_what_was_received_before_a_reset_is_read_before_it_is_reported() -> None:
    async def converse() -> None:
        connection = Connection()
        connection.data_received(b"refused")
        connection.connection_lost(ConnectionResetError(errno.ECONNRESET, "reset"))
        assert await connection.read() == b"refused"
        for _ in range(2):
            with pytest.raises(TrialFailed) as failed:
                await connection.read()
            assert failed.value.kind is Kind.CLOSED

    asyncio.run(converse())


def test_an_end_without_an_error_is_empty() -> None:
    async def converse() -> None:
        connection = Connection()
        connection.connection_lost(None)
        assert await connection.read() == b""

    asyncio.run(converse())


def test_the_end_of_asyncios_time_is_not_a_failure_of_the_connection() -> None:
    with pytest.raises(TimeoutError), errors_as_failures():
        raise TimeoutError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(errno.ETIMEDOUT, "timed out"), Kind.NO_ANSWER),
        (ConnectionResetError(), Kind.CLOSED),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), Kind.REFUSED),
        (OSError(errno.EHOSTUNREACH, "no route"), Kind.UNREACHABLE),
    ],
)
def test_an_error_of_the_system_is_a_failure(error: OSError, kind: Kind) -> None:
    with pytest.raises(TrialFailed) as failed, errors_as_failures():
        raise error
    assert failed.value.kind is kind
