"""Detection of silent media servers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.telemetry.measurement.history import History
from gateway.telemetry.measurement.silence import SILENT_S, Silences, silent_s, unanswered_s

HELLO = 1537


def counted(up: int = HELLO, down: int = 0) -> Any:
    return SimpleNamespace(bytes_up=up, bytes_down=down)


def figures(down: int | None = None) -> Any:
    """The figures of a session with ``down`` bytes at its last sample, or without a history."""
    return SimpleNamespace(history=None if down is None else History(0, down, 0.0, 0.0))


def silent(silences: Silences, server: str, now: float) -> float:
    return silent_s(silences.unanswered_s(server, now), silences.heard_s(server, now))


def test_a_handshake_is_unanswered_from_its_end_to_the_first_byte() -> None:
    assert unanswered_s(counted(up=HELLO - 1), 10.0, 15.0) == 0
    assert unanswered_s(counted(), 10.0, 15.0) == 5
    assert unanswered_s(counted(down=1), 10.0, 15.0) == 0


def test_the_silence_of_a_server_begins_with_an_unanswered_session() -> None:
    silences = Silences()
    silences.look("a", counted(), figures(), 10.0, 12.0)
    assert silent(silences, "a", 10.0 + SILENT_S - 0.1) == 0
    assert silent(silences, "a", 16.0) == 6
    assert silent(silences, "b", 16.0) == 0


def test_the_oldest_unanswered_session_determines_the_silence() -> None:
    silences = Silences()
    silences.look("a", counted(), figures(), 14.0, 15.0)
    silences.look("a", counted(), figures(), 10.0, 15.0)
    silences.look("a", counted(), figures(), 12.0, 15.0)
    assert silent(silences, "a", 20.0) == 10


def test_a_server_that_sends_data_to_another_session_is_not_silent() -> None:
    silences = Silences()
    silences.look("a", counted(), figures(), 10.0, 15.0)
    silences.look("a", counted(down=5000), figures(down=4000), 1.0, 16.0)
    assert silent(silences, "a", 20.0) == 0


def test_a_session_with_a_paused_stream_does_not_end_the_silence() -> None:
    silences = Silences()
    silences.look("a", counted(), figures(), 10.0, 15.0)
    silences.look("a", counted(down=5000), figures(down=5000), 1.0, 16.0)
    assert silent(silences, "a", 20.0) == 10


def test_an_answered_younger_session_ends_the_silence() -> None:
    silences = Silences()
    silences.look("a", counted(), figures(), 10.0, 15.0)
    silences.look("a", counted(down=3073), figures(), 17.0, 18.0)
    assert silent(silences, "a", 20.0) == 0


def test_a_removed_unanswered_session_no_longer_counts() -> None:
    silences = Silences()
    silences.look("a", counted(), figures(), 10.0, 15.0)
    assert silent(silences, "a", 29.0) > 0
    assert silent(silences, "a", 31.0) == 0
