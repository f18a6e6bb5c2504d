"""The Debian package: built by Debian's tools, and installed, upgraded and purged in a root of its own."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.helpers.interop.debian_root import DebianRoot
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Program, Programs, needs, until
from tests.helpers.interop.servers import LOOPBACK, ROOT, port_said

pytestmark = pytest.mark.package

_USER = "rtmpt-gateway"
_FILE = "/etc/rtmpt-gateway/rtmpt-gateway.toml"
_LOGS = "/var/log/rtmpt-gateway"
_RUN = "/run/rtmpt-gateway"
_CONFIGURATION = """workers = 2
[[listener]]
address = "127.0.0.1:0"
[[upstream]]
servers = ["127.0.0.1:{upstream}"]
[log]
access = "/var/log/rtmpt-gateway/access.log"
"""
# Of each command: a file of the checkout, and its place in the package.
_PLACES = {
    "deploy/man/{}.1": "usr/share/man/man1/{}.1.gz",
    "deploy/completion/{}.bash": "usr/share/bash-completion/completions/{}",
    "deploy/completion/{}.zsh": "usr/share/zsh/vendor-completions/_{}",
    "deploy/completion/{}.fish": "usr/share/fish/vendor_completions.d/{}.fish",
    "etc/{}.schema.json": "usr/share/rtmpt-gateway/{}.schema.json",
}
# dpkg's own files, and accounts: Debian's packages do not remove users.
_KEPT = re.compile(
    r"/var/(lib/(dpkg|systemd)|log/(dpkg|alternatives)|cache)\b|/etc/(passwd|group|g?shadow)-?$"
    r"|/etc/(sub[ug]id-?|\.pwd\.lock)$|/usr/bin/systemctl$"
)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built once for all processes of a test run."""
    for program in ("dpkg-buildpackage", "dh"):
        needs(program)
    control = str(ROOT / "deploy/debian/control")
    missing = subprocess.run(
        ["dpkg-checkbuilddeps", control], capture_output=True, text=True, timeout=60
    )
    if missing.returncode:
        pytest.skip(missing.stderr.strip())
    own = tmp_path_factory.getbasetemp()
    output = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "debian-package"
    with Path(f"{output}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            done = subprocess.run(
                [ROOT / "deploy/debian/build", output],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        (package,) = output.glob("*.deb")
    return package


@pytest.fixture
def root(programs: Programs) -> Iterator[DebianRoot]:
    with closing(DebianRoot(programs)) as root:
        yield root
        programs.stop()


@pytest.fixture
def upstream() -> Iterator[int]:
    with echo_server() as port:
        yield port


def output_of(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def test_lintian_reports_no_problem(package: Path) -> None:
    done = subprocess.run(
        [needs("lintian"), "--fail-on=error,warning", package],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


def test_the_version_is_that_of_the_project(package: Path) -> None:
    version = re.search(r"^version = (.*)", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert version is not None
    packaged = output_of("dpkg-deb", "--field", package, "Version")
    assert packaged.strip().rpartition("-")[0] == version[1]


def test_the_package_requires_the_python_that_it_was_built_with(package: Path) -> None:
    names = output_of("dpkg-deb", "--contents", package)
    folder = re.search(r"/usr/lib/rtmpt-gateway/lib/(python3\.\d+)/", names)
    assert folder is not None
    needed = output_of("dpkg-deb", "--field", package, "Depends").strip().split(", ")
    assert folder[1] in needed


def test_no_file_contains_the_path_of_the_build_folder(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True, timeout=120)
    found = subprocess.run(
        ["grep", "-rl", "debian/rtmpt-gateway/usr", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.stdout == ""
    assert {path.name for path in (tmp_path / "usr/lib/rtmpt-gateway/bin").iterdir()} >= {
        *("python", "python3", "twistd", "rtmpt-port-test", "rtmpt-client")
    }
    assert (tmp_path / "usr/bin/rtmpt-port-test").is_symlink()
    assert (tmp_path / "usr/lib/systemd/user/rtmpt-client.service").exists()
    # One that is built when the man page, the command and completions exist has these too.
    present = {path for path in optional_files(tmp_path) if path.exists() or path.is_symlink()}
    assert present == optional_files(tmp_path)


def optional_files(root: Path) -> set[Path]:
    """The paths in the package of files that the checkout may have."""
    places = {
        source.format(program): place.format(program)
        for program in ("rtmpt-gateway", "rtmpt-port-test", "rtmpt-client")
        for source, place in _PLACES.items()
    }
    return {root / place for source, place in places.items() if (ROOT / source).exists()}


def test_the_package_installs_serves_upgrades_without_cutting_a_session_and_purges(
    package: Path, root: DebianRoot, upstream: int, tmp_path: Path
) -> None:
    root.pretend_systemd()
    root.pretend_editor()
    before = root.changed_files()
    install(root, package)
    check_installation(root)
    (root.path / _FILE[1:]).write_text(_CONFIGURATION.format(upstream=upstream))
    gateway, port = start(root)
    session = NumberedSession(port, keeps=True)
    session.step()
    rotate(root, gateway)
    session.step()
    run_commands_of_the_readme(root, gateway)
    session.step()

    install(root, newer(package, tmp_path))
    assert "reload rtmpt-gateway.service" in root.systemctl_calls()
    gateway.says("the supervisor's program is replaced")
    gateway.says("the supervisor continues")
    assert gateway.running
    session.step()
    session.finish()
    NumberedSession(port, keeps=True).finish()
    assert f"127.0.0.1:{upstream}" in (root.path / _FILE[1:]).read_text()
    assert "plugin cache" not in gateway.log
    assert "Traceback" not in gateway.log

    gateway.stop()
    (root.path / "run/gateway.pid").unlink()
    root.run("dpkg", "--purge", "rtmpt-gateway")
    left = {path for path in root.changed_files() - before if not _KEPT.match(path)}
    assert left == set()


def install(root: DebianRoot, package: Path) -> None:
    copy = root.path / "run/package.deb"
    shutil.copyfile(package, copy)
    root.run("dpkg", "--install", "/run/package.deb")


def check_installation(root: DebianRoot) -> None:
    assert root.run("id", "-un", _USER).strip() == _USER
    files = set(root.run("dpkg", "--listfiles", "rtmpt-gateway").splitlines())
    assert files >= {
        *(_FILE, "/etc/logrotate.d/rtmpt-gateway", "/usr/lib/rtmpt-gateway/bin/twistd"),
        *("/usr/lib/sysusers.d/rtmpt-gateway.conf", "/usr/share/doc/rtmpt-gateway/copyright"),
    }
    assert any(file.endswith("/systemd/system/rtmpt-gateway.service") for file in files)
    assert _FILE in root.run("dpkg-query", "--show", "--showformat=${Conffiles}", "rtmpt-gateway")
    # Not enabled: the default configuration accepts all clients.
    assert not (
        root.path / "etc/systemd/system/multi-user.target.wants/rtmpt-gateway.service"
    ).exists()
    assert not [call for call in root.systemctl_calls() if "start " in call]
    check, _ = commands(root)
    assert "configuration is valid" in root.run_as(_USER, *check)


def commands(root: DebianRoot) -> tuple[list[str], list[str]]:
    """ExecStartPre= and ExecStart= of the installed unit."""
    files = root.run("dpkg", "--listfiles", "rtmpt-gateway").splitlines()
    (unit,) = (file for file in files if file.endswith("/system/rtmpt-gateway.service"))
    text = root.run("cat", unit)
    first, second = (
        re.findall(rf"^{key}=(.*)", text, re.MULTILINE) for key in ("ExecStartPre", "ExecStart")
    )
    return first[0].split(), second[0].split()


def start(root: DebianRoot) -> tuple[Program, int]:
    """Start the gateway by the unit's commands, in the folders that systemd creates. Returns its port."""
    check, command = commands(root)
    for folder in (_LOGS, _RUN):
        root.run("install", "-d", "-o", _USER, "-g", _USER, "-m", "755", folder)
    assert "configuration is valid" in root.run_as(_USER, *check)
    gateway = root.start_as(_USER, *command, RUNTIME_DIRECTORY=_RUN)
    port = port_said(gateway, f"listening on {LOOPBACK}:")
    (root.path / "run/gateway.pid").write_text(f"{gateway.pid}\n")
    return gateway, port


def run_commands_of_the_readme(root: DebianRoot, gateway: Program) -> None:
    """Those of "Installation" for Debian: the first two build and install, as has been done."""
    text = (ROOT / "README.md").read_text()
    block = re.search(r"(?m)^    apt-get install debhelper.*\n(?:    .*\n)+", text)
    assert block is not None
    build, installs, *others = (line.strip() for line in block[0].splitlines())
    assert "deploy/debian/build /tmp/packages" in build
    assert "/tmp/packages/rtmpt-gateway_*.deb" in installs
    assert len(others) == 4
    root.systemctl_calls()
    reloads = gateway.log.count("reloaded ")
    for line in others:
        root.run("sh", "-ec", line)
    until(lambda: gateway.log.count("reloaded ") > reloads, "it has reloaded")
    assert root.systemctl_calls() == [
        f"{command} rtmpt-gateway" for command in ("enable --now", "status", "reload")
    ]


def rotate(root: DebianRoot, gateway: Program) -> None:
    """Rotate with the installed configuration: the gateway's user owns the folder of the logs."""
    log = root.path / _LOGS[1:] / "access.log"
    until(log.exists, "the access log has been opened")
    reloads = gateway.log.count("reloaded ")
    root.run(
        *("logrotate", "--force", "--state", "/run/logrotate.state", "--verbose"),
        "/etc/logrotate.d/rtmpt-gateway",
    )
    until(lambda: gateway.log.count("reloaded ") > reloads, "it has reloaded")
    assert log.with_name("access.log.1").exists()
    assert log.stat().st_mode & 0o777 in {0o644, 0o640}


def newer(package: Path, folder: Path) -> Path:
    """The same package with a newer version of the gateway; a reload compares only the version."""
    tree, changed = folder / "newer", folder / "newer.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True, timeout=120)
    (metadata,) = tree.glob(
        "usr/lib/rtmpt-gateway/lib/python3*/site-packages/rtmpt_gateway-*/METADATA"
    )
    for file, pattern in ((metadata, r"^Version: .*"), (tree / "DEBIAN/control", r"^Version: .*")):
        file.write_text(re.sub(pattern, "Version: 999", file.read_text(), flags=re.MULTILINE))
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, changed], check=True, timeout=120)
    return changed
