"""The identity of a worker, assigned by the supervisor: its number, sockets, and place in shared memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from attrs import field, frozen

from gateway.tunnels.ids import base36
from gateway.workers.shared_counts import SharedCounts

# A worker's number has two digits in session ids.
NUMBERS: Final = 36 * 36
# Each worker numbers its connections from here, so that no two workers of all nodes use the same number.
_CONNECTIONS_EACH: Final = 1 << 40
_PREFIX: Final = re.compile(rb"[0-9a-z]{4}")


@frozen
class Place:
    """``number``: below ``NUMBERS``, unique among running workers. ``folder``: of the workers' sockets.

    ``sockets``: descriptors of the listening sockets, in the configuration's order. ``workers``: the number
    of workers with the same configuration. ``servers``: the number of each media server in ``counts``.
    ``configuration``: a name of that, part of a file's name.
    """

    node: str
    number: int
    folder: str
    sockets: tuple[int, ...]
    counts: SharedCounts
    workers: int = 1
    servers: dict[str, int] = field(factory=dict)
    configuration: str = ""

    @property
    def prefix(self) -> str:
        """The prefix of its session ids."""
        return self.node + base36(self.number, 2)

    @property
    def socket_path(self) -> str:
        """The socket for commands that other workers forward."""
        return str(Path(self.folder, self.prefix))

    @property
    def offers_path(self) -> str:
        """The socket for client connections that other workers offer."""
        return self._offers_path(self.socket_path)

    def offers_path_of(self, prefix: bytes) -> str | None:
        """As ``path_of``, for the socket for offers. A worker with another configuration has none of this
        name: its listeners can differ.
        """
        path = self.path_of(prefix)
        return None if path is None else self._offers_path(path)

    def _offers_path(self, socket_path: str) -> str:
        return f"{socket_path}-{self.configuration}"

    @property
    def first_connection(self) -> int:
        return (int(self.node, 36) * NUMBERS + self.number) * _CONNECTIONS_EACH

    def path_of(self, prefix: bytes) -> str | None:
        """Where the socket of the worker whose sessions have this prefix would be; None if no other worker
        can have it. Before a reload, the node can have had another name.
        """
        name = prefix.decode("latin-1")
        if not _PREFIX.fullmatch(prefix) or name == self.prefix:
            return None
        return str(Path(self.folder, name))
