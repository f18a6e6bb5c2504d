"""Sockets of another supervisor's workers."""

from __future__ import annotations

import socket
from pathlib import Path

from gateway.workers.successor import Successor


def _make_socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def test_a_new_socket_shows_that_another_supervisor_has_started(tmp_path: Path) -> None:
    _make_socket(tmp_path / "a001")
    successor = Successor(str(tmp_path))
    assert not successor.has_started()
    _make_socket(tmp_path / "a003")
    assert successor.has_started()


def test_a_socket_that_replaces_another_shows_it_too(tmp_path: Path) -> None:
    _make_socket(tmp_path / "a001")
    successor = Successor(str(tmp_path))
    _make_socket(tmp_path / "a001")
    assert successor.has_started()


def test_a_worker_that_ends_is_no_other_supervisor(tmp_path: Path) -> None:
    _make_socket(tmp_path / "a001")
    _make_socket(tmp_path / "a002")
    successor = Successor(str(tmp_path))
    (tmp_path / "a002").unlink()
    assert not successor.has_started()


def test_a_folder_that_is_gone_shows_none(tmp_path: Path) -> None:
    folder = tmp_path / "workers"
    folder.mkdir()
    successor = Successor(str(folder))
    folder.rmdir()
    assert not successor.has_started()
