"""Mirrors with real clients and media servers."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import closing
from pathlib import Path
from time import perf_counter, sleep
from typing import Any
from urllib.request import urlopen

import pytest

from gateway.protocols.rtmp.outbox import QUEUE_BYTES
from tests.helpers.interop.clients import FFmpegPlayer, publish, url
from tests.helpers.interop.clips import Packet
from tests.helpers.interop.light_sessions import LightSessions, forget_gaps, longest_gap_s
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import LOOPBACK, port_said, start_gateway, start_nginx
from tests.helpers.interop.tap import Tap
from tests.interop.conftest import Upstream

_GATEWAY = """workers = 1
[[listener]]
address = "{loopback}:0"
[[upstream]]
servers = ["{server}"]
[[upstream]]
name = "platform"
servers = ["{mirror}"]
[[mirror]]
upstream = "platform"
application = "live"
stream = "stream*"
{more}
[admin]
address = "{loopback}:0"
"""
_ENDS_S = 20.0
_STALLED_S = 2.0
# Beyond the longest time without media before.
_STALL_S = 0.05


def start(
    programs: Programs, folder: Path, server: str, mirror: int, more: str = ""
) -> tuple[Program, int]:
    file = folder / "gateway.toml"
    mirror_address = f"{LOOPBACK}:{mirror}"
    file.write_text(
        _GATEWAY.format(loopback=LOOPBACK, server=server, mirror=mirror_address, more=more)
    )
    return start_gateway(programs, "--config", str(file))


def metrics(program: Program) -> str:
    port = port_said(program, f"admin server on {LOOPBACK}:")
    with urlopen(f"http://{LOOPBACK}:{port}/metrics") as answer:
        text: str = answer.read().decode()
    return text


def mirrored(program: Program) -> dict[str, Any]:
    """The state of the only stream at the mirror."""
    port = port_said(program, f"admin server on {LOOPBACK}:")
    with urlopen(f"http://{LOOPBACK}:{port}/mirrors") as answer:
        (mirror,) = json.load(answer)["mirrors"]
    found: dict[str, Any] = mirror["streams"][0] if mirror["streams"] else {"state": "none"}
    return found


def publishing(program: Program) -> bool:
    """Whether the mirror publishes a stream now."""
    return 'mirrored_streams{mirror="platform",state="publishing"} 1.0' in metrics(program)


@pytest.mark.parametrize("way", ["rtmpt", "rtmp"])
def test_a_mirror_gets_the_rest_of_the_stream_unchanged_under_its_own_name(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    clip: Path,
    packets: list[Packet],
    stream: str,
    way: str,
) -> None:
    key = tmp_path / "key"
    key.write_text("secret-key\n")
    key.chmod(0o600)
    _, platform = start_nginx(programs, tmp_path)
    with closing(Tap(platform)) as tap:
        program, port = start(
            *(programs, tmp_path, nginx.server, tap.port), f'stream_key_file = "{key}"'
        )
        player = FFmpegPlayer(programs, url("rtmp", platform, "live/secret-key"))
        main = FFmpegPlayer(programs, url("rtmp", port, stream))
        nginx.tap.players(1)
        publisher = publish(programs, clip, url(way, port, stream))
        program.says(f"mirror platform: publishing {stream}")
        assert publishing(program)
        assert publisher.ends(_ENDS_S) == 0
        assert main.program.ends(_ENDS_S) == 0
        assert player.program.ends(_ENDS_S) == 0
        assert "secret-key" not in program.log
        received, expected = player.packets(), main.packets()
        # It begins with the first keyframe after the mirror's acceptance.
        assert len(received) > len(expected) // 2
        assert received == expected[-len(received) :]


def test_a_stream_that_the_main_server_refuses_is_not_mirrored(
    programs: Programs, tmp_path: Path, nginx: Upstream, clip: Path, stream: str
) -> None:
    _, platform = start_nginx(programs, tmp_path)
    with closing(Tap(platform)) as tap:
        _, port = start(programs, tmp_path, nginx.server, tap.port)
        publish(programs, clip, url("rtmp", port, "other/x")).ends(_ENDS_S)
        publish(programs, clip, url("rtmp", port, "live/other")).ends(_ENDS_S)
        assert not any(b"publish" in bytes(link.up) for link in tap.links)


def test_a_mirror_that_says_nothing_delays_nothing(
    programs: Programs,
    tmp_path: Path,
    nginx: Upstream,
    clip: Path,
    packets: list[Packet],
    stream: str,
) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        _, port = start(programs, tmp_path, nginx.server, silent.getsockname()[1])
        player = FFmpegPlayer(programs, url("rtmp", port, stream))
        nginx.tap.players(1)
        begun = perf_counter()
        assert publish(programs, clip, url("rtmp", port, stream)).ends(_ENDS_S) == 0
        assert player.program.ends(_ENDS_S) == 0
        assert perf_counter() - begun < 10
        assert player.packets() == packets


def test_a_mirror_that_comes_back_is_published_again(
    programs: Programs, tmp_path: Path, nginx: Upstream, clip: Path, stream: str
) -> None:
    first, platform = start_nginx(programs, tmp_path)
    program, port = start(programs, tmp_path, nginx.server, platform)
    publisher = publish(programs, clip, url("rtmp", port, stream), in_a_loop=True)
    until(lambda: publishing(program), "the mirror publishes")
    first.stop()
    program.says("is not published: the server has closed the connection; next try in 1 s")
    assert not publishing(program)
    start_nginx(programs, tmp_path, port=platform)
    until(lambda: publishing(program), "the mirror publishes again")
    assert publisher.running
    publisher.stop()
    until(lambda: not publishing(program), "the mirror has ended")


@pytest.mark.alone
def test_a_mirror_that_stops_reading_delays_nothing_and_is_tried_again(
    programs: Programs, tmp_path: Path
) -> None:
    """The mirror's nginx is stopped while it gets two megabytes a second."""
    _, main = start_nginx(programs, tmp_path)
    mirror, platform = start_nginx(programs, tmp_path)
    limits = f"[limits]\nstalled_write_s = {_STALLED_S}"
    program, port = start(programs, tmp_path, f"{LOOPBACK}:{main}", platform, limits)
    with LightSessions(200_000) as sessions:
        sessions.publish(port, "live/stream")
        player = [sessions.play(main, "live/stream")]
        until(lambda: mirrored(program)["state"] == "publishing", "the mirror publishes")
        forget_gaps(player)
        sleep(2 * _STALLED_S)
        reference_s = longest_gap_s(player)

        (worker,) = mirror.children
        os.kill(worker, signal.SIGSTOP)
        try:
            forget_gaps(player)
            seen = [mirrored(program)]

            def has_failed() -> bool:
                seen.append(mirrored(program))
                return bool(seen[-1]["failures"])

            until(has_failed, "the mirror is left")
            waited_s = longest_gap_s(player)
        finally:
            # A stopped one could not be ended.
            os.kill(worker, signal.SIGCONT)
        assert waited_s <= reference_s + _STALL_S
        assert seen[-1]["last_error"] == "the server does not read"
        assert seen[-1]["left_out_messages"] > 0
        assert 0 < max(state["queued_bytes"] for state in seen) <= QUEUE_BYTES
        until(lambda: mirrored(program)["state"] == "publishing", "the mirror publishes again")
