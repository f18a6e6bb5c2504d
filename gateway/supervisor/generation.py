"""One generation: the workers that run with one configuration (``generations``)."""

from __future__ import annotations

import os
import socket
from itertools import count
from typing import Any

from attrs import define, field

from gateway.configuration.sections import Config
from gateway.supervisor.succession import HandedOverGeneration
from gateway.supervisor.worker_process import WorkerProcess
from gateway.workers.setup import ConfigurationText


@define
class Generation:
    """``workers``: those that run, by slot. ``sockets``: one for each listener of the configuration.
    ``version``: of the gateway that was installed when it started. ``worker_count``: how many workers it
    has; the processor cores are counted once, since their number can change. ``datagram_sockets``: of each
    ``[[udp]]``, one for each worker, by its index.
    """

    configuration: Config
    text: ConfigurationText
    sockets: list[Any]
    version: str
    worker_count: int
    workers: list[WorkerProcess] = field(factory=list)
    is_current: bool = True
    datagram_sockets: list[list[socket.socket]] = field(factory=list)

    def free_index(self) -> int:
        """The least index that no worker of the generation has."""
        used = {worker.setup.index for worker in self.workers}
        return next(index for index in count() if index not in used)

    def datagram_sockets_of(self, index: int) -> list[socket.socket]:
        """Those of the worker with this index, one for each ``[[udp]]``."""
        return [sockets[index] for sockets in self.datagram_sockets]


def worker_count(configuration: Config) -> int:
    """The number of workers to run. The embedded origin exists once, so there is one worker then."""
    if configuration.uses_origin:
        return 1
    return configuration.workers or len(os.sched_getaffinity(0))


def handed_over_count(generation: HandedOverGeneration, configuration: Config) -> int:
    """The number of workers that a generation was started with."""
    counts = [worker.setup.workers for worker in generation.workers]
    return max(counts, default=0) or worker_count(configuration)
