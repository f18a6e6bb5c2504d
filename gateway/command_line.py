"""Command-line parsing that the programs share: wrong arguments, and options for connections to servers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from gateway.standard_output import failures_reported_by

_Parsed = TypeVar("_Parsed")


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.program}: {message}; see {self.prog} --help\n")

    @property
    def program(self) -> str:
        """The program's name: ``prog`` can be that of a subcommand, or begin with twistd."""
        return self.prog.removeprefix("twistd ").partition(" ")[0]

    def _print_message(self, message: str, file: Any = None) -> None:
        """For argparse, which ignores failed writes."""
        if file is sys.stdout and file is not sys.stderr:
            with failures_reported_by(self.program):
                print(message, end="")
        else:
            super()._print_message(message, file)

    def parsed(self, name: str, parse: Callable[[str], _Parsed], text: str) -> _Parsed:
        """The value of an argument; ``parse`` raises ValueError for a wrong one."""
        try:
            return parse(text)
        except ValueError as error:
            self.error(f"{name}: {error}")

    def add_ways(self) -> None:
        """Add ``--way``."""
        self.add_argument(
            "--way",
            metavar="PROTOCOL[:PORT]",
            action="append",
            default=[],
            help="try this way instead of the usual ones: rtmp, rtmps, rtmpt or rtmpts; may be repeated",
        )

    def add_authorities(self) -> None:
        """Add ``--ca``."""
        self.add_argument(
            "--ca",
            metavar="FILE",
            help="verify certificates by the authorities in this PEM file instead of those of the system",
        )
