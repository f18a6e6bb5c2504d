"""Access control of a worker: the configured rules, signed keys and callbacks, in this order.

Nothing is checked, and no session has an ``AccessControl``, unless one of the three is configured.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Any, final

from twisted.internet.defer import Deferred

from gateway.configuration import sections
from gateway.configuration.sections import Config
from gateway.protocols.access import (
    AccessRequest,
    AccessRule,
    AccessRules,
    Action,
    Verdict,
    Visitor,
)
from gateway.protocols.networks import Networks
from gateway.telemetry.observer import SessionObserver
from gateway.telemetry.summary import Summary
from gateway.tunnels.access_control import AccessControl, Controlled
from gateway.workers.stream_secrets import stream_keys

if TYPE_CHECKING:
    from gateway.upstreams.callbacks import Callbacks


@final
class Access:
    """``later`` calls a function in the reactor's next iteration. Raises ConfigurationError."""

    def __init__(
        self, configuration: Config, reactor: Any, later: Callable[[Callable[[], None]], object]
    ) -> None:
        self._configuration = configuration
        self._later = later
        self._rules = AccessRules(map(_rule, configuration.access))
        self._keys = stream_keys(configuration)
        callback = configuration.callback
        self.callbacks = None if callback is None else _callbacks(reactor, callback)
        self._is_configured = bool(configuration.access or self._keys or callback)

    def control(self, session: Controlled, visitor: Visitor) -> AccessControl | None:
        """The access control of a new session; None if nothing is checked."""
        if not self._is_configured:
            return None
        return AccessControl(session, visitor, self, self._later)

    def judge(self, request: AccessRequest, visitor: Visitor) -> Verdict | Deferred[Verdict]:
        """The first refusal, or the callback's verdict."""
        verdict = self._rules.judge(request, visitor.address)
        if not verdict.refusal and self._keys is not None:
            verdict = self._keys.judge(request, time())
        if verdict.refusal or self.callbacks is None:
            return verdict
        return self.callbacks.judge(request, visitor)

    def permits_address(self, address: str) -> bool:
        """Whether the rules permit a client to connect if only its address is known."""
        return not self._rules.judge(AccessRequest(Action.CONNECT, ""), address).refusal

    def reload(self) -> None:
        """Read the secrets again. Raises ConfigurationError, after which the old ones stay in use."""
        self._keys = stream_keys(self._configuration)

    async def finish(self) -> None:
        """Wait for callbacks that have begun."""
        if self.callbacks is not None:
            await self.callbacks.finish()


@final
class EndedStreams(SessionObserver):
    """Reports ended publishes and plays to the callback "done"."""

    def __init__(self, callbacks: Callbacks) -> None:
        self._callbacks = callbacks

    def ended(self, summary: Summary) -> None:
        if summary.action:
            self._callbacks.tell_done(_parameters(summary))


def _parameters(summary: Summary) -> dict[str, str]:
    return {
        "call": "done",
        "addr": summary.address,
        "clientid": summary.alias,
        "app": summary.application,
        "name": summary.stream,
        "action": summary.action,
        "duration": f"{summary.duration_s:.3f}",
        "bytes_in": str(summary.bytes_up),
        "bytes_out": str(summary.bytes_down),
        "reason": summary.reason,
    }


def _rule(rule: sections.AccessRule) -> AccessRule:
    named = rule.allow or rule.deny
    return AccessRule(
        rule.allow is not None,
        frozenset(Action) if named == "all" else frozenset({Action(named)}),
        Networks.of(rule.clients),
        rule.application,
        rule.stream,
    )


def _callbacks(reactor: Any, callback: sections.Callback) -> Callbacks:
    # Here, because most workers have no callbacks, and the import of Twisted's HTTP client takes 20 ms.
    from gateway.upstreams.callbacks import Callbacks, CallbackSettings

    urls = {
        "connect": callback.on_connect,
        "publish": callback.on_publish,
        "play": callback.on_play,
        "done": callback.on_done,
    }
    settings = CallbackSettings(
        {name: url for name, url in urls.items() if url is not None},
        callback.method,
        callback.timeout_s,
        callback.on_failure == "allow",
    )
    return Callbacks(reactor, settings)
