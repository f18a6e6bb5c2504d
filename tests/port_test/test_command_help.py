"""The manual page and the completions of rtmpt-port-test have the options and texts of the parser."""

from __future__ import annotations

import re

from gateway.port_test.program import make_parser
from tests.test_command_help import ROOT, options_of, plain, run

MANUAL = ROOT / "deploy/man/rtmpt-port-test.1"
BASH, FISH, ZSH = (
    ROOT / f"deploy/completion/rtmpt-port-test.{shell}" for shell in ("bash", "fish", "zsh")
)
OPTIONS = options_of(make_parser())
WITHOUT_HELP = {name: text for name, text in OPTIONS.items() if name != "--help"}


def bash_completes(*words: str) -> set[str]:
    """What bash offers for the last of ``words``."""
    script = f"""
        source {BASH}
        COMP_WORDS=(rtmpt-port-test "$@")
        COMP_CWORD=$#
        _rtmpt_port_test
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    return set(run("bash", "-c", script, "bash", *words).split())


def test_the_manual_has_every_option() -> None:
    text = plain(MANUAL.read_text())
    described = set(re.findall(r"^\.TP\n\.B[IR]? .*(--[a-z]+)", text, re.MULTILINE))
    assert described == set(OPTIONS)


def test_man_formats_the_manual_without_warnings() -> None:
    assert "EXIT STATUS" in run("man", "--warnings", "--local-file", str(MANUAL))


def test_bash_completes_options_and_protocols() -> None:
    assert bash_completes("-") == set(OPTIONS)
    assert bash_completes("--way", "rtmpt") == {"rtmpt", "rtmpts"}
    assert bash_completes("--proxy", "") == set()


def test_the_completion_file_of_fish_has_the_texts_of_the_parser() -> None:
    text = FISH.read_text()
    assert dict(re.findall(r"-l ([a-z]+) -d '(.*)'\n", text)) == {
        name.removeprefix("--"): help_ for name, help_ in OPTIONS.items()
    }


def test_fish_accepts_the_completion_file_and_completes() -> None:
    run("fish", "--no-execute", str(FISH))
    offered = run("fish", "-c", f"source {FISH}; complete -C 'rtmpt-port-test --'")
    assert {line.split("\t")[0] for line in offered.splitlines()} == set(OPTIONS)


def test_the_completion_file_of_zsh_has_the_texts_of_the_parser() -> None:
    described = dict(re.findall(r"(--[a-z]+)\[(.*?)\]", ZSH.read_text()))
    assert described == WITHOUT_HELP
    run("zsh", "-n", str(ZSH))
