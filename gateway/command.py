"""The command ``rtmpt-gateway``: checks and shows the configuration, and runs the gateway.

``check``, ``config`` and ``run`` use the options of ``twistd rtmpt-gateway``, so their messages and exit
statuses are the same: 0, 1 for an invalid configuration or a failed start, 2 for wrong arguments.

A supervisor replaces its program with the arguments of its process (supervisor/succession.py), so ``run``
runs twistd in this process and executes no other program.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

from gateway.command_line import Parser
from gateway.configuration.sections import Config
from gateway.configuration.writing import document_of, toml_of
from gateway.service import Options
from gateway.standard_output import failures_reported_by

DEFAULT_FILE: Final = "/etc/rtmpt-gateway/rtmpt-gateway.toml"
_NAME: Final = "rtmpt-gateway"

_Arguments = argparse.Namespace


def make_parser() -> argparse.ArgumentParser:
    """The parser of all arguments. The result's ``command`` is the function that performs them."""
    parser = Parser(
        prog="rtmpt-gateway",
        description="RTMPT, RTMPTS, RTMPS and RTMP in front of any RTMP server.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[_Arguments], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text}.", allow_abbrev=False)
        added.set_defaults(command=command, parser=added)
        return added

    _add_file(add("check", _check, "Check the configuration and the files that it names"))
    config = add("config", _config, "Print the configuration in effect, with every key")
    _add_file(config)
    form = config.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of TOML")
    form.add_argument(
        "--schema", action="store_true", help="print the JSON schema of configurations, for editors"
    )
    _add_run_options(add("run", _run, "Run the gateway in the foreground"))
    add("version", _version, "Print the versions of the gateway and of Twisted")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """The entry point; ``words`` are the arguments, by default those of the process."""
    arguments = make_parser().parse_args(words)
    arguments.command(arguments)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help=f"configuration file [default: {DEFAULT_FILE}]"
    )


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument(
        "--listen",
        metavar="ADDRESS",
        action="append",
        default=[],
        help="without a file: accept clients on this address; may be repeated",
    )
    parser.add_argument(
        "--upstream",
        metavar="SERVER",
        action="append",
        default=[],
        help="without a file: forward sessions to this RTMP server; may be repeated",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        help="without a file: number of worker processes, or auto for one a core, the default",
    )
    parser.add_argument(
        "--reactor",
        metavar="NAME",
        help="reactor to use, one of twistd --help-reactors; workers use the default one",
    )


def _check(arguments: _Arguments) -> None:
    with failures_reported_by(_NAME):
        Options().parseOptions(["--check", *_file_options(arguments)])


def _config(arguments: _Arguments) -> None:
    if arguments.schema and arguments.file is not None:
        arguments.parser.error("--schema: FILE is not used; remove it")
    with failures_reported_by(_NAME):
        if arguments.schema:
            print(_schema(), end="")
        elif arguments.json:
            print(json.dumps(document_of(_read(arguments)), indent=2, ensure_ascii=False))
        else:
            print(toml_of(_read(arguments)), end="")


def _version(_: _Arguments) -> None:
    with failures_reported_by(_NAME):
        Options().opt_version()


def _run(arguments: _Arguments) -> None:
    chosen = [
        *(word for address in arguments.listen for word in ("--listen", address)),
        *(word for server in arguments.upstream for word in ("--upstream", server)),
        *(("--workers", arguments.workers) if arguments.workers else ()),
    ]
    if chosen and arguments.file is not None:
        arguments.parser.error("--listen, --upstream and --workers cannot be combined with FILE")
    reactor = ["--reactor", arguments.reactor] if arguments.reactor else []
    _run_twistd(
        arguments,
        [*reactor, "--nodaemon", "--pidfile=", "rtmpt-gateway"]
        + (chosen or _file_options(arguments)),
    )


def _run_twistd(arguments: _Arguments, words: Sequence[str]) -> None:
    # These import modules that twistd alone needs; the other commands start without them.
    from twisted.python.usage import UsageError
    from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

    options = ServerOptions()
    try:
        options.parseOptions(words)
    except UsageError as error:
        cause = str(error).partition("\n")[0].rstrip(".")
        arguments.parser.exit(2, f"rtmpt-gateway: {cause}; see twistd --help\n")
    runApp(options)


def _file_options(arguments: _Arguments) -> list[str]:
    return ["--config", DEFAULT_FILE if arguments.file is None else arguments.file]


def _read(arguments: _Arguments) -> Config:
    """The configuration. An invalid one ends the process, with a line for each problem."""
    options = Options()
    options.parseOptions(_file_options(arguments))
    return options.configuration


def _schema() -> str:
    return files("gateway.configuration").joinpath("schema.json").read_text(encoding="utf-8")
