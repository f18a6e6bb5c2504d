"""A root to install Debian packages in: this machine's files, with all changes in another folder."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from stat import S_ISCHR
from typing import Final, final

import pytest

from tests.helpers.interop.programs import Program, Programs, needs, until

# An overlay, mounted in a namespace of its own: it is gone when this process ends.
_ROOT: Final = """
set -e
cd "$1"
mount -t overlay overlay -o lowerdir=/,upperdir=changed,workdir=work root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs tmpfs root/run
echo mounted
exec chroot root sleep infinity
"""
# systemctl of a system whose only service is the gateway: its process id is in a file.
_SYSTEMCTL: Final = """#!/bin/sh
echo "$*" >> /run/systemctl.log
case "$*" in
    *is-active*) test -e /run/gateway.pid ;;
    "reload rtmpt-gateway" | "reload rtmpt-gateway.service") kill -HUP "$(cat /run/gateway.pid)" ;;
esac
"""


@final
class DebianRoot:
    """A root for packages; the test is skipped if the machine does not permit one."""

    def __init__(self, programs: Programs) -> None:
        if os.geteuid() != 0:
            pytest.skip("installing packages needs root")
        self._programs = programs
        # An upper folder cannot be in an overlay or in tmpfs, and pytest's folder may be.
        self._folder = Path(tempfile.mkdtemp(prefix="debian-root-", dir="/var/tmp"))
        for name in ("changed", "work", "root"):
            (self._folder / name).mkdir()
        self._holder = programs.start(
            *(needs("unshare"), "--mount", "--propagation", "private"),
            *("sh", "-c", _ROOT, "sh", str(self._folder)),
        )
        until(
            lambda: "mounted" in self._holder.log or not self._holder.running, "the root is mounted"
        )
        if not self._holder.running:
            pytest.skip(f"no overlay can be mounted here: {self._holder.log}")
        # The shell enters the root after its line.
        until(self._changed_root, "the root is entered")

    def _changed_root(self) -> bool:
        return (self.path / "proc/self").exists() and self.path.readlink() != Path("/")

    @property
    def path(self) -> Path:
        """The root's path for other processes."""
        return Path(f"/proc/{self._holder.pid}/root")

    def run(self, *command: str, fails: bool = False) -> str:
        """Run ``command`` in the root. Returns its output."""
        done = subprocess.run(
            self._enter(*command),
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert bool(done.returncode) == fails, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def run_as(self, user: str, *command: str) -> str:
        return self.run(*_as(user), *command)

    def start_as(self, user: str, *command: str, **environment: str) -> Program:
        return self._programs.start(*self._enter(*_as(user), *command), environment=environment)

    def _enter(self, *command: str) -> tuple[str, ...]:
        pid = str(self._holder.pid)
        enter = (needs("nsenter"), "--target", pid, "--mount", "--root", "--wdns=/")
        # The package's modules, not the checkout's.
        return (*enter, "env", "--unset=PYTHONPATH", *command)

    def pretend_systemd(self) -> None:
        """Pretend to maintainer scripts that systemd runs, and record their commands."""
        (self.path / "run/systemd/system").mkdir(parents=True)
        systemctl = self.path / "usr/bin/systemctl"
        systemctl.unlink(missing_ok=True)
        systemctl.write_text(_SYSTEMCTL)
        systemctl.chmod(0o755)

    def pretend_editor(self) -> None:
        """Have ``editor`` end at once."""
        editor = self.path / "usr/bin/editor"
        editor.unlink(missing_ok=True)
        editor.write_text("#!/bin/sh\n")
        editor.chmod(0o755)

    def systemctl_calls(self) -> list[str]:
        """The recorded calls since the last time."""
        log = self.path / "run/systemctl.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return calls

    def changed_files(self) -> set[str]:
        """Files, links and new folders that differ from this machine's."""
        top = self._folder / "changed"
        found = set()
        for folder, _, files in os.walk(top):
            seen = Path("/", Path(folder).relative_to(top))
            if not seen.exists():
                found.add(str(seen))
            # A deleted file of this machine is a device 0:0.
            found |= {
                str(seen / name)
                for name in files
                if not S_ISCHR(Path(folder, name).lstat().st_mode)
            }
        return found

    def close(self) -> None:
        """Remove it. Its programs must have ended."""
        self._holder.kill()
        subprocess.run(["rm", "-rf", str(self._folder)], check=True, timeout=60)


def _as(user: str) -> tuple[str, ...]:
    """As systemd does with User= and AmbientCapabilities=CAP_NET_BIND_SERVICE."""
    return (
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--no-new-privs"),
        *("--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service"),
        "--bounding-set=-all,+net_bind_service",
    )
