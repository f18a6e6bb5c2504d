"""logrotate with the configuration in deploy/, and SIGHUP: no line of the access log is lost."""

from __future__ import annotations

import gzip
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.servers import ROOT, start_gateway

_FOLDER = "/var/log/rtmpt-gateway"
_CONFIGURATION = """workers = {workers}
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[log]
access = "{folder}/access.log"
lines_per_s = 100000
"""
_ROTATIONS = 3
_SESSIONS = 40


@pytest.mark.parametrize("workers", [1, 2])
def test_no_line_is_lost_during_a_rotation(
    programs: Programs, tmp_path: Path, workers: int
) -> None:
    folder = programs.new_folder("logs")
    file = tmp_path / "gateway.toml"
    with echo_server() as upstream:
        file.write_text(_CONFIGURATION.format(workers=workers, upstream=upstream, folder=folder))
        gateway, port = start_gateway(programs, "--config", str(file))
        if workers > 1:
            gateway.says("media servers: ")
        with ThreadPoolExecutor(8) as pool:
            sessions = [NumberedSession(port, keeps=True) for _ in range(_SESSIONS)]
            for _ in range(_ROTATIONS):
                more = pool.map(lambda _: serve(port), range(_SESSIONS))
                rotate(gateway, folder, tmp_path)
                list(more)
            for session in sessions:
                session.finish()
        gateway.stop()
    # The newest two are not compressed: a program may still write to the second.
    assert {path.name for path in folder.iterdir()} == {
        *("access.log", "access.log.1", "access.log.2.gz", "access.log.3.gz")
    }
    events = [
        fields[0]
        for path in folder.iterdir()
        for line in text_of(path).splitlines()
        if not line.startswith("#") and (fields := line.split("\t"))
    ]
    expected = _SESSIONS * (_ROTATIONS + 1)
    assert (events.count("connect"), events.count("disconnect")) == (expected, expected)


def serve(port: int) -> None:
    session = NumberedSession(port, keeps=True)
    session.step()
    session.finish()


def rotate(gateway: Program, folder: Path, scratch: Path) -> None:
    """Rotate with logrotate, and wait for the reload."""
    reloads = gateway.log.count("reload")
    configuration = adapt(folder, f"kill -HUP {gateway.pid}")
    file = scratch / "logrotate.conf"
    file.write_text(configuration)
    subprocess.run(
        [needs("logrotate"), "--force", "--state", scratch / "logrotate.state", file],
        check=True,
        timeout=60,
    )
    until((folder / "access.log").exists, "the access log has been opened again")
    until(lambda: gateway.log.count("reload") > reloads, "it has reloaded")


def adapt(folder: Path, reload: str) -> str:
    """The configuration of deploy/logrotate, with another folder, this user and another reload command."""
    text = (ROOT / "deploy/logrotate/rtmpt-gateway").read_text()
    for old, new in (
        (_FOLDER, str(folder)),
        ("    su rtmpt-gateway rtmpt-gateway\n", ""),
        ("systemctl --quiet is-active rtmpt-gateway.service", "true"),
        ("systemctl reload rtmpt-gateway.service", reload),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


def text_of(path: Path) -> str:
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes()).decode()
    return path.read_text()


def test_logrotate_reads_the_configuration_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "logrotate.conf"
    file.write_text(adapt(tmp_path, "true"))
    (tmp_path / "access.log").write_text("line\n")
    done = subprocess.run(
        [needs("logrotate"), "--debug", "--force", file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert not re.search(
        r"^(error|warning): (?!logrotate in debug mode)", done.stderr, re.MULTILINE
    )
    assert f"rotating log {tmp_path}/access.log" in done.stderr
