"""Reloads, upgrades and killed processes under load: no session is cut, no open refused, no byte lost.

python -m tests.interop.test_hitless     with 4 publishers and players, 250 other sessions and 20 reloads
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep

import pytest

from tests.helpers.interop.clients import LOST_BY_FFMPEG, FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet, make_clip, packets_of_media
from tests.helpers.interop.echo import EchoServer, echo_server
from tests.helpers.interop.hitless import Habits, Load, MediaLoop, Service
from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import start_gateway, start_nginx
from tests.helpers.interop.tap import Tap
from tests.interop.conftest import Upstream

_CONFIGURATION = """workers = 2
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["{server}"]
"""
_LONGEST_OPEN_S = 0.5
_RELOADS = 20


@pytest.fixture
def echoes() -> Iterator[list[int]]:
    with echo_server() as one, echo_server() as other:
        yield [one, other]


@pytest.mark.alone
def test_nothing_is_lost_over_reloads_an_upgrade_and_killed_processes(
    programs: Programs, tmp_path: Path, echoes: list[int]
) -> None:
    with closing(Service(programs, tmp_path, echoes)) as service:
        load = Load(
            service,
            {
                Habits(keeps=True, steps=10_000): 15,
                Habits(keeps=True): 15,
                Habits(keeps=False): 10,
                Habits(keeps=True, cuts=True): 5,
                Habits(keeps=True, tls=True): 5,
            },
        )
        sleep(0.5)
        for change in (service.reload, service.upgrade, service.reload):
            change()
            sleep(0.3)
        service.kill_supervisor()
        sleep(0.3)
        service.reload()
        assert load.sessions["finished"]
        assert not load.sessions["killed"]
        assert load.slowest_open_s < _LONGEST_OPEN_S
        service.kill_worker()
        sleep(0.3)
        load.open_no_more()
        service.drain()
        load.finish()
        assert service.program.ends(20) == -signal.SIGTERM
    for log in tmp_path.rglob("log"):
        assert "Traceback" not in log.read_text()


def test_media_of_ffmpeg_is_exact_during_reloads_and_an_upgrade(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    stream: str,
    clip: Path,
    packets: list[Packet],
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(_CONFIGURATION.format(server=nginx.server))
    gateway, port = start_gateway(programs, "--config", str(file))
    source = url("rtmpt", port, stream)
    player = FFmpegPlayer(programs, source)
    nginx.tap.players(1)
    publisher = publish(programs, clip, source)
    for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
        before = gateway.log.count("reloaded configuration")
        with file.open("a") as configuration:
            configuration.write("# changed\n")
        gateway.send(number)
        _until_reloaded(gateway, before)
    assert publisher.ends(30) == 0
    assert player.program.ends(20) == 0
    got = player.packets()
    assert got == packets[: len(got)]
    assert len(packets) - len(got) <= LOST_BY_FFMPEG


def _until_reloaded(gateway: Program, before: int) -> None:
    end = monotonic() + 30
    while gateway.log.count("reloaded configuration") == before:
        assert monotonic() < end
        sleep(0.05)


# The long form


def everything_at_once() -> None:
    """Print what became of sessions and media, and the slowest open."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        programs = Programs(folder)
        stack.callback(programs.stop)
        _, rtmp_port = start_nginx(programs, folder)
        tap = stack.enter_context(closing(Tap(rtmp_port)))
        echoes = [stack.enter_context(closing(EchoServer(tap.port))) for _ in range(2)]
        ports = [echo.port for echo in echoes]
        service = stack.enter_context(closing(Service(programs, folder, ports)))
        pause_s = 0.5
        load = Load(
            service,
            {
                Habits(keeps=True, steps=10_000, pause_s=pause_s): 100,
                Habits(keeps=True, pause_s=pause_s): 70,
                Habits(keeps=True, cuts=True, pause_s=pause_s): 10,
                Habits(keeps=True, tls=True, pause_s=pause_s): 20,
                Habits(keeps=False, pause_s=pause_s): 50,
            },
        )
        clip = make_clip(folder / "clip.flv")
        packets = packets_of_media(clip)
        loops = [
            MediaLoop(programs, service.ports["http"], tap, f"s{number}", clip, packets, load.over)
            for number in range(4)
        ]
        _change_everything(service, load, loops)
        load.open_no_more()
        service.drain()
        load.finish()
        for loop in loops:
            loop.join(60)
            assert loop.failure is None, loop.failure
        _print(load, loops, "at the end")


def _change_everything(service: Service, load: Load, loops: list[MediaLoop]) -> None:
    sleep(3)
    for number in range(_RELOADS):
        service.reload()
        _print(load, loops, f"reload {number + 1}")
        sleep(1)
    service.upgrade()
    _print(load, loops, "upgrade")
    service.kill_supervisor()
    _print(load, loops, "killed supervisor")
    sleep(3)
    service.kill_worker()
    _print(load, loops, "killed worker")
    sleep(3)


def _print(load: Load, loops: list[MediaLoop], after: str) -> None:
    played, lost = sum(loop.played for loop in loops), sum(loop.lost for loop in loops)
    print(
        f"{after}: sessions {dict(load.sessions)}, clips {played}, clips cut {lost}, "
        f"slowest open {load.slowest_open_s:.3f} s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(everything_at_once())
