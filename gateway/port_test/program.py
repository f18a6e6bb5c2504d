"""The program ``rtmpt-port-test``: tries all ways to a server, and prints which of them work."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import ssl
import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from time import monotonic
from typing import Final

from gateway.command_line import Parser
from gateway.http_proxies import Proxies, parse_proxy, proxies_of, userinfo_of
from gateway.port_test.certificates import verifying_context
from gateway.port_test.observations import Trial
from gateway.port_test.order import recommended
from gateway.port_test.progress import REDRAW_S, Progress
from gateway.port_test.report import document_of
from gateway.port_test.table import report_of
from gateway.port_test.trials import Plan, measure_throughput, run_trials
from gateway.port_test.ways import DEFAULT_WAYS, MOST_WAYS, parse_target, parse_way
from gateway.process_arguments import hide_argument
from gateway.standard_output import failures_reported_by

_NAME: Final = "rtmpt-port-test"
_TIMEOUT_S: Final = 2.5
_SHORTEST_S, _LONGEST_S = 0.5, 60.0
# For output that is not a terminal.
_WIDTH: Final = 100


def make_parser() -> Parser:
    """The parser of all arguments."""
    parser = Parser(
        prog=_NAME,
        description="Test which ways of RTMP to a server work from here, and name what blocks the others.",
        epilog="Exit status: 0 if some way works, 1 if none does, 2 for wrong arguments.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "target",
        metavar="HOST[/APP[/STREAM]]",
        help="the server, an application on it, and a stream to play",
    )
    parser.add_ways()
    parser.add_argument(
        "--proxy",
        metavar="URL",
        help="HTTP proxy, http://USER:PASSWORD@HOST:PORT, instead of that of the environment",
    )
    parser.add_authorities()
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        default=str(_TIMEOUT_S),
        help=f"end after this time, by default {_TIMEOUT_S}",
    )
    parser.add_argument(
        "--throughput",
        action="store_true",
        help="then measure the throughput of each tunnel that works,"
        " if the server is a gateway with port_test",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def run(words: Sequence[str] | None) -> None:
    """Run the program with these arguments, None for those of the process. Raises SystemExit at its end."""
    parser = make_parser()
    arguments = parser.parse_args(words)
    plan = _plan_of(arguments, parser)
    _prepare_output()
    began = monotonic()
    trials = asyncio.run(_run(plan, arguments.throughput, quiet=arguments.json))
    took_s = monotonic() - began
    with failures_reported_by(_NAME):
        if arguments.json:
            print(json.dumps(document_of(trials, plan.target, took_s), indent=2))
        else:
            width = shutil.get_terminal_size((_WIDTH, 0)).columns
            print("\n".join(report_of(trials, plan.target, took_s, width)))
    raise SystemExit(0 if recommended(trials) else 1)


def _plan_of(arguments: argparse.Namespace, parser: Parser) -> Plan:
    """The plan. A wrong argument ends the process."""
    target = parser.parsed("argument HOST", parse_target, arguments.target)
    ways = [parser.parsed("argument --way", parse_way, each) for each in arguments.way]
    if len(ways) > MOST_WAYS:
        parser.error(f"argument --way: at most {MOST_WAYS} ways")
    if arguments.proxy is None:
        proxies = parser.parsed("environment", _environment_proxies, target.host)
    else:
        proxy = parser.parsed("argument --proxy", parse_proxy, arguments.proxy)
        hide_argument(userinfo_of(arguments.proxy))
        proxies = Proxies(proxy, proxy)
    return Plan(
        target,
        tuple(dict.fromkeys(ways)) or DEFAULT_WAYS,
        parser.parsed("argument --ca", _context_of, arguments.ca),
        proxies,
        parser.parsed("argument --timeout", _seconds, arguments.timeout),
    )


def _environment_proxies(host: str) -> Proxies:
    return proxies_of(os.environ, host)


def _context_of(file: str | None) -> ssl.SSLContext:
    try:
        return verifying_context(file)
    except ssl.SSLError:
        raise ValueError(f"{file}: has no certificates in PEM form") from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ValueError(f"expected seconds from {_SHORTEST_S} to {_LONGEST_S:.0f}")
    return seconds


def _prepare_output() -> None:
    # asyncio logs its errors with tracebacks.
    logging.getLogger("asyncio").disabled = True
    if isinstance(sys.stdout, TextIOWrapper):
        # Names of issuers may not fit into the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")


async def _run(plan: Plan, measures: bool, *, quiet: bool) -> list[Trial]:
    if quiet or sys.stdout is None or not sys.stdout.isatty():
        return await _try_all(plan, measures, lambda trials: None)
    size = shutil.get_terminal_size()
    progress = Progress(sys.stdout, size.columns, size.lines)
    shown: list[Trial] = []
    drawing = asyncio.create_task(_draw(progress, shown))
    try:
        return await _try_all(plan, measures, shown.extend)
    finally:
        drawing.cancel()
        progress.erase()


async def _try_all(
    plan: Plan, measures: bool, began: Callable[[Sequence[Trial]], None]
) -> list[Trial]:
    trials = await run_trials(plan, began)
    if measures:
        await measure_throughput(plan, trials)
    return trials


async def _draw(progress: Progress, trials: Sequence[Trial]) -> None:
    """Draw ``trials``, which is filled later, until cancelled."""
    while True:
        if trials:
            progress.draw(trials)
        await asyncio.sleep(REDRAW_S)
