"""Trials: all ways over all routes at once, each step with an absolute deadline.

A trial's failure ends that trial alone. The steps after the application (play, round trip, held idles)
measure, and a failure there is not one of the way.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from attrs import evolve, field, frozen

from gateway.http_proxies import Proxies, ProxyURL
from gateway.port_test.carriers import Carrier, PlainCarrier, TunnelCarrier
from gateway.port_test.certificates import reading_context
from gateway.port_test.connections import Connection, Path, authentication_of, or_aborted
from gateway.port_test.conversation import Conversation
from gateway.port_test.dialogue import Dialogue
from gateway.port_test.held_idles import HeldIdles
from gateway.port_test.name_lookup import look_up
from gateway.port_test.observations import (
    Failure,
    Kind,
    Step,
    Throughput,
    Trial,
    TrialFailed,
    Unmeasured,
)
from gateway.port_test.requests import Requests
from gateway.port_test.throughput import measured
from gateway.port_test.ways import Route, Target, Way
from gateway.protocols.port_test.resources import PREFIX
from gateway.protocols.rtmp.handshake import RANDOM_BYTES

# The parts of the whole time by which a step must have ended, so that the later ones have some left. With
# the default of 2.5 s, a connect takes up to 1.75 s: the kernel repeats a lost first packet after 1 s.
_LATEST: Final = {Step.LOOK_UP: 0.4, Step.CONNECT: 0.7, Step.PROXY: 0.8, Step.TLS: 0.9}
# Held idles are watched for this part of the time: long enough to see a proxy that cuts at 1 s.
_WATCHED: Final = 0.6
# The part of the whole time for media after the answer to play, in a tunnel: media that comes while its
# idles are watched counts too. Others wait until the end, because a server can wait for the next keyframe.
_MEDIA: Final = 0.3


@frozen
class Plan:
    """What to test, and how. ``context`` verifies certificates."""

    target: Target
    ways: Sequence[Way]
    context: ssl.SSLContext = field(repr=False)
    proxies: Proxies
    timeout_s: float


@frozen
class _Deadlines:
    """Times of the event loop."""

    began: float
    timeout_s: float

    def of(self, step: Step) -> float:
        return self.after(_LATEST.get(step, 1.0))

    def after(self, part: float) -> float:
        return self.began + part * self.timeout_s


async def run_trials(plan: Plan, began: Callable[[Sequence[Trial]], None]) -> list[Trial]:
    """Try all ways. ``began`` gets the trials as soon as they are known, which are filled from then on."""
    deadlines = _Deadlines(_now(), plan.timeout_s)
    addresses = await asyncio.gather(
        *(_addresses(plan.target.host, route, deadlines) for route in (Route.IPV4, Route.IPV6))
    )
    trials = _with_address(plan.ways, addresses)
    trials += [
        Trial(way, Route.PROXY) for way in plan.ways if _proxy_for(way, plan.proxies) is not None
    ]
    began(trials)
    await asyncio.gather(*(_Run(plan, trial, deadlines).run() for trial in trials))
    return trials


async def measure_throughput(plan: Plan, trials: Sequence[Trial]) -> None:
    """Measure the throughput of the ways that work, one after another."""
    for trial in trials:
        if trial.works and trial.way.protocol.tunnelled:
            trial.step = Step.THROUGHPUT
            run = _Run(plan, trial, _Deadlines(_now(), plan.timeout_s))
            trial.throughput = await measured(
                *(run.path, run.requests_to_loopback(), plan.timeout_s)
            )
            trial.step = None
        elif trial.works:
            trial.throughput = Throughput(cause=Unmeasured.NOT_TUNNELLED)


@frozen
class _Found:
    """The result of a look-up: an address, or a failure."""

    route: Route
    address: str
    took_ms: float
    failure: Failure | None = None


async def _addresses(host: str, route: Route, deadlines: _Deadlines) -> _Found:
    began = _now()
    address, failure = "", None
    try:
        async with asyncio.timeout_at(deadlines.of(Step.LOOK_UP)):
            address = await look_up(host, route)
    except TimeoutError:
        failure = Failure(Step.LOOK_UP, Kind.NO_NAME_SERVER)
    except TrialFailed as error:
        failure = Failure(Step.LOOK_UP, error.kind, error.detail)
    return _Found(route, address, (_now() - began) * 1000, failure)


def _with_address(ways: Sequence[Way], looked_up: Sequence[_Found]) -> list[Trial]:
    """The trials past proxies. A family without an address is left out, unless there is none at all."""
    found = [each for each in looked_up if each.failure is None] or looked_up[:1]
    return [
        Trial(
            way,
            each.route,
            Step.CONNECT if each.failure is None else None,
            each.address,
            {Step.LOOK_UP: each.took_ms},
            failure=each.failure,
        )
        for each in found
        for way in ways
    ]


class _Run:
    """The course of one trial."""

    def __init__(self, plan: Plan, trial: Trial, deadlines: _Deadlines) -> None:
        self._plan = plan
        self._trial = trial
        self._deadlines = deadlines
        self._idles = HeldIdles()
        self._proxy = _proxy_for(trial.way, plan.proxies) if trial.route is Route.PROXY else None

    async def run(self) -> None:
        trial = self._trial
        try:
            if trial.failure is None:
                await self._try()
        except TrialFailed as failure:
            step = trial.step or Step.LOOK_UP
            trial.failure = Failure(step, failure.kind, failure.detail, failure.status)
        except Exception as error:  # noqa: BLE001  # one trial's, and no traceback for users
            trial.failure = Failure(trial.step or Step.LOOK_UP, Kind.INTERNAL, repr(error))
        trial.step = None

    async def path(self) -> Path:
        """How connections of this trial are made. Raises TrialFailed."""
        if self._proxy is not None:
            return await self._path_through(self._proxy)
        return self._path(self._trial.address, self._trial.way.port)

    def requests_to_loopback(self) -> Requests:
        """The writer of requests to a gateway's port test."""
        return evolve(self._requests(), folder=PREFIX.decode())

    async def _try(self) -> None:
        connection, path = await self._open()
        async with or_aborted(connection):
            carrier = await self._carrier(connection, path)
        try:
            await self._converse(carrier)
        finally:
            await carrier.close()

    async def _open(self) -> tuple[Connection, Path]:
        """A connection, with TLS if the protocol has it, and how to make another."""
        if self._proxy is None:
            path = await self.path()
            async with self._step(Step.CONNECT):
                connection = await path.reach()
        else:
            async with self._step(Step.PROXY):
                path = await self.path()
                connection = await path.reach()
        if path.context is not None:
            async with self._step(Step.TLS):
                await self._secure(path, connection)
        return connection, path

    def _path(self, address: str, port: int) -> Path:
        context = self._plan.context if self._trial.way.protocol.secure else None
        return Path(address, port, context=context, server_name=self._plan.target.host)

    async def _path_through(self, proxy: ProxyURL) -> Path:
        address = await look_up(proxy.server.host, Route.PROXY)
        way = self._trial.way
        authority = self._plan.target.authority(way.port) if way.protocol.secure else None
        return evolve(
            self._path(address, proxy.server.port),
            authority=authority,
            authentication=authentication_of(proxy),
        )

    async def _secure(self, path: Path, connection: Connection) -> None:
        try:
            async with or_aborted(connection):
                await path.secure(connection)
        except TrialFailed as failure:
            if failure.kind in _ABOUT_CERTIFICATES:
                await self._read_refused_certificate(path)
            raise
        self._note_certificate(connection)

    async def _read_refused_certificate(self, path: Path) -> None:
        with suppress(TrialFailed):
            connection = await evolve(path, context=reading_context()).open()
            self._note_certificate(connection)
            connection.abort()

    def _note_certificate(self, connection: Connection) -> None:
        self._trial.tls_version = connection.tls_version
        self._trial.certificate = connection.certificate

    async def _carrier(self, connection: Connection, path: Path) -> Carrier:
        if not self._trial.way.protocol.tunnelled:
            return PlainCarrier(connection)
        tunnel = TunnelCarrier(connection, path, self._requests(), self._idles)
        async with self._step(Step.OPEN):
            await tunnel.open()
        return tunnel

    def _requests(self) -> Requests:
        way = self._trial.way
        authority = self._plan.target.authority(way.port)
        is_forwarded = self._proxy is not None and not way.protocol.secure
        return Requests(authority, f"http://{authority}" if is_forwarded else "")

    async def _converse(self, carrier: Carrier) -> None:
        trial, target = self._trial, self._plan.target
        end = self._deadlines.of(Step.HANDSHAKE)
        dialogue = Dialogue(os.urandom(RANDOM_BYTES))
        conversation = Conversation(carrier, dialogue, self._idles)
        async with self._step(Step.HANDSHAKE):
            await conversation.shake(end)
        if target.application:
            async with self._step(Step.APPLICATION):
                await conversation.connect(target.application, target.url(trial.way), end)
            trial.code = dialogue.code
        with suppress(TrialFailed):
            await self._measure(conversation, dialogue)
        trial.stream_code = dialogue.stream_code
        if target.stream:
            trial.media = dialogue.media > 0
        if trial.way.protocol.tunnelled:
            trial.holding = self._idles.holding()

    async def _measure(self, conversation: Conversation, dialogue: Dialogue) -> None:
        trial, target = self._trial, self._plan.target
        end = self._deadlines.of(Step.ROUND_TRIP)
        async with self._step(Step.ROUND_TRIP):
            pinged = await conversation.round_trip_ms(end)
        trial.round_trip_ms = trial.times_ms[Step.HANDSHAKE] if pinged is None else pinged
        if target.stream:
            media_end = end
            if trial.way.protocol.tunnelled:
                media_end = min(end, _now() + _MEDIA * self._plan.timeout_s)
            with suppress(TrialFailed):
                async with self._step(Step.STREAM):
                    await conversation.play(target.stream, media_end)
        if trial.way.protocol.tunnelled:
            async with self._step(Step.HELD):
                await conversation.watch(self._deadlines.after(_WATCHED))

    @asynccontextmanager
    async def _step(self, step: Step) -> AsyncIterator[None]:
        """The trial is at this step; raises TrialFailed after its deadline."""
        self._trial.step = step
        began = _now()
        try:
            async with asyncio.timeout_at(self._deadlines.of(step)):
                yield
        except TimeoutError:
            raise TrialFailed(Kind.NO_ANSWER) from None
        self._trial.times_ms[step] = (_now() - began) * 1000


def _proxy_for(way: Way, proxies: Proxies) -> ProxyURL | None:
    """The proxy for a way; None for plain RTMP, which programs send past proxies."""
    if not way.proxied:
        return None
    return proxies.secure if way.protocol.secure else proxies.plain


_ABOUT_CERTIFICATES: Final = frozenset(
    {Kind.NOT_TRUSTED, Kind.SELF_SIGNED, Kind.EXPIRED, Kind.OTHER_NAME}
)


def _now() -> float:
    return asyncio.get_running_loop().time()
