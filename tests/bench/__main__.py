"""The benchmark: the gateway against HAProxy, in one run, in ratios.

    python -m tests.bench                  all scenarios, about fifty minutes
    python -m tests.bench live polls       some of them
    python -m tests.bench slow slow-far    on a slow, lossy path (slow_path.py): needs root
    python -m tests.bench --quick          half a minute: checks the data, not the figures
    python -m tests.bench --markdown       the tables for RESULTS.md

Run it from the checkout, with the Python that has the gateway's dependencies; it needs haproxy, gcc
and OpenSSL's headers. The load (media server and clients in one C program, load/main.c) runs on one core,
the measured program on another. The gateway and its reference alternate for several rounds and are
restarted for each, so that chance and other load affect both; a figure is the median over the rounds,
with minimum and maximum.

Every record that travels is numbered and checked byte for byte. The exit status is 1 if one was
lost, doubled, reordered or changed; 2 if something is missing; and 0 otherwise, whatever the
figures. Scenarios on a slow path are left out, with a line that says so, where the machine allows none.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from attrs import evolve

from . import report
from .generator import DataDamaged, Generator, compile_generator
from .machine import choose_cores, description, raise_open_files
from .report import FOREIGN_SHARE, Round
from .scenarios import QUICK, QUICK_SLOW, SCENARIOS, Result, Rounds, Scenario
from .slow_path import can_run, running_path
from .targets import Bench, CannotRun, RunningTarget, at_the_end_of, running

# The number of runs of a scenario that are repeated because of other load.
_REPEATS = 3


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    scenarios = [
        _quick(scenario) if options.quick else scenario
        for scenario in SCENARIOS
        if not options.scenario or scenario.name in options.scenario
    ]
    show = report.markdown if options.markdown else report.text
    try:
        _run(scenarios, options, show)
    except CannotRun as problem:
        print(f"cannot run: {problem}", file=sys.stderr)
        return 2
    except DataDamaged as problem:
        print(f"FAILED: {problem}", file=sys.stderr)
        return 1
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    listing = "\n".join(f"  {scenario.name:12} {scenario.heading}" for scenario in SCENARIOS)
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description=__doc__,
        epilog=f"scenarios:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="*", help="names of scenarios; none means all")
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--twistd", help="run the gateway with another Python's twistd")
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="run load and targets ahead of all other work, where others use the machine (root)",
    )
    options = parser.parse_args(arguments)
    for name in options.scenario:
        if name not in names:
            parser.error(f"no scenario {name!r}; there are {', '.join(names)}")
    return options


def _quick(scenario: Scenario) -> Scenario:
    rounds = QUICK if scenario.path is None else QUICK_SLOW
    return evolve(scenario, rounds=rounds, load=scenario.quick_load or scenario.load)


def _run(
    scenarios: Sequence[Scenario], options: argparse.Namespace, show: Callable[..., str]
) -> None:
    if not raise_open_files():
        _say("few files may be open here (ulimit -Hn): the memory scenario will fail")
    cores = choose_cores(options.real_time)
    if cores.shared:
        _say("one core only: load and target share it, and the latencies mean little")
    print(description() + "\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="rtmpt-bench-") as folder, ExitStack() as stack:
        generator = Generator(compile_generator(Path(folder)), cores)
        stack.callback(generator.close)
        bench = Bench(generator.upstream_port, cores, Path(folder), options.twistd)
        for number, scenario in enumerate(scenarios, 1):
            _say(f"[{number}/{len(scenarios)}] {scenario.name}: {scenario.heading}")
            if scenario.path is not None and not can_run():
                _say("  left out: a slow path needs root, /dev/net/tun and iproute2")
                continue
            rounds, notes = _measure(generator, bench, scenario)
            print(show(scenario, report.rows(scenario, rounds), notes), flush=True)


def _measure(
    generator: Generator, bench: Bench, scenario: Scenario
) -> tuple[list[Round], list[str]]:
    rounds = list(_rounds(generator, bench, scenario))
    return rounds, list(_notes(generator, scenario, rounds))


def _rounds(generator: Generator, bench: Bench, scenario: Scenario) -> Iterator[Round]:
    once = generator.memory if scenario.memory else generator.run
    repeats = iter(range(0 if scenario.rounds in (QUICK, QUICK_SLOW) else _REPEATS))
    reference = scenario.reference
    for number in range(scenario.rounds.count):
        # Anew in each round, and in turn which comes first: where its memory happens to lie makes a
        # process some percent faster or slower for all its life.
        with ExitStack() as stack:
            ours = stack.enter_context(running(scenario.contender, bench))
            theirs = stack.enter_context(running(reference, bench)) if reference else None
            order = [ours, theirs] if number % 2 == 0 else [theirs, ours]
            results = {
                target: _on_its_path(once, target, scenario, bench, number, repeats)
                for target in order
                if target
            }
        done = Round(results[ours], results[theirs] if theirs else None)
        _say(f"  round {number + 1} of {scenario.rounds.count}: {_summary(scenario, done)}")
        yield done


def _on_its_path(
    once: Callable[[RunningTarget, Mapping[str, int], Rounds], Result],
    target: RunningTarget,
    scenario: Scenario,
    bench: Bench,
    number: int,
    repeats: Iterator[int],
) -> Result:
    """The result on the scenario's path, if any: a new path for each target, with the same losses."""
    if scenario.path is None:
        return _undisturbed(once, target, scenario, repeats)
    with (
        running_path(scenario.path, number, bench.cores) as path,
        at_the_end_of(path, target, bench) as reached,
    ):
        return _undisturbed(once, reached, scenario, repeats)


def _undisturbed(
    once: Callable[[RunningTarget, Mapping[str, int], Rounds], Result],
    target: RunningTarget,
    scenario: Scenario,
    repeats: Iterator[int],
) -> Result:
    """The result of the first run with little other load, or of the last permitted run."""
    while True:
        result = once(target, scenario.load, scenario.rounds)
        foreign = result.get("foreign", 0.0)
        if foreign <= FOREIGN_SHARE or next(repeats, None) is None:
            return result
        _say(f"  again: other work on this machine took {foreign:.0%} of a core")


def _summary(scenario: Scenario, done: Round) -> str:
    figures = []
    for row in report.rows(scenario, [done]):
        ratio = f" ({row.ratio.middle:.2f}x)" if row.ratio else ""
        figures.append(f"{row.figure.label} {row.contender.middle:,.{row.figure.digits}f}{ratio}")
    return ", ".join(figures)


def _notes(generator: Generator, scenario: Scenario, rounds: Sequence[Round]) -> Iterator[str]:
    """Notes on the generator's spare capacity, and on other load."""
    results = [result for each in rounds for result in (each.contender, each.reference) if result]
    if scenario.ceiling:
        yield _headroom(generator.ceiling(scenario.load, scenario.rounds), rounds)
    if "lag_p99_us" in results[0]:
        lag_us = max(result["lag_p99_us"] for result in results)
        yield f"99 of 100 records left the generator within {lag_us:.0f} µs of their time."
    foreign = max(each.foreign for each in rounds)
    if foreign > FOREIGN_SHARE:
        yield f"Disturbed: other work on this machine took up to {foreign:.0%} of a core."


def _headroom(ceiling: Result, rounds: Sequence[Round]) -> str:
    most = ceiling["answers"] / ceiling["wall_s"]
    done = max(each.contender["answers"] / each.contender["wall_s"] for each in rounds)
    return (
        f"With an answerer that does next to nothing, the generator does {most:,.0f} polls/s: "
        f"{most / done:.1f} times as many."
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
