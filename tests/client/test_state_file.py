"""The file of ways: written in one step, read at the start, and never a reason to fail."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest

from gateway.client.state_file import StateFile
from gateway.protocols.way_memory import Remembered
from tests.helpers.logged import logged

KEY = "ab" * 16


def file_at(path: Path | None) -> StateFile:
    file = StateFile(path)
    file.read()
    return file


def test_ways_are_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ways.json"
    file_at(path).remember(KEY, "rtmpts:443", 0.25)
    assert file_at(path).recall(KEY) == Remembered("rtmpts:443", 0.25)
    # Nothing is left of writing, and others of this machine cannot read it.
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_way_that_is_forgotten_is_not_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ways.json"
    file = file_at(path)
    file.remember(KEY, "rtmpts:443", 0.25)
    file.forget(KEY, "rtmp:1935")
    assert file_at(path).recall(KEY) is not None
    file.forget(KEY, "rtmpts:443")
    assert file_at(path).recall(KEY) is None


def test_clients_that_share_a_file_keep_each_others_ways(tmp_path: Path) -> None:
    path = tmp_path / "ways.json"
    first, second = file_at(path), file_at(path)
    first.remember("aa", "rtmp:1935", 0.1)
    second.remember("bb", "rtmpt:80", 0.2)
    first.remember("cc", "rtmps:443", 0.3)
    second.forget("bb", "rtmpt:80")
    # The other one has found another way in the meantime.
    third = file_at(path)
    first.remember("aa", "rtmps:443", 0.4)
    third.forget("aa", "rtmp:1935")
    after = file_at(path)
    assert after.recall("aa") == Remembered("rtmps:443", 0.4)
    assert after.recall("cc") == Remembered("rtmps:443", 0.3)
    assert after.recall("bb") is None


def test_the_file_is_not_written_for_the_same_way_again(tmp_path: Path) -> None:
    path = tmp_path / "ways.json"
    file = file_at(path)
    file.remember(KEY, "rtmpts:443", 0.25)
    path.unlink()
    file.remember(KEY, "rtmpts:443", 0.5)
    assert not path.exists()


def test_without_a_path_ways_are_remembered_while_the_program_runs() -> None:
    file = file_at(None)
    file.remember(KEY, "rtmp:1935", 0.1)
    assert file.recall(KEY) == Remembered("rtmp:1935", 0.1)


@pytest.mark.parametrize("kind", ["damaged", "folder", "fifo"])
def test_a_file_that_cannot_be_read_is_no_failure(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "ways.json"
    if kind == "damaged":
        path.write_bytes(b"\xff{")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with logged() as lines:
        assert file_at(path).recall(KEY) is None
    assert len(lines) == 1


@pytest.mark.parametrize("content", [b"[[upstream]]\n", b'{"other": []}', b"x" * 100_000])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "client.toml"
    path.write_bytes(content)
    with logged() as lines:
        file = file_at(path)
        file.remember(KEY, "rtmp:1935", 0.1)
    assert path.read_bytes() == content
    assert file.recall(KEY) == Remembered("rtmp:1935", 0.1)
    (line,) = lines
    assert line.startswith(f"warn: {path}: cannot be read: ")


def test_an_empty_file_is_used(tmp_path: Path) -> None:
    path = tmp_path / "ways.json"
    path.touch()
    file_at(path).remember(KEY, "rtmp:1935", 0.1)
    assert file_at(path).recall(KEY) == Remembered("rtmp:1935", 0.1)


def test_a_file_that_cannot_be_written_is_logged_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with logged() as lines:
        file = StateFile(tmp_path / "file" / "ways.json")
        file.remember(KEY, "rtmp:1935", 0.1)
        file.remember(KEY, "rtmps:443", 0.1)
    (line,) = lines
    assert "cannot be written" in line
    assert file.recall(KEY) == Remembered("rtmps:443", 0.1)


def test_a_folder_in_its_place_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "ways.json"
    path.mkdir()
    (path / "x").touch()
    StateFile(path).remember(KEY, "rtmp:1935", 0.1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "ways.json"
    StateFile(path).remember(KEY, "rtmp:1935", 0.1)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        StateFile(path).remember(KEY, "rtmps:443", 0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == old
