"""Secrets among this process's arguments, which other users of the machine see in the list of processes."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path
from typing import Final

# The index of arg_start among the fields of /proc/pid/stat (proc(5)) behind the command's name, the second
# field.
_ARGUMENTS_AT: Final = 48 - 3


def hide_argument(secret: str) -> None:
    """Overwrite ``secret`` by asterisks in the arguments that the kernel shows.

    Without effect where /proc is not that of Linux. Python's own arguments are copies.
    """
    wanted = os.fsencode(secret)
    try:
        shown = Path("/proc/self/cmdline").read_bytes()
        fields = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
        start = int(fields[_ARGUMENTS_AT])
    except (OSError, IndexError, ValueError):
        return
    # The kernel shows 0 to processes that may not know the address.
    if start and wanted:
        for found in re.finditer(re.escape(wanted), shown):
            ctypes.memset(start + found.start(), ord("*"), len(wanted))
