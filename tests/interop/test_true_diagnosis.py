"""The diagnosis names the place of a known delay.

The test plays client and media server over real sockets (paths.py); the media server that hangs is a real
one, stopped by a signal.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path as File
from time import sleep
from typing import Any

import pytest

from gateway.telemetry.measurement.silence import SILENT_S
from tests.helpers.interop.clients import FFmpegPlayer, publish, url
from tests.helpers.interop.paths import HANDSHAKE, MediaServer, Path, path
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, start_origin
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

_ROUNDS = 12
# A session is looked at each ten seconds.
_NOTICED_S = 25.0


def diagnosis_of(gateway: WatchedGateway, alias: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.get(f"/sessions/{alias}"))["diagnosis"]
    return found


def diagnosis(end_to_end: Path) -> dict[str, Any]:
    return diagnosis_of(end_to_end.gateway, end_to_end.figures["alias"])


def silent_s(gateway: WatchedGateway) -> float:
    (server,) = json.loads(gateway.get("/upstreams"))["upstreams"]
    return float(server["silent_s"])


def let_wait(end_to_end: Path, said: bytes, seconds: float) -> None:
    """Send data from the media server, poll after ``seconds``, and read the whole answer."""
    end_to_end.server.says(said)
    sleep(seconds)
    end_to_end.client.idle()
    end_to_end.client.answer()


def test_an_undelayed_session_is_diagnosed_as_undelayed(programs: Programs) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        for _ in range(_ROUNDS):
            end_to_end.poll(b"data")
        found = diagnosis(end_to_end)
    assert found["cause"] == "none", found


@pytest.mark.parametrize(
    ("polls_late_s", "proxy_s"), [(0.3, None), (0.0, 0.4)], ids=["the client", "a hidden proxy"]
)
def test_a_client_or_a_hidden_proxy_that_polls_late_is_diagnosed_as_polling(
    programs: Programs, polls_late_s: float, proxy_s: float | None
) -> None:
    with path(programs, MediaServer(), proxy_s=proxy_s) as end_to_end:
        end_to_end.open()
        for _ in range(_ROUNDS):
            let_wait(end_to_end, b"data", polls_late_s)
        found = diagnosis(end_to_end)
    assert found["cause"] == "polling", found
    assert "a program between that does not name itself" in found["notes"][0]


def test_a_client_that_polls_too_seldom_for_the_streams_rate_is_diagnosed_as_polling(
    programs: Programs,
) -> None:
    """Its answers are full, and the remaining data waits for the next answers."""
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        for _ in range(6):
            let_wait(end_to_end, bytes(256 * 1024), 0.5)
        found = diagnosis(end_to_end)
    assert found["cause"] == "polling", found
    assert "asks too seldom for the stream's rate" in found["notes"][0]


def test_a_delay_of_a_few_polls_is_diagnosed_as_sudden(programs: Programs) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        for number in range(3 * _ROUNDS):
            if number % 9:
                end_to_end.poll(b"data")
            else:
                let_wait(end_to_end, b"data", 0.3)
        found = diagnosis(end_to_end)
    assert found["cause"] == "polling", found
    assert any("sudden, not steady" in note for note in found["notes"])


def test_a_media_server_that_does_not_answer_the_handshake_is_diagnosed_as_the_cause(
    programs: Programs,
) -> None:
    with path(programs, MediaServer()) as end_to_end:
        end_to_end.open()
        end_to_end.client.send(HANDSHAKE)
        end_to_end.client.answer()
        sleep(SILENT_S)
        found = diagnosis(end_to_end)
        assert found["cause"] == "server", found
        assert "has not answered its handshake for 3." in found["notes"][0]
        end_to_end.poll(HANDSHAKE)
        assert diagnosis(end_to_end)["cause"] == "none"


def test_a_media_server_that_hangs_is_not_shown_as_up(
    programs: Programs, clip: File, stream: str
) -> None:
    """The server is stopped by a signal: its kernel still accepts connections and acknowledges data."""
    origin, port = start_origin(programs)
    gateway = start_watched_gateway(programs, f'[[upstream]]\nservers = ["{LOOPBACK}:{port}"]\n')
    source = url("rtmpt", gateway.port, stream)
    early = FFmpegPlayer(programs, source)
    until(gateway.sessions, "the player's session is there")
    publish(programs, clip, url("rtmp", port, stream), in_a_loop=True)
    until(early.packets, "the player plays")
    assert silent_s(gateway) == 0
    (lived_through,) = gateway.sessions()
    (worker,) = origin.children
    os.kill(worker, signal.SIGSTOP)
    try:
        FFmpegPlayer(programs, source)
        until(lambda: silent_s(gateway) >= SILENT_S, "the server is silent", _NOTICED_S)
        waiting = [each for each in gateway.sessions() if each["alias"] != lived_through["alias"]]
        found = diagnosis_of(gateway, waiting[0]["alias"])
        assert found["cause"] == "server", found
    finally:
        os.kill(worker, signal.SIGCONT)
    until(lambda: not silent_s(gateway), "the server answers again", _NOTICED_S)
    assert lived_through["alias"] in [each["alias"] for each in gateway.sessions()]
    for session in gateway.sessions():
        assert diagnosis_of(gateway, session["alias"])["cause"] != "network"
