"""Places in the counts that all workers share: slots of workers, and numbers of media servers."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.configuration.sections import Config
from gateway.errors import GatewayError
from gateway.supervisor.worker_process import WorkerProcess
from gateway.workers.shared_counts import SERVERS, SLOTS


def free_slot(workers: Iterable[WorkerProcess]) -> int:
    """A slot that none of ``workers`` has. Raises GatewayError."""
    free = set(range(SLOTS)) - {worker.setup.slot for worker in workers}
    if not free:
        raise GatewayError(
            f"{SLOTS} workers run already; wait until those of earlier reloads have ended"
        )
    return min(free)


def number_servers(workers: Iterable[WorkerProcess], configuration: Config) -> dict[str, int]:
    """The number of each server of the configuration; one that ``workers`` know keeps its own.

    Raises GatewayError.
    """
    known = {name: number for worker in workers for name, number in worker.setup.servers.items()}
    names = [str(server) for upstream in configuration.upstreams for server in upstream.servers]
    free = sorted(set(range(SERVERS)) - set(known.values()))
    new = [name for name in names if name not in known]
    if len(new) > len(free):
        raise GatewayError(
            f"{len(known)} media servers have sessions still; wait until workers of earlier reloads"
            " have ended"
        )
    known.update(zip(new, free, strict=False))
    return {name: known[name] for name in names}
