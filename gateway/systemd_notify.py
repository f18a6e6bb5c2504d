"""The state of the service for systemd (sd_notify(3)): ready, reloading, stopping, alive.

The protocol is one datagram of lines to the socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import Final, final

_NS_A_US: Final = 1000


@final
class SystemdNotify:
    """Does nothing if systemd does not listen. ``watchdog_s``: how often systemd expects ``alive``; 0 for
    never.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading "@" stands for the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = 0.0
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            with suppress(ValueError):
                self.watchdog_s = int(environment.get("WATCHDOG_USEC", "0")) / 1e6

    def ready(self, status: str = "") -> None:
        """The start or a reload has finished."""
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        now_us = clock_gettime_ns(CLOCK_MONOTONIC) // _NS_A_US
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def alive(self, status: str) -> None:
        """To be called at least every half ``watchdog_s``, only while the service works."""
        self._send("WATCHDOG=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)
