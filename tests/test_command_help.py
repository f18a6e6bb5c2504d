"""The manual page and the shells' completions have the commands, options and texts of the parser."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.command import DEFAULT_FILE, make_parser

ROOT = Path(__file__).resolve().parent.parent
MANUAL = ROOT / "deploy/man/rtmpt-gateway.1"
COMPLETION = ROOT / "deploy/completion"
BASH, FISH, ZSH = (COMPLETION / f"rtmpt-gateway.{shell}" for shell in ("bash", "fish", "zsh"))


def commands() -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Each command with its text and its parser."""
    (action,) = (
        each for each in make_parser()._actions if isinstance(each, argparse._SubParsersAction)
    )
    for choice in action._choices_actions:
        assert choice.help is not None
        yield choice.dest, choice.help, action.choices[choice.dest]


def options_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Each long option with its text."""
    return {
        name: str(action.help)
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--")
    }


COMMANDS = {name: text for name, text, _ in commands()}
OPTIONS = {name: options_of(parser) for name, _, parser in commands()}
# Of single commands: all have --help.
OWN_OPTIONS = {option: text for options in OPTIONS.values() for option, text in options.items()} | {
    "--help": "show this help message and exit"
}


def run(*words: str) -> str:
    """Standard output of a program that must succeed and print nothing on standard error."""
    program, *rest = words
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([path, *rest], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_parser_has_the_commands() -> None:
    assert set(COMMANDS) == {"check", "config", "run", "version"}
    assert set(OPTIONS["run"]) == {"--help", "--listen", "--upstream", "--workers", "--reactor"}


# --- The manual page ---


def plain(manual: str) -> str:
    """The page without the escapes of fonts and hyphens."""
    return re.sub(r"\\f.", "", manual).replace(r"\-", "-")


def test_the_manual_has_every_command_and_option() -> None:
    text = plain(MANUAL.read_text())
    for command in COMMANDS:
        assert f"\n.TP\n.B {command}\n" in text
        assert re.search(rf"^\.SY rtmpt-gateway\n\.B {command}\b", text, re.MULTILINE)
    described = set(re.findall(r"^\.TP\n\.B[IR]? .*(--[a-z]+)", text, re.MULTILINE))
    assert described == set(OWN_OPTIONS)


def test_the_manual_has_the_configuration_file_and_the_signals() -> None:
    text = MANUAL.read_text()
    assert f".I {DEFAULT_FILE}\n" in text
    for signal in ("SIGHUP", "SIGUSR2", "SIGTERM"):
        assert re.search(rf"^\.BR? {signal}\b", text, re.MULTILINE)


def test_man_formats_the_manual_without_warnings() -> None:
    page = run("man", "--warnings", "--local-file", str(MANUAL))
    assert "EXIT STATUS" in page


# --- Completion ---


def bash_completes(*words: str) -> list[str]:
    """What bash offers for the last of ``words``."""
    script = f"""
        source {BASH}
        COMP_WORDS=(rtmpt-gateway "$@")
        COMP_CWORD=$#
        _rtmpt_gateway
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return run("bash", "-c", script, "bash", *words).split()


def test_bash_accepts_the_completion_file() -> None:
    run("bash", "-n", str(BASH))


def test_bash_completes_commands() -> None:
    assert set(bash_completes("")) == {*COMMANDS, "--help"}
    assert bash_completes("ch") == ["check"]


@pytest.mark.parametrize("command", COMMANDS)
def test_bash_completes_the_options_of_a_command(command: str) -> None:
    assert set(bash_completes(command, "-")) == set(OPTIONS[command])
    # File names, which are bash's own.
    assert bash_completes(command, "") == []


def test_the_completion_file_of_fish_has_the_texts_of_the_parser() -> None:
    text = FISH.read_text()
    assert dict(re.findall(r"-a ([a-z]+) -d '(.*)'\n", text)) == COMMANDS
    described = re.findall(r"from ([a-z]+)' .*-l ([a-z]+) -d '(.*)'\n", text)
    for command, options in OPTIONS.items():
        of_command = {f"--{name}": help_ for of, name, help_ in described if of == command}
        assert of_command == {k: v for k, v in options.items() if k != "--help"}
    assert f"-l help -d '{OWN_OPTIONS['--help']}'\n" in text


def test_fish_accepts_the_completion_file_and_completes() -> None:
    run("fish", "--no-execute", str(FISH))
    offered = run("fish", "-c", f"source {FISH}; complete -C 'rtmpt-gateway config --'")
    assert {line.split("\t")[0] for line in offered.splitlines()} == set(OPTIONS["config"])


def test_the_completion_file_of_zsh_has_the_texts_of_the_parser() -> None:
    text = ZSH.read_text()
    assert dict(re.findall(r"^    '([a-z]+):(.*)'$", text, re.MULTILINE)) == COMMANDS
    for command, options in OPTIONS.items():
        (part,) = re.findall(rf"^ +{command}\)(.*?);;", text, re.MULTILINE | re.DOTALL)
        described = dict(re.findall(r"(--[a-z]+)\[(.*?)\]", part))
        assert described == {k: v for k, v in options.items() if k != "--help"}
    assert f"{{-h,--help}}'[{OWN_OPTIONS['--help']}]'" in text


def test_zsh_accepts_the_completion_file() -> None:
    run("zsh", "-n", str(ZSH))
