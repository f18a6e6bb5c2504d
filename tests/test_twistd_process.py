"""twistd's log file."""

from __future__ import annotations

import builtins
import errno
from pathlib import Path
from typing import Any, NoReturn

import pytest

from gateway.twistd_process import output_of


def test_a_log_whose_rotation_has_failed_is_written_again_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "twistd.log"
    path.write_bytes(b"before\n" * 200_000)
    output = output_of({"logfile": str(path)})
    assert output is not None

    def fail(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(builtins, "open", fail)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                output.write("lost\n")
    output.write("after\n")
    output.flush()
    assert path.read_text() == "after\n"
    assert (tmp_path / "twistd.log.1").stat().st_size == 1_400_000
    file: Any = output
    file.close()
