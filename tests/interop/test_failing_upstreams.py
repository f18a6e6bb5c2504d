"""What a failing media server means for the sessions of the others, and for new ones."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import final

import pytest

from tests.helpers.interop.light_sessions import (
    LightSession,
    LightSessions,
    SessionFailed,
    forget_gaps,
    longest_gap_s,
)
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.relay import How, Link, Relay, end
from tests.helpers.interop.servers import LOOPBACK, start_nginx
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

_PATH = "live/show"
# Beyond the longest time without media before.
_STALL_S = 0.05
_WATCH_S, _REFERENCE_S = 6.0, 3.0
_ATTEMPTS = 3
_CHECK_S, _FALL, _RISE, _TIMEOUT_S = 1.0, 2, 2, 0.5
# Each check begins up to a tenth of the interval and a second's look late, and workers know a second later.
_NOTICED_S = _FALL * (1.1 * _CHECK_S + 1.0 + _TIMEOUT_S) + 1.0
_RETURNED_S = _RISE * (1.1 * _CHECK_S + 1.0 + _TIMEOUT_S) + 1.0
_CONFIGURATION = """
[[upstream]]
servers = [{servers}]
choose = "round_robin"
check = "{check}"
check_s = {check_s}
fall = {fall}
rise = {rise}
slow_start_s = 60
[limits]
upstream_connect_s = {timeout_s}
"""


def gateway_before(
    programs: Programs, ports: list[int], check: str = "auto", rise: int = _RISE
) -> WatchedGateway:
    return start_watched_gateway(
        programs,
        _CONFIGURATION.format(
            servers=", ".join(f'"{LOOPBACK}:{port}"' for port in ports),
            check=check,
            check_s=_CHECK_S,
            fall=_FALL,
            rise=rise,
            timeout_s=_TIMEOUT_S,
        ),
    )


def sessions_of_first(gateway: WatchedGateway) -> int:
    """The number of sessions of the first server."""
    number: int = json.loads(gateway.get("/upstreams"))["upstreams"][0]["sessions"]
    return number


def states(gateway: WatchedGateway) -> list[str]:
    return [each["state"] for each in json.loads(gateway.get("/upstreams"))["upstreams"]]


def kill(nginx: Program) -> None:
    """The worker as well, and not first: it would be started again."""
    workers = nginx.children
    nginx.kill()
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@final
class Faulty(Link):
    """A connection to a media server that begins to fail at some time. ``fault``: that of all of them."""

    fault = ""

    def from_client(self, data: bytes) -> None:
        self._pass(data, self.server)

    def from_server(self, data: bytes) -> None:
        self._pass(data, self.client)

    def _pass(self, data: bytes, to: socket.socket) -> None:
        if Faulty.fault == "resets":
            end(self.client, How.RESET)
            raise ConnectionError
        if Faulty.fault == "closes":
            raise ConnectionError
        if Faulty.fault == "is slow":
            sleep(2 * _TIMEOUT_S)
        if Faulty.fault != "says nothing":
            to.sendall(data)


@final
class Opens:
    """Opens a session every tenth of a second, and ends the one before, until it is closed."""

    def __init__(self, sessions: LightSessions, port: int) -> None:
        self.number = 0
        # When each began.
        self.failures: list[float] = []
        self._ended = Event()
        self._thread = Thread(target=self._run, args=(sessions, port))
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self, sessions: LightSessions, port: int) -> None:
        while not self._ended.wait(0.1):
            self.number += 1
            began = monotonic()
            try:
                sessions.play(port, _PATH).close()
            except SessionFailed:
                self.failures.append(began)


def gap_s(sessions: list[LightSession], seconds: float = _WATCH_S) -> float:
    """The longest time without media in the next seconds."""
    forget_gaps(sessions)
    sleep(seconds)
    return longest_gap_s(sessions)


@pytest.mark.alone
def test_a_killed_server_takes_its_own_sessions_alone_and_no_open_fails(
    programs: Programs, tmp_path: Path
) -> None:
    servers = [start_nginx(programs, tmp_path) for _ in range(3)]
    ports = [port for _, port in servers]
    gateway = gateway_before(programs, ports)
    with ExitStack() as stack:
        sessions = stack.enter_context(LightSessions())
        for port in ports:
            sessions.publish(port, _PATH)
        players = [sessions.play(gateway.port, _PATH) for _ in range(300)]
        opens = stack.enter_context(closing(Opens(sessions, gateway.port)))
        reference_s = gap_s(players)

        forget_gaps(players)
        kill(servers[0][0])
        killed_at = monotonic()
        gateway.program.says("is down by its health checks")
        assert monotonic() - killed_at < _NOTICED_S
        sleep(_WATCH_S - (monotonic() - killed_at))
        survivors = [player for player in players if not player.has_ended]
        assert len(survivors) == 200
        killed_s = longest_gap_s(survivors)
        assert states(gateway) == ["down", "up", "up"]

        # Others use this machine at times.
        assert killed_s <= max(reference_s, gap_s(survivors)) + _STALL_S

        start_nginx(programs, tmp_path, port=ports[0])
        returned_at = monotonic()
        sessions.publish(ports[0], _PATH)
        until(lambda: states(gateway) == ["slow_start", "up", "up"], "it is up, and starts slowly")
        assert monotonic() - returned_at < _RETURNED_S
        needed = 0
        while not sessions_of_first(gateway):
            sessions.play(gateway.port, _PATH)
            needed += 1
        # With a full share, it would get one of the next three.
        assert 6 < needed < 300
        opens.close()
        assert opens.number > 50
        assert not [began for began in opens.failures if began > killed_at]


def flat(players: dict[WatchedGateway, list[LightSession]]) -> list[LightSession]:
    return [player for found in players.values() for player in found]


@final
class Observed:
    """Players of a server that works, by their gateways. ``reference_s``: their longest time without media
    while all servers work.
    """

    def __init__(
        self,
        sessions: LightSessions,
        players: dict[WatchedGateway, list[LightSession]],
        reference_s: float,
    ) -> None:
        self._sessions = sessions
        self._players = players
        self._reference_s = reference_s

    def harms_no_other(self, gateway: WatchedGateway, cause: Callable[[], None]) -> bool:
        """Whether no session waits for longer than before, or than those of the other gateways now."""
        forget_gaps(flat(self._players))
        cause()
        longest_s = {each: longest_gap_s(found) for each, found in self._players.items()}
        own_s = longest_s.pop(gateway)
        Faulty.fault = ""
        for each in self._players:
            until(lambda each=each: "down" not in states(each), "it is back", 2 * _RETURNED_S)
        return own_s <= max(self._reference_s, *longest_s.values()) + _STALL_S

    def fail(self, gateway: WatchedGateway, fault: str) -> None:
        """The other server fails until it is found, and for the next sessions."""
        Faulty.fault = fault
        failed_at = monotonic()
        while monotonic() < failed_at + _NOTICED_S and states(gateway)[0] != "down":
            with suppress(SessionFailed):
                self._sessions.play(gateway.port, _PATH, 0.2).close()
        assert states(gateway) == ["down", "up"], fault
        for _ in range(20):
            self._sessions.play(gateway.port, _PATH).close()

    def refuse(self, gateway: WatchedGateway) -> None:
        """Both refuse an application. They work, for others, and are not taken down."""
        for _ in range(20):
            with pytest.raises(SessionFailed):
                self._sessions.play(gateway.port, "other/show").close()
        # These sessions are suspicious, and the gateway's own handshakes succeed.
        sleep(_NOTICED_S)
        assert "down" not in states(gateway)


@pytest.mark.alone
def test_a_faulty_server_is_found_and_the_sessions_of_the_others_go_on(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "fault", "")
    ports = [start_nginx(programs, tmp_path)[1] for _ in range(2)]
    with ExitStack() as stack:
        faulty = stack.enter_context(closing(Relay(ports[0], Faulty)))
        # With "auto", its connects succeed: the sessions that fail have it checked by a handshake, if it
        # has answered one before.
        by_handshake, *automatic = (
            gateway_before(programs, [faulty.port, ports[1]], check, rise=1)
            for check in ("rtmp", "auto", "auto")
        )
        sessions = stack.enter_context(LightSessions())
        for port in ports:
            sessions.publish(port, _PATH)
        players = {
            gateway: [sessions.play(gateway.port, _PATH) for _ in range(20)]
            for gateway in (by_handshake, *automatic)
        }
        faulty.forget()
        until(
            lambda: sum(each.has_ended for each in flat(players)) == 30, "half of them have ended"
        )
        for gateway, found in players.items():
            players[gateway] = [player for player in found if not player.has_ended]
        observed = Observed(sessions, players, gap_s(flat(players), _REFERENCE_S))
        for gateway, cause in (
            (by_handshake, partial(observed.fail, by_handshake, "says nothing")),
            (by_handshake, partial(observed.fail, by_handshake, "is slow")),
            (automatic[0], partial(observed.fail, automatic[0], "resets")),
            (automatic[1], partial(observed.fail, automatic[1], "closes")),
            (by_handshake, partial(observed.refuse, by_handshake)),
        ):
            # Others use this machine at times; what the fault itself causes is there each time.
            for _ in range(_ATTEMPTS):
                if observed.harms_no_other(gateway, cause):
                    break
                # Until the server has answered a handshake again.
                sleep(2 * _CHECK_S + 1.0)
            else:
                pytest.fail(f"the sessions of others wait: {cause}")
        assert not any(player.has_ended for player in flat(players))


def test_a_client_cannot_take_a_server_down_by_provoking_its_closes(
    programs: Programs, tmp_path: Path
) -> None:
    ports = [start_nginx(programs, tmp_path)[1] for _ in range(2)]
    gateway = gateway_before(programs, ports)
    end_at = monotonic() + 2 * _NOTICED_S
    garbage = b"\x03" + bytes(1536) * 2 + b"\xff" * 64
    while monotonic() < end_at:
        with socket.create_connection((LOOPBACK, gateway.port), 10) as hostile:
            hostile.sendall(garbage)
            with suppress(ConnectionError):
                while hostile.recv(65536):
                    pass
    found = json.loads(gateway.get("/upstreams"))["upstreams"]
    assert sum(each["failures_by_reason"]["at_birth"] for each in found) > 20
    assert [each["state"] for each in found] == ["up", "up"]
    assert "is down" not in gateway.program.log
