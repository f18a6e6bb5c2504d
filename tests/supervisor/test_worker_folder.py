"""The folder of the workers' sockets."""

from __future__ import annotations

import socket
from pathlib import Path

from gateway.supervisor.worker_folder import WorkerFolder


def test_only_the_gateways_user_may_enter_the_workers_folder(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir(mode=0o755)
    for environment in ({"RUNTIME_DIRECTORY": str(tmp_path)}, {}):
        folder = WorkerFolder.make(environment)
        assert Path(folder.path).stat().st_mode & 0o777 == 0o700
        folder.remove()
        assert not Path(folder.path).exists()


def test_a_successor_finds_the_folder_and_the_workers_in_it(tmp_path: Path) -> None:
    environment = {"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"}
    first = WorkerFolder.make(environment)
    with socket.socket(socket.AF_UNIX) as worker:
        worker.bind(str(Path(first.path, "0001")))
        worker.listen()
        first.remove()
        second = WorkerFolder.make(environment)
        assert second.path == first.path
        assert second.is_used("0001")
        assert not second.is_used("0002")
    # Killed, so its sockets were left behind.
    offers, other = Path(second.path, "0001-abc"), Path(second.path, "0002-abc")
    offers.touch()
    other.touch()
    assert not second.is_used("0001")
    assert not Path(second.path, "0001").exists()
    assert (offers.exists(), other.exists()) == (False, True)
