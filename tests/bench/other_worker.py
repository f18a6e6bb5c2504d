"""What it costs that a command reaches another worker than its session's.

    python -m tests.bench.other_worker

A gateway of two workers answers polls of sessions that one worker owns: one poll at a time, and all
sessions at once. They come on connections of that worker; on connections of the other one, which began
with another session's open, so that their polls are forwarded; and on connections that the other one has
accepted and passed on, because they began with a poll. The first two are measured in TLS, too, where no
connection can be passed on. Last, each poll has a connection of its own, which is passed on unless the
poll says that it will be closed. The figures are ratios of one run; the least of the rounds is the least
disturbed.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from statistics import median
from time import perf_counter, sleep

from tests.bench.polls import Client, Connection, Poller, flat_out, one_at_a_time, unverified_tls
from tests.bench.running_gateway import Gateway, running
from tests.helpers.interop.echo import echo_server

_SESSIONS = 20
_ROUNDS = 5
_SINGLE_POLLS = 400
# Until the other worker has offered all connections.
_STOP_S = 0.5
# How polls reach their worker.
_PLAIN = ("at its own worker", "forwarded", "passed on")
_TLS = ("over TLS at its own worker", "over TLS forwarded")


def passed_on(
    port: int, gateway: Gateway, own: Sequence[Client], numbers: dict[bytes, int]
) -> list[Poller]:
    """Pollers on connections that the worker which does not own their sessions has accepted."""
    gateway.stop(0, on=True)
    pollers = pollers_on(own, [Connection(port) for _ in own], numbers)
    for poller in pollers:
        poller.send()
    sleep(_STOP_S)
    gateway.stop(0, on=False)
    for poller in pollers:
        poller.receive()
    return pollers


def sessions_of(
    port: int, gateway: Gateway, worker: int, tls: ssl.SSLContext | None = None
) -> list[Client]:
    """Clients of one worker."""
    gateway.stop(1 - worker, on=True)
    clients = [Client(port, tls) for _ in range(_SESSIONS)]
    gateway.stop(1 - worker, on=False)
    return clients


def pollers_on(
    sessions: Sequence[Client], connections: Sequence[Connection], numbers: dict[bytes, int]
) -> list[Poller]:
    """A poller of each session, on a connection each."""
    return [
        Poller(session.session_id, connection, numbers)
        for session, connection in zip(sessions, connections, strict=True)
    ]


def pollers_of(port: int, gateway: Gateway, numbers: dict[bytes, int]) -> dict[str, list[Poller]]:
    """Pollers of sessions of the first worker, by how their connections reach it. ``numbers``: of the next
    poll of each session.
    """
    tls = unverified_tls()
    own, other, own_tls, other_tls = (
        sessions_of(port, gateway, worker, context) for context in (None, tls) for worker in (0, 1)
    )
    # A worker that has its share of connections takes none from others.
    others = other + other_tls + sessions_of(port, gateway, 1)
    if {client.worker for client in own + own_tls} & {client.worker for client in others}:
        raise SystemExit("a stopped worker has accepted connections")
    numbers.update(dict.fromkeys((client.session_id for client in own + own_tls), 0))
    return {
        "at its own worker": pollers_on(own, own, numbers),
        "forwarded": pollers_on(own, other, numbers),
        "passed on": passed_on(port, gateway, own, numbers),
        "over TLS at its own worker": pollers_on(own_tls, own_tls, numbers),
        "over TLS forwarded": pollers_on(own_tls, other_tls, numbers),
    }


def compare_workers(port: int, gateway: Gateway) -> None:
    """Print what polls cost, by how they reach their worker."""
    numbers: dict[bytes, int] = {}
    pollers = pollers_of(port, gateway, numbers)
    for name, measure in (("one at a time", one_at_a_time), ("flat out", flat_out)):
        rounds = [
            {kind: measure(each, gateway) for kind, each in pollers.items()} for _ in range(_ROUNDS)
        ]
        for index, what in enumerate(("latency", "processor")):
            least = {kind: min(each[kind][index] for each in rounds) for kind in pollers}
            for kinds in (_PLAIN, _TLS):
                print(
                    f"{name}, {what}: " + _compared({kind: least[kind] for kind in kinds}),
                    flush=True,
                )
    compare_single_polls(port, gateway, pollers["passed on"][0].session_id, numbers)


def compare_single_polls(
    port: int, gateway: Gateway, session_id: bytes, numbers: dict[bytes, int]
) -> None:
    """Print what polls on connections of their own cost; the other worker accepts half of these."""
    fields = {"forwarded": b"Connection: close\r\n", "passed on": b""}
    rounds = [
        {
            kind: single_polls(port, gateway, session_id, numbers, field)
            for kind, field in fields.items()
        }
        for _ in range(2 * _ROUNDS)
    ]
    for index, what in enumerate(("latency", "processor")):
        least = {kind: min(each[kind][index] for each in rounds) for kind in fields}
        print(f"a connection for each poll, {what}: " + _compared(least), flush=True)


def single_polls(
    port: int, gateway: Gateway, session_id: bytes, numbers: dict[bytes, int], field: bytes
) -> tuple[float, float]:
    """Median time and processor time of a poll with its connection, in seconds."""
    times = []
    before = gateway.processor_s()
    for _ in range(_SINGLE_POLLS):
        began = perf_counter()
        connection = Connection(port)
        poller = Poller(session_id, connection, numbers, field)
        poller.send()
        poller.receive()
        connection.socket.close()
        times.append(perf_counter() - began)
    return median(times), (gateway.processor_s() - before) / len(times)


def _compared(least_s: dict[str, float]) -> str:
    """The figures, and their ratios to the first one."""
    first = next(iter(least_s.values()))
    return ", ".join(
        f"{value * 1e6:.0f} us {kind} (ratio {value / first:.2f})"
        for kind, value in least_s.items()
    )


def main() -> None:
    with (
        echo_server() as upstream,
        running(2, f"127.0.0.1:{upstream}", tls=True) as (port, gateway),
    ):
        compare_workers(port, gateway)


if __name__ == "__main__":
    main()
