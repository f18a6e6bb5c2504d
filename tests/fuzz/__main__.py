"""Coverage-guided fuzzing of the protocol readers.

    python -m tests.fuzz TARGET --runs N           new inputs, by atheris (pip install atheris)
    python -m tests.fuzz TARGET --bytes N          the same, until they have this many bytes together
    python -m tests.fuzz TARGET --corpus FOLDER    begin with the inputs there; add those that reach more
    python -m tests.fuzz TARGET FILE...            these inputs again, without atheris

Targets are those of ``targets.py``.

An input is a finding if the target raises an exception, or exceeds the bounds of ``measurement.py`` on time
and memory. Atheris writes it to the current folder; as a vector it belongs into the ordinary tests.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz.fuzzing import LONG_SEED_BYTES, OPTIONS, Fuzzing
from tests.fuzz.measurement import measure

# If neither runs nor bytes are given.
_RUNS = 100_000


def _target(name: str) -> Any:
    # Not before atheris can instrument what it imports.
    from tests.fuzz.targets import TARGETS

    if name not in TARGETS:
        raise SystemExit(f"tests.fuzz: no target {name!r}; there are {', '.join(TARGETS)}")
    return TARGETS[name]


def _repeat(name: str, files: list[Path]) -> int:
    run = _target(name).run
    kept = True
    for file in files:
        result = measure(run, file.read_bytes())
        print(f"{name}: {file}: {result}")
        kept = kept and result.is_within_bounds
    return 0 if kept else 1


def _fuzz(name: str, runs: int, size_bytes: int, corpus: Path) -> None:
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["gateway"]):
        target = _target(name)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
        (corpus / f"long-{number}").write_bytes(target.repeat(seed, LONG_SEED_BYTES))
    fuzzing = Fuzzing(name, target, runs, size_bytes)
    atheris.Setup([sys.argv[0], str(corpus), *OPTIONS], fuzzing.take)
    atheris.Fuzz()


def main() -> int:
    """Returns the exit status: 2 without atheris, otherwise 0 only if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz a reader.")
    parser.add_argument("target")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--bytes", type=int, default=0)
    parser.add_argument("--corpus", type=Path)
    options = parser.parse_args()
    if options.files:
        return _repeat(options.target, options.files)
    if importlib.util.find_spec("atheris") is None:
        print("tests.fuzz: atheris is not installed: pip install atheris", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        runs = options.runs or (0 if options.bytes else _RUNS)
        _fuzz(options.target, runs, options.bytes, options.corpus or Path(folder))
    return 0


sys.exit(main())
