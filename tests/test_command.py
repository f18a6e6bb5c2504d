"""The command rtmpt-gateway: twistd's checks, the configuration in effect, and errors in one line."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
from attrs import frozen

from gateway.command import DEFAULT_FILE, main
from gateway.configuration import loading
from gateway.service import Options

ROOT = Path(__file__).resolve().parent.parent
LISTENER = '[[listener]]\naddress = "127.0.0.1:0"\n'


@frozen
class Result:
    """The output of a command, and its exit status; a message of SystemExit is on standard error."""

    output: str
    error: str
    status: int


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str, function: Callable[[Sequence[str]], None] = main) -> Result:
        code: object = 0
        try:
            function(words)
        except SystemExit as ended:
            code = ended.code
        output, error = capsys.readouterr()
        if isinstance(code, str):
            return Result(output, f"{error}{code}\n", 1)
        assert isinstance(code, int)
        return Result(output, error, code)

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def process(*words: str, folder: Path, output: int = subprocess.PIPE) -> Result:
    """Run the command in a separate process."""
    done = subprocess.run(
        [sys.executable, "-c", "from gateway.command import main; main()", *words],
        cwd=folder,
        # With the buffer that it has outside of tests.
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    return Result(done.stdout or "", done.stderr, done.returncode)


def test_setup_cfg_installs_the_command() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    places = dict(script.split(" = ") for script in scripts)
    module, _, function = places["rtmpt-gateway"].partition(":")
    assert getattr(import_module(module), function) is main


# --- check ---


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (LISTENER, 0),
        (f"{LISTENER}adress = 1\n[node]\nid = 1\n", 1),
        (f'{LISTENER}tls = true\n[tls]\ncertificates = ["/no.pem", "/none.pem"]\n', 1),
        ("[listener", 1),
        (None, 1),
    ],
    ids=["valid", "keys", "files", "syntax", "missing"],
)
def test_check_prints_what_twistds_check_prints(
    run: Run, file: Path, text: str | None, status: int
) -> None:
    if text is not None:
        file.write_text(text)
    of_twistd = run("--check", "--config", str(file), function=Options().parseOptions)
    assert run("check", str(file)) == of_twistd
    assert of_twistd.status == status


@pytest.mark.parametrize("name", ["check", "config", "run"])
def test_the_installed_configuration_is_used_if_no_file_is_given(run: Run, name: str) -> None:
    if Path(DEFAULT_FILE).exists():
        pytest.skip("this machine has a gateway")
    assert run(name) == Result(
        "", f"rtmpt-gateway: {DEFAULT_FILE}: cannot be read: No such file or directory\n", 1
    )


def test_the_installed_configuration_is_the_file_of_the_systemd_unit() -> None:
    unit = (ROOT / "deploy/systemd/rtmpt-gateway.service").read_text()
    assert f" check {DEFAULT_FILE}\n" in unit
    assert f" run {DEFAULT_FILE}\n" in unit


# --- config ---


def test_config_prints_an_equal_configuration(run: Run, file: Path) -> None:
    file.write_text(f"{LISTENER}[limits]\nsessions = 7\n")
    result = run("config", str(file))
    assert loading.from_text("printed", result.output) == loading.from_file(file)
    assert "sessions = 7\n" in result.output
    # A default.
    assert "head_bytes = 32768\n" in result.output
    assert (result.error, result.status) == ("", 0)


def test_config_can_print_json(run: Run, file: Path) -> None:
    file.write_text(LISTENER)
    printed = json.loads(run("config", "--json", str(file)).output)
    assert printed["listener"][0]["address"] == "127.0.0.1:0"
    assert printed["limits"]["head_bytes"] == 32768


def test_config_prints_the_path_of_the_token_and_not_the_token(run: Run, file: Path) -> None:
    token = file.with_name("token")
    token.write_text("secret-secret-secret")
    token.chmod(0o600)
    file.write_text(f'{LISTENER}[admin]\ntoken_file = "{token}"\n')
    for option in ((), ("--json",)):
        output = run("config", *option, str(file)).output
        assert str(token) in output
        assert "secret-secret" not in output


@pytest.mark.parametrize("option", [(), ("--json",)])
def test_config_refuses_the_configurations_that_check_refuses(
    run: Run, file: Path, option: Sequence[str]
) -> None:
    file.write_text(f"{LISTENER}adress = 1\n")
    result = run("config", *option, str(file))
    assert result == run("check", str(file))
    assert result.status == 1


# --- Arguments and output ---


def test_version_prints_what_twistds_option_prints(run: Run) -> None:
    result = run("version")
    assert result == run("--version", function=Options().parseOptions)
    assert re.fullmatch(r"rtmpt-gateway \d+\.\S+, Twisted \d+\.\S+\n", result.output)


_NOT_WITH_A_FILE = "--listen, --upstream and --workers cannot be combined with FILE"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["start"], "argument COMMAND: invalid choice: 'start'"),
        (["check", "--bad"], "unrecognized arguments: --bad"),
        (["check", "a", "b"], "unrecognized arguments: b"),
        # Not an abbreviation of --json.
        (["config", "--js"], "unrecognized arguments: --js"),
        (["config", "--schema", "--json"], "argument --json: not allowed with argument --schema"),
        (["config", "--schema", "a"], "--schema: FILE is not used; remove it"),
        (["run", "a", "--listen", "b"], _NOT_WITH_A_FILE),
        (["run", "a", "--upstream", "b"], _NOT_WITH_A_FILE),
        (["run", "a", "--workers", "2"], _NOT_WITH_A_FILE),
        (["run", "--listen"], "argument --listen: expected one argument"),
    ],
)
def test_a_wrong_argument_exits_with_one_line_and_status_2(
    run: Run, words: list[str], cause: str
) -> None:
    result = run(*words)
    assert result.error.startswith(f"rtmpt-gateway: {cause}")
    assert re.search(r"; see rtmpt-gateway ([a-z]+ )?--help\n\Z", result.error)
    assert result.error.count("\n") == 1
    assert (result.output, result.status) == ("", 2)


def test_a_failed_write_is_reported_in_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        result = process("version", folder=tmp_path, output=full.fileno())
    assert result.error == "rtmpt-gateway: standard output: No space left on device\n"
    assert result.status == 1


def test_a_closed_pipe_is_reported_in_one_line(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        result = process("version", folder=tmp_path, output=closed.fileno())
    assert result.error == "rtmpt-gateway: standard output: Broken pipe\n"
    assert result.status == 1


# --- run, until it fails; tests/interop/test_command.py has the rest ---


def test_run_refuses_an_invalid_file_as_twistd_does(tmp_path: Path, file: Path) -> None:
    file.write_text(f"{LISTENER}adress = 1\n")
    result = process("run", "gateway.toml", folder=tmp_path)
    assert result.error.startswith("rtmpt-gateway: gateway.toml: line 3: [[listener]] 1, key ")
    assert result.error.count("\n") == 1
    assert result.status == 1


def test_run_reports_an_unknown_reactor_in_one_line(tmp_path: Path) -> None:
    result = process("run", "--reactor", "none", "--listen", "127.0.0.1:0", folder=tmp_path)
    assert result.error == (
        "rtmpt-gateway: The specified reactor does not exist: 'none'; see twistd --help\n"
    )
    assert result.status == 2


def test_run_fails_with_status_1_if_it_cannot_listen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = process("run", "--listen", address, folder=tmp_path)
    assert address in result.error
    assert "Traceback" not in result.output + result.error
    assert result.status == 1
    # In the foreground: no pid file, and the log is on standard output.
    assert list(tmp_path.iterdir()) == []
    assert "cannot start: " in result.output
