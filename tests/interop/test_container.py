"""deploy/container: the file of the image, its configuration and its health check; and the image itself."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.configuration import loading
from tests.helpers.interop.programs import Programs, needs
from tests.helpers.interop.servers import ROOT
from tests.helpers.interop.watched import start_watched_gateway

FOLDER = ROOT / "deploy/container"
FILE = FOLDER / "Containerfile"
ADMIN = FOLDER / "admin.py"


def test_hadolint_reports_no_problem() -> None:
    done = subprocess.run([needs("hadolint"), FILE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def last(instruction: str) -> str:
    """The arguments of the last such instruction, which takes effect."""
    lines = FILE.read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(instruction + " ")][-1].partition(" ")[2]


def test_the_image_runs_as_a_user_and_gets_the_signals() -> None:
    assert last("USER") == "935:935"
    assert last("STOPSIGNAL") == "SIGTERM"
    # A list: with a shell between, signals would not arrive.
    assert last("ENTRYPOINT").startswith("[")
    assert last("CMD").startswith('["run", ')


def test_the_exposed_port_is_the_port_of_the_configuration() -> None:
    configuration = loading.from_file(FOLDER / "rtmpt-gateway.toml")
    assert [str(each.address) for each in configuration.listeners] == [f"0.0.0.0:{last('EXPOSE')}"]
    assert configuration.admin is not None


def ask(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ADMIN, *words, file], capture_output=True, text=True, timeout=30
    )


def test_the_health_check_has_the_status_of_the_gateway(programs: Programs, tmp_path: Path) -> None:
    gateway = start_watched_gateway(programs)
    file = tmp_path / "rtmpt-gateway.toml"
    file.write_text(f'[admin]\naddress = "127.0.0.1:{gateway.admin_port}"\n')
    ready = ask(file, "GET", "/readyz")
    assert (ready.returncode, ready.stdout) == (0, "ready\n")
    assert ask(file, "POST", "/drain").returncode == 0
    drained = ask(file, "GET", "/readyz")
    assert (drained.returncode, drained.stdout) == (1, "draining\n")
    gateway.program.kill()
    gone = ask(file, "GET", "/readyz")
    assert gone.returncode == 1
    assert "Traceback" not in gone.stderr


def test_the_health_check_succeeds_without_an_admin_server(tmp_path: Path) -> None:
    file = tmp_path / "rtmpt-gateway.toml"
    file.write_text("")
    assert ask(file, "GET", "/readyz").returncode == 0


def test_the_image_can_be_built() -> None:
    base = FILE.read_text().partition("ARG BASE=")[2].split()[0]
    for engine in ("podman", "docker"):
        path = shutil.which(engine)
        command = [path or "", "image", "inspect", base]
        if path and subprocess.run(command, capture_output=True, timeout=60).returncode == 0:
            break
    else:
        pytest.skip(f"no podman or docker with the image {base}")
    tag = "rtmpt-gateway:test"
    build = [path, "build", "--file", FILE, "--tag", tag, ROOT]
    done = subprocess.run(build, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-5000:]
    run = [path, "run", "--rm", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", tag]
    done = subprocess.run(
        [*run, "--check", "--config", "/etc/rtmpt-gateway/rtmpt-gateway.toml"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "configuration is valid" in done.stdout, done.stderr
