"""The setup of a new worker: a line of JSON that the supervisor sends on the channel before the first
message.
"""

from __future__ import annotations

import json
import signal
import socket
from hashlib import blake2b
from typing import Final

import cattrs
from attrs import field, frozen

from gateway.configuration import loading
from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.protocols import offers

# Terminals and ``systemctl kill`` send signals to all processes; workers follow the supervisor's events
# instead. They are blocked when a worker starts, until it ignores them.
SUPERVISORS_SIGNALS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
_MOST_BYTES: Final = 8 * 1024 * 1024
_READ_BYTES: Final = 65536
_DIGEST_BYTES: Final = 4


@frozen
class ConfigurationText:
    """The configuration as the supervisor has read it: the text of the file ``name``, or options."""

    name: str = ""
    text: str = ""
    listen: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    workers: str = ""

    @property
    def digest(self) -> str:
        """Eight characters that distinguish configurations, and versions of ``protocols.offers``."""
        text = repr((offers.VERSION, self)).encode()
        return blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()

    def parse(self) -> Config:
        """Raises ConfigurationError."""
        if self.name:
            return loading.from_text(self.name, self.text)
        return loading.from_options(self.listen, self.upstream, self.workers)


@frozen
class Setup:
    """``sockets`` and ``memory``: descriptors in the worker. ``level``: of its log. ``is_journal``: whether
    the supervisor's log goes to journald. ``is_first``: of its generation; the others do not repeat its log
    lines of the start. ``workers``: their number in its generation. ``servers``: the number of each media
    server in the shared counts, by its name. ``index``: among the workers of its generation; a worker that
    is started instead of a failed one has the same.
    """

    number: int
    slot: int
    configuration: ConfigurationText
    folder: str
    sockets: tuple[int, ...]
    memory: int
    level: str
    is_journal: bool
    is_first: bool = True
    workers: int = 1
    servers: dict[str, int] = field(factory=dict)
    index: int = 0

    def line(self) -> bytes:
        """The setup as a line."""
        return json.dumps(cattrs.unstructure(self)).encode() + b"\n"


def read_setup(channel: socket.socket) -> Setup:
    """Read a worker's setup, and nothing behind its line. Raises GatewayError."""
    line = b""
    while not line.endswith(b"\n"):
        data = channel.recv(_READ_BYTES, socket.MSG_PEEK)
        part = data[: data.find(b"\n") + 1] or data
        line += channel.recv(len(part)) if part else b""
        if not data or len(line) > _MOST_BYTES:
            raise GatewayError("the supervisor ended before this worker had started")
    return cattrs.structure(json.loads(line), Setup)
