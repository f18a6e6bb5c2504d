"""What a failing media server means for the sessions of the others, and for new ones.

Three servers have a hundred live sessions each, and the first one fails and recovers. ``pytest -s`` prints
what was measured.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from attrs import frozen

from tests.helpers.interop.bystanders import REFERENCE_S, Bystanders
from tests.helpers.interop.failing_servers import (
    FailingServer,
    KilledServer,
    RefusingServer,
    ServerBehindFault,
)
from tests.helpers.interop.faulty import FaultyServer
from tests.helpers.interop.light_sessions import LightSessions
from tests.helpers.interop.opens import Opens
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, start_nginx
from tests.helpers.interop.watched import WatchedGateway, start_watched_gateway

_PATH = "live/show"
# What the failing server's stream has in it.
_MARK = b"failing"
_SESSIONS, _DIRECT, _RELAYED = 300, 20, 100
# From the notice of the fault on.
_WATCH_S = 1.0
_CHECK_S, _FALL, _RISE, _TIMEOUT_S = 1.0, 2, 2, 0.5
# Each check begins up to a tenth of the interval and a second's look late, and workers know a second later.
_NOTICED_S = _FALL * (1.1 * _CHECK_S + 1.0 + _TIMEOUT_S) + 1.0
_RETURNED_S = _RISE * (1.1 * _CHECK_S + 1.0 + _TIMEOUT_S) + 1.0
# Some hundred connections, and the other programs of this machine go on.
_HOSTILE_PAUSE_S = 0.01
_CONFIGURATION = """
[[upstream]]
name = "media"
servers = [{servers}]
choose = "round_robin"
{check}
check_s = {check_s}
fall = {fall}
rise = {rise}
slow_start_s = 60
[limits]
upstream_connect_s = {timeout_s}
"""
# With it, the gateway knows whether a server answers the client's commands before the client has any of
# the server's bytes, and can still try the next one.
_ROUTE = """
[[route]]
upstream = "media"
stream = "*"
"""


@frozen
class _Fault:
    """``check``: how the servers are checked. ``more``: of the configuration. ``ends_sessions``: whether
    the server's sessions end with the fault. ``fails_opens``: whether opens fail before it is noticed.
    """

    server: Callable[[Programs, Path], FailingServer]
    check: str = "rtmp"
    more: str = _ROUTE
    ends_sessions: bool = True
    fails_opens: bool = False


def _behind(fault: str) -> Callable[[Programs, Path], FailingServer]:
    return partial(ServerBehindFault, fault=fault)


_FAULTS = {
    "is killed": _Fault(KilledServer, "auto", more=""),
    "accepts and says nothing": _Fault(_behind("says nothing"), ends_sessions=False),
    "resets": _Fault(_behind("resets")),
    # Its connects succeed: the sessions that fail have it checked by a handshake.
    "closes": _Fault(_behind("closes"), "auto", more="", fails_opens=True),
    "is slow": _Fault(_behind("is slow"), ends_sessions=False),
    "refuses the application": _Fault(
        RefusingServer, 'rtmp"\ncheck_application = "live', ends_sessions=False
    ),
}


def gateway_before(
    programs: Programs, ports: list[int], check: str = "auto", more: str = ""
) -> WatchedGateway:
    configuration = _CONFIGURATION.format(
        servers=", ".join(f'"{LOOPBACK}:{port}"' for port in ports),
        check=f'check = "{check}"',
        check_s=_CHECK_S,
        fall=_FALL,
        rise=_RISE,
        timeout_s=_TIMEOUT_S,
    )
    return start_watched_gateway(programs, configuration + more)


def upstreams(gateway: WatchedGateway) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gateway.get("/upstreams"))["upstreams"]
    return found


def states(gateway: WatchedGateway) -> list[str]:
    return [each["state"] for each in upstreams(gateway)]


def sessions_of_each(gateway: WatchedGateway) -> list[int]:
    return [each["sessions"] for each in upstreams(gateway)]


def opens_until_the_first_has_more(gateway: WatchedGateway, sessions: LightSessions) -> int:
    """The number of opens until the first server gets one of them."""
    number, before = 0, sessions_of_each(gateway)[0]
    while sessions_of_each(gateway)[0] <= before:
        sessions.play(gateway.port, _PATH)
        number += 1
    return number


@pytest.mark.alone
@pytest.mark.parametrize("name", _FAULTS)
def test_a_failing_server_delays_no_session_of_the_others_and_no_open_fails(
    programs: Programs, tmp_path: Path, name: str
) -> None:
    fault = _FAULTS[name]
    failing = fault.server(programs, tmp_path)
    working = [start_nginx(programs, tmp_path)[1] for _ in range(2)]
    gateway = gateway_before(programs, [failing.port, *working], fault.check, fault.more)
    with ExitStack() as stack:
        sessions = stack.enter_context(LightSessions())
        sessions.publish(failing.own_port, _PATH, mark=_MARK)
        for port in working:
            sessions.publish(port, _PATH)
        players = sessions.play_many(_SESSIONS, gateway.port, _PATH)
        # An open whose server is late gets the next one.
        assert sum(sessions_of_each(gateway)) == _SESSIONS
        assert min(sessions_of_each(gateway)) > 0.9 * _SESSIONS / 3
        until(lambda: all(each.received for each in players), "all have media")
        own = [each for each in players if _MARK in each.received]
        others = [each for each in players if _MARK not in each.received]
        relay = FaultyServer(programs, working[0])
        direct = sessions.play_many(_DIRECT, working[0], _PATH)
        relayed = sessions.play_many(_RELAYED, relay.port, _PATH)
        opens = stack.enter_context(closing(Opens(sessions, gateway.port, _PATH)))
        bystanders = Bystanders(others, direct, relayed)

        bystanders.begin()
        failing.fail()
        failed_at = monotonic()
        gateway.program.says("is down by its health checks")
        noticed_s = monotonic() - failed_at
        sleep(max(_WATCH_S, failed_at + REFERENCE_S - monotonic()))
        bystanders.check(f"a server {name}")
        assert noticed_s < _NOTICED_S
        assert states(gateway) == ["down", "up", "up"]
        assert {each.has_ended for each in own} == {fault.ends_sessions}

        bystanders.begin()
        failing.recover()
        recovered_at = monotonic()
        if name == "is killed":
            sessions.publish(failing.own_port, _PATH, mark=_MARK)
        gateway.program.says("is up again")
        returned_s = monotonic() - recovered_at
        until(lambda: states(gateway)[0] == "slow_start", "it starts slowly", 2.0)
        bystanders.check("it recovers")
        assert returned_s < _RETURNED_S

        opens.close()
        print(f"noticed after {noticed_s:.2f} s, back after {returned_s:.2f} s; {opens}")
        assert opens.number > 20
        # An open that had reached the server before is one of its sessions.
        allowed_until = failed_at + (noticed_s + 1.0 if fault.fails_opens else 0.0)
        assert not [began for began in opens.failures if began > allowed_until]
        assert opens_until_the_first_has_more(gateway, sessions) < 300
        # With a full share, it would get each third open.
        before = sessions_of_each(gateway)[0]
        sessions.play_many(6, gateway.port, _PATH)
        assert sessions_of_each(gateway)[0] == before


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
        sleep(_HOSTILE_PAUSE_S)
    found = json.loads(gateway.get("/upstreams"))["upstreams"]
    assert sum(each["failures_by_reason"]["at_birth"] for each in found) > 20
    assert [each["state"] for each in found] == ["up", "up"]
    assert "is down" not in gateway.program.log
