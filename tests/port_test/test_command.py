"""The command rtmpt-port-test: arguments, output and exit statuses."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import pytest
import trustme

from gateway.port_test.command import main
from gateway.port_test.program import make_parser

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str, object]:
    """Output, errors and exit status."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    output, error = capsys.readouterr()
    return output, error, ended.value.code


def test_setup_cfg_installs_the_command() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].strip().splitlines()
    module, _, function = dict(each.split(" = ") for each in scripts)["rtmpt-port-test"].partition(
        ":"
    )
    assert getattr(import_module(module), function) is main


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ([], "the following arguments are required: HOST[/APP[/STREAM]]"),
        (["rtmp://host/live"], 'argument HOST: "rtmp://host/live": leave out "rtmp://"; see'),
        (["host:1935"], 'argument HOST: "host:1935": give ports by --way, such as --way rtmp:1935'),
        (["host", "--way", "rtmfp"], 'argument --way: "rtmfp": expected one of rtmp, rtmps, rtmpt, rtmpts'),
        (["host", *["--way", "rtmp:1"] * 33], "argument --way: at most 32 ways"),
        (["host", "--proxy", "socks5://a"], 'argument --proxy: "socks5://a": expected http://'),
        (["host", "--ca", "/no/file"], "argument --ca: /no/file: cannot be read: No such file"),
        (["host", "--ca", "/dev/null"], "argument --ca: /dev/null: has no certificates in PEM form"),
        (["host", "--timeout", "soon"], "argument --timeout: expected seconds from 0.5 to 60"),
        (["host", "--timeout", "61"], "argument --timeout: expected seconds from 0.5 to 60"),
        (["host", "--timeout", "nan"], "argument --timeout: expected seconds from 0.5 to 60"),
        (["host", "--js"], "unrecognized arguments: --js"),
    ],
)  # fmt: skip
def test_a_wrong_argument_exits_with_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], cause: str
) -> None:
    output, error, status = run(capsys, *words)
    assert error.startswith(f"rtmpt-port-test: {cause}")
    assert error.endswith("; see rtmpt-port-test --help\n")
    assert error.count("\n") == 1
    assert (output, status) == ("", 2)


def test_a_wrong_proxy_of_the_environment_is_an_error_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "socks5://ann:secret@proxy")
    _, error, status = run(capsys, "host")
    assert error.startswith('rtmpt-port-test: environment: https_proxy: "socks5://proxy": expected')
    assert status == 2


CLOSED_PORT = ("127.0.0.1", "--way", "rtmp:1")


def test_no_way_exits_with_status_1_and_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    output, error, status = run(capsys, *CLOSED_PORT)
    assert re.search(r"^rtmp:1 +IPv4 .* refused$", output, re.MULTILINE)
    assert output.endswith("\nNo way works from here.\n")
    # Not on a terminal: nothing is drawn.
    assert "\x1b" not in output
    assert (error, status) == ("", 1)


def test_asyncio_logs_nothing(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", False)
    run(capsys, *CLOSED_PORT)
    logging.getLogger("asyncio").error("of a connection")
    assert caplog.records == []


def test_json_is_the_only_output(capsys: pytest.CaptureFixture[str]) -> None:
    output, _, status = run(capsys, "--json", *CLOSED_PORT)
    assert json.loads(output)["works"] is False
    assert status == 1


def test_a_file_of_authorities_is_accepted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(trustme.CA().cert_pem.bytes())
    assert run(capsys, "--ca", str(path), *CLOSED_PORT)[2] == 1


def test_a_failed_write_is_reported_in_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from gateway.port_test.command import main; main()",
                *CLOSED_PORT,
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert done.stderr == "rtmpt-port-test: standard output: No space left on device\n"
    assert done.returncode == 1


_RUN = "from gateway.port_test.command import main; main()"


# The signal arrives during the imports.
_INTERRUPTED = f"""
import os, signal, sys
# A shell's background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interrupting:
    def find_spec(self, name, *_):
        if name == "ssl":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
{_RUN}
"""


def test_ctrl_c_during_the_start_is_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, *CLOSED_PORT],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 130)


@pytest.mark.parametrize("words", [CLOSED_PORT, ("--json", *CLOSED_PORT), ("--help",)])
def test_a_closed_standard_output_is_reported_in_one_line(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import os, sys; os.close(1); sys.stdout = None; {_RUN}", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert done.stderr == "rtmpt-port-test: standard output: Bad file descriptor\n"
    assert done.returncode == 1


def test_the_help_has_the_exit_statuses() -> None:
    assert "Exit status: 0 if some way works, 1 if none does, 2" in make_parser().format_help()
