"""twistd with the gateway: options, error lines and exit statuses."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.configuration import loading
from gateway.service import Options, makeService
from tests.helpers.certificate_makers import DAY, issue

ROOT = Path(__file__).resolve().parent.parent
LISTENER = '[[listener]]\naddress = "127.0.0.1:0"\n'

Done = subprocess.CompletedProcess[str]


def twistd(folder: Path, *words: str) -> Done:
    """Run the real twistd in ``folder`` until it, and any daemon that it started, have exited."""
    alive, held = os.pipe()
    with os.fdopen(alive, "rb") as alive_end:
        with os.fdopen(held, "wb"):
            done = _run(folder, words, held)
        # A daemon notifies its shell before its log and pid file are written; this waits for its exit.
        ready, _, _ = select.select([alive_end], [], [], 60)
        assert ready, "the daemon is still running"
    return done


def _run(folder: Path, words: Sequence[str], held: int) -> Done:
    return subprocess.run(
        [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        pass_fds=[held],
    )


def refused(done: Done, *lines: str) -> None:
    """The run exited with status 1, with these lines and no others on standard error."""
    assert done.stderr.splitlines() == [f"rtmpt-gateway: {line}" for line in lines]
    assert done.returncode == 1
    assert "Traceback" not in done.stdout


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield taken.getsockname()[1]


# --- Options ---


def test_the_version_option_prints_the_gateways_version(tmp_path: Path) -> None:
    done = twistd(tmp_path, "rtmpt-gateway", "--version")
    assert done.returncode == 0
    assert re.fullmatch(r"rtmpt-gateway \d+\.\S+, Twisted \d+\.\S+\n", done.stdout)


def parsed(*words: str) -> Options:
    options = Options()
    options.parseOptions(list(words))
    return options


def test_without_options_the_embedded_origin_serves_on_loopback() -> None:
    assert parsed().configuration == loading.from_options([], [])


def test_listen_and_upstream_make_a_configuration() -> None:
    options = parsed("--listen", "127.0.0.1:1", "--listen", "[::1]:2", "--upstream", "media")
    assert options.configuration == loading.from_options(["127.0.0.1:1", "[::1]:2"], ["media"])


@pytest.mark.parametrize("option", ["--config", "-c"])
def test_a_file_makes_a_configuration(file: Path, option: str) -> None:
    file.write_text(LISTENER)
    assert parsed(option, str(file)).configuration == loading.from_file(file)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--bad"], "option --bad not recognized"),
        (["--config"], "option --config requires argument"),
        (["file.toml"], "unexpected argument 'file.toml'"),
        (["--config", "a", "--listen", "127.0.0.1:1"], "--config cannot be combined"),
        (["--config", "a", "--upstream", "media"], "--config cannot be combined"),
    ],
)
def test_an_invalid_option_exits_with_one_line(words: list[str], cause: str) -> None:
    with pytest.raises(SystemExit) as end:
        parsed(*words)
    line = str(end.value.code)
    assert line.startswith(f"rtmpt-gateway: {cause}")
    assert line.endswith("; see twistd rtmpt-gateway --help")
    assert "\n" not in line


def test_the_service_is_created_from_the_options() -> None:
    assert makeService(parsed()).running == 0


# --- twistd, before anything runs ---


def test_twistd_knows_the_gateway(tmp_path: Path) -> None:
    done = twistd(tmp_path, "--help")
    assert "rtmpt-gateway" in done.stdout
    assert done.returncode == 0


def test_help_names_every_option(tmp_path: Path) -> None:
    done = twistd(tmp_path, "rtmpt-gateway", "--help")
    assert done.returncode == 0
    for word in ("--config", "-c,", "--listen", "--upstream", "--check", "embedded origin"):
        assert word in done.stdout


def test_help_names_the_limits_of_check(tmp_path: Path) -> None:
    done = twistd(tmp_path, "rtmpt-gateway", "--help")
    text = " ".join(done.stdout.split())
    assert "Host names are resolved, and ports opened, only when the gateway starts" in text


def test_check_reports_a_valid_file_and_starts_no_gateway(
    tmp_path: Path, file: Path, taken_port: int
) -> None:
    file.write_text(f'[[listener]]\naddress = "127.0.0.1:{taken_port}"')
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--check", "--config", "gateway.toml")
    assert (done.stdout, done.stderr) == ("gateway.toml: configuration is valid\n", "")
    assert done.returncode == 0
    assert not (tmp_path / "twistd.pid").exists()


def test_check_reports_valid_options(tmp_path: Path) -> None:
    done = twistd(tmp_path, "rtmpt-gateway", "--check", "--listen", "127.0.0.1:0")
    assert (done.stdout, done.stderr) == ("command line: configuration is valid\n", "")
    assert done.returncode == 0


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_an_invalid_file_exits_with_a_line_for_each_problem(
    tmp_path: Path, file: Path, more: list[str]
) -> None:
    file.write_text(f"{LISTENER}adress = 1\n[node]\nid = 1\n")
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--config", "gateway.toml", *more)
    refused(
        done,
        'gateway.toml: line 3: [[listener]] 1, key "adress": unknown key; did you mean "address"?',
        'gateway.toml: line 5: [node], key "id": 1: expected two characters of 0-9 and a-z in quotes,'
        ' such as "00"',
    )
    assert done.stdout == ""


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_invalid_certificates_exit_with_a_line_for_each_fault(
    tmp_path: Path, file: Path, more: list[str]
) -> None:
    missing, empty = tmp_path / "missing.pem", tmp_path / "empty.pem"
    empty.touch()
    file.write_text(f'{LISTENER}tls = true\n[tls]\ncertificates = ["{missing}", "{empty}"]\n')
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--config", "gateway.toml", *more)
    place = 'gateway.toml: line 5: [tls], key "certificates", item'
    refused(
        done,
        f"{place} 1: {missing}: cannot be read: No such file or directory; check the path, and that the"
        " gateway's user may read it",
        f"{place} 2: {empty}: no certificate in it; name the PEM file with the chain and the key",
    )
    assert done.stdout == ""


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_invalid_files_of_other_tables_exit_with_a_line_for_each(
    tmp_path: Path, file: Path, more: list[str]
) -> None:
    token, log = tmp_path / "token", tmp_path / "none" / "access.log"
    token.touch(0o600)
    token.write_text("short")
    file.write_text(f'{LISTENER}[admin]\ntoken_file = "{token}"\n[log]\naccess = "{log}"\n')
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--config", "gateway.toml", *more)
    refused(
        done,
        f'gateway.toml: line 4: [admin], key "token_file": {token}: a token has at least 16 characters; '
        "make one with: openssl rand -hex 24",
        f'gateway.toml: line 6: [log], key "access": {log}: cannot be written: No such file or directory; '
        "the directory must exist, and the gateway's user must have write permission in it",
    )
    assert done.stdout == ""


@pytest.fixture
def open_key(tmp_path: Path) -> Path:
    """A valid certificate whose key is readable by all users."""
    path = tmp_path / "site.pem"
    now = datetime.now(UTC)
    site = issue("site", names=["site.example"], start=now - DAY, end=now + DAY)
    path.write_bytes(site.pem + site.key_pem)
    path.chmod(0o644)
    return path


def test_check_warns_of_a_private_key_that_is_readable_by_all_users(
    tmp_path: Path, file: Path, open_key: Path
) -> None:
    file.write_text(f'{LISTENER}tls = true\n[tls]\ncertificates = ["{open_key}"]\n')
    done = twistd(tmp_path, "rtmpt-gateway", "--check", "--config", "gateway.toml")
    assert done.stderr == (
        f'rtmpt-gateway: warning: gateway.toml: line 5: [tls], key "certificates", item 1: {open_key}: '
        "its private key is readable by all users; chmod o-r it\n"
    )
    assert done.stdout == "gateway.toml: configuration is valid\n"
    assert done.returncode == 0


def test_the_start_warns_of_a_private_key_that_is_readable_by_all_users(
    tmp_path: Path, file: Path, open_key: Path, taken_port: int
) -> None:
    file.write_text(
        f'[[listener]]\naddress = "127.0.0.1:{taken_port}"\ntls = true\n'
        f'[tls]\ncertificates = ["{open_key}"]\n'
    )
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--config", "gateway.toml")
    assert done.stdout.count(f"{open_key}: its private key is readable by all users") == 1


@pytest.mark.parametrize("daemon", [["-n"], []])
def test_a_missing_file_exits_with_one_line(tmp_path: Path, daemon: list[str]) -> None:
    done = twistd(tmp_path, *daemon, "rtmpt-gateway", "--config", "nowhere.toml")
    refused(done, "nowhere.toml: cannot be read: No such file or directory")


def test_an_unknown_option_exits_with_one_line(tmp_path: Path) -> None:
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--bad")
    refused(done, "option --bad not recognized; see twistd rtmpt-gateway --help")
    assert done.stdout == ""


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_a_proxy_loop_exits_with_one_line(tmp_path: Path, file: Path, more: list[str]) -> None:
    file.write_text(
        '[[listener]]\naddress = "0.0.0.0:1935"\n[[upstream]]\nservers = ["localhost"]\n'
    )
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--config", "gateway.toml", *more)
    refused(
        done,
        'gateway.toml: line 4: [[upstream]] 1, key "servers", item 1: "localhost:1935" is the gateway\'s'
        ' own listener "0.0.0.0:1935": connections would loop; name the server behind the'
        " gateway, with its own address or port",
    )


# --- twistd, when the start fails ---


def test_a_port_in_use_exits_with_one_line(tmp_path: Path, taken_port: int) -> None:
    address = f"127.0.0.1:{taken_port}"
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--listen", address)
    refused(
        done,
        f'command line: --listen: "{address}": in use: another program listens there; '
        "stop it, or use another port",
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f'{LISTENER}[[listener]]\naddress = "{{}}"\n', '[[listener]] 2, key "address"'),
        (f'{LISTENER}[admin]\naddress = "{{}}"\n', '[admin], key "address"'),
    ],
)
def test_a_port_in_use_is_reported_with_its_place_in_the_configuration(
    tmp_path: Path, file: Path, taken_port: int, text: str, place: str
) -> None:
    address = f"127.0.0.1:{taken_port}"
    file.write_text(text.format(address))
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--config", "gateway.toml")
    refused(
        done,
        f'gateway.toml: line 4: {place}: "{address}": in use: another program listens there; '
        "stop it, or use another port",
    )


def test_an_unknown_upstream_host_exits_with_one_line(tmp_path: Path) -> None:
    done = twistd(
        tmp_path, "-n", "rtmpt-gateway", "--listen", "127.0.0.1:0", "--upstream", "no.invalid"
    )
    (line,) = done.stderr.splitlines()
    assert "no.invalid" in line
    refused(done, line.removeprefix("rtmpt-gateway: "))


def test_a_proxy_loop_by_host_name_exits_with_one_line(tmp_path: Path) -> None:
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None, socket.AF_INET)
        with socket.create_server(("0.0.0.0", 0)) as free:  # noqa: S104
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("this machine's name has no address")
    listen, upstream = f"0.0.0.0:{port}", f"{name}:{port}"
    done = twistd(tmp_path, "-n", "rtmpt-gateway", "--listen", listen, "--upstream", upstream)
    (line,) = done.stderr.splitlines()
    assert f'upstream "{upstream}" is the gateway\'s own listener "{listen}"' in line
    assert done.returncode == 1


TAC = """
from twisted.application.service import Application
from twisted.internet import defer, reactor
from gateway.configuration.sections import Config
from gateway.errors import ConfigurationError
from gateway.service import GatewayService, exit_with
from gateway.supervisor.supervisor import Supervisor
from gateway.workers.setup import ConfigurationText

class Failing(GatewayService):
{methods}

application = Application("failing")
supervisor = Supervisor(Config(), ConfigurationText(), reactor, {{}}, None, lambda: None, print)
Failing(Config(), supervisor, reactor, exit_with).setServiceParent(application)
"""
FAIL_TO_BIND = """
    def _bind(self):
        raise {error}
"""
FAIL_TO_START = """
    def _bind(self):
        pass
    async def _start(self):
        await defer.Deferred.fromCoroutine(self._fail_later())
    async def _fail_later(self):
        later = defer.Deferred()
        reactor.callLater(0, later.callback, None)
        await later
        raise {error}
"""


def twistd_failing(folder: Path, methods: str, error: str, *words: str) -> Done:
    """Run the real twistd with a gateway that fails at a given point."""
    (folder / "failing.tac").write_text(TAC.format(methods=methods.format(error=error)))
    return twistd(folder, *words, "-y", "failing.tac")


@pytest.mark.parametrize("methods", [FAIL_TO_BIND, FAIL_TO_START], ids=["bind", "start"])
def test_a_failed_start_writes_one_line_to_the_log_and_one_to_standard_error(
    tmp_path: Path, methods: str
) -> None:
    done = twistd_failing(tmp_path, methods, 'ConfigurationError("no luck")', "-n")
    refused(done, "no luck")
    assert done.stdout.count("no luck") == 1
    assert not (tmp_path / "twistd.pid").exists()


def test_a_failed_bind_is_reported_to_the_shell_of_a_daemon(tmp_path: Path) -> None:
    done = twistd_failing(tmp_path, FAIL_TO_BIND, 'ConfigurationError("no luck")')
    assert "no luck" in done.stderr
    assert done.returncode == 1
    assert (tmp_path / "twistd.log").read_text().count("no luck") == 1
    assert not (tmp_path / "twistd.pid").exists()


def test_a_failed_start_is_reported_once_if_log_and_standard_error_are_one_file(
    tmp_path: Path, taken_port: int
) -> None:
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    command += ["-n", "--pidfile=", "rtmpt-gateway"]
    for words in (
        ["--listen", f"127.0.0.1:{taken_port}"],
        ["--listen", "127.0.0.1:0", "--upstream", "no.invalid"],
    ):
        done = subprocess.run(
            [*command, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        (line,) = [each for each in done.stdout.splitlines() if words[-1] in each]
        assert " critical cannot start: " in line
        assert done.returncode == 1


def test_an_unexpected_error_keeps_its_traceback_in_the_log(tmp_path: Path) -> None:
    done = twistd_failing(tmp_path, FAIL_TO_START, 'ZeroDivisionError("oops")', "-n")
    (line,) = done.stderr.splitlines()
    assert line == "rtmpt-gateway: cannot start: ZeroDivisionError('oops'); see the log"
    assert "Traceback" in done.stdout
    assert "_fail_later" in done.stdout
    assert done.returncode == 1
