"""The fuzzed targets themselves, without atheris."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fuzz.fuzzing import Fuzzing
from tests.fuzz.measurement import MOST_BYTES, MOST_S, measure
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.alone
@pytest.mark.parametrize("name", TARGETS)
def test_seeds_repeated_to_64_kib_are_read_within_the_bounds(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
        result = measure(target.run, target.repeat(seed, MOST_BYTES))
        assert result.is_within_bounds, result


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_cut_or_damaged_anywhere_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        for at in range(0, len(seed), max(1, len(seed) // 100)):
            target.run(seed[:at])
            target.run(seed[:at] + bytes([seed[at] ^ 0x81]) + seed[at + 1 :])


def test_a_repetition_has_the_first_bytes_once() -> None:
    target = Target(lambda data: None, [], once_bytes=2)
    assert target.repeat(b"ab123", 9) == b"ab1231231"
    assert len(target.repeat(b"a", MOST_BYTES)) == MOST_BYTES


def test_fuzzing_is_complete_after_its_runs_and_its_bytes() -> None:
    for runs, size_bytes in ((3, 0), (0, 25), (3, 25), (2, 30)):
        fuzzing = Fuzzing("any", Target(lambda data: None, []), runs, size_bytes)
        completed = []
        for _ in range(4):
            fuzzing.run(bytes(10))
            completed.append(fuzzing.is_complete)
        assert completed == [False, False, True, True]


def test_an_exception_of_a_target_is_a_finding() -> None:
    def run(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        Fuzzing("any", Target(run, []), 10).take(b"input")


def test_an_input_that_takes_too_long_is_a_finding_if_it_does_without_atheris_too() -> None:
    def run(data: bytes) -> None:
        end = time.thread_time() + 6 * MOST_S
        while time.thread_time() < end:
            pass

    measured = []

    def measure_again(name: str, data: bytes) -> bool:
        measured.append((name, data))
        return data == b"slow only here"

    fuzzing = Fuzzing("any", Target(run, []), 10, measure_again=measure_again)
    fuzzing.take(b"slow only here")
    fuzzing.take(b"slow only here")
    assert measured == [("any", b"slow only here")]
    with pytest.raises(AssertionError, match="for 5 bytes"):
        Fuzzing("any", Target(run, []), 10, measure_again=measure_again).take(b"input")


def test_an_input_in_a_file_is_run_without_atheris(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(TARGETS["amf0"].seeds[0])
    run = fuzz("amf0", str(file))
    assert run.returncode == 0, run.stderr
    assert f"amf0: {file}: {len(TARGETS['amf0'].seeds[0])} bytes" in run.stdout


def test_an_unknown_target_is_named_with_those_that_exist(tmp_path: Path) -> None:
    run = fuzz("amf1", str(tmp_path))
    assert run.returncode == 1
    assert run.stderr.startswith("tests.fuzz: no target 'amf1'; there are amf0, amf3,")


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="atheris is installed")
def test_without_atheris_a_line_says_so() -> None:
    run = fuzz("amf0", "--runs", "10")
    assert run.returncode == 2
    assert run.stderr == "tests.fuzz: atheris is not installed: pip install atheris\n"
