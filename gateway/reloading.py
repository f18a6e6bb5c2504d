"""Reloads that signals ask for, one after another; and the replacement of the supervisor's program.

Signals that arrive while the program is replaced wait in the kernel, because the signal mask survives an
exec: SIGHUP would otherwise end a process that has not installed its handler yet. All other threads block
them too: the kernel would give a signal to one that does not, and the exec would end it with the signal.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from signal import (
    SIG_BLOCK,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGHUP,
    SIGINT,
    SIGTERM,
    SIGUSR2,
    pthread_sigmask,
)
from threading import Thread
from typing import Any, Final, final

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from gateway.errors import GatewayError
from gateway.supervisor import succession
from gateway.supervisor.supervisor import Supervisor
from gateway.systemd_notify import SystemdNotify
from gateway.telemetry.versions import version_of

_log = Logger()

_PACKAGE: Final = "rtmpt-gateway"
_SIGNALS: Final = (SIGHUP, SIGINT, SIGTERM, SIGUSR2)
_LOOK_S: Final = 0.05


class _Thread(Thread):
    """It inherits the signal mask of the thread that starts it."""

    def start(self) -> None:
        before = pthread_sigmask(SIG_BLOCK, _SIGNALS)
        try:
            super().start()
        finally:
            pthread_sigmask(SIG_SETMASK, before)


def keep_signals_from_threads(reactor: Any) -> None:
    """Have only the main thread receive signals. Must be called before the reactor has started threads."""
    reactor.getThreadPool().threadFactory = _Thread


def accept_signals() -> None:
    """Receive the signals that have arrived while the program was replaced. Handlers must be installed."""
    pthread_sigmask(SIG_UNBLOCK, _SIGNALS)


@final
class Reloader:
    """``twistd``: its options, with which the program is executed again."""

    def __init__(
        self,
        supervisor: Supervisor,
        reactor: Any,
        systemd: SystemdNotify,
        twistd: Mapping[str, Any],
    ) -> None:
        self._supervisor = supervisor
        self._reactor = reactor
        self._systemd = systemd
        self._twistd = twistd
        self._version = version_of(_PACKAGE)
        self._is_reloading = False
        # What has been asked for since the last reload began.
        self._is_due = self._replaces = False
        # Also after a reload that the admin server has asked for.
        supervisor.upgraded = self.reload

    def reload(self, replaces_program: bool = False) -> None:
        """Reload what can be reloaded. What is invalid is logged and not used.

        The supervisor's program is replaced if that is asked for, or if another version is installed.
        """
        self._is_due = True
        self._replaces = self._replaces or replaces_program
        if not self._is_reloading:
            self._is_reloading = True
            Deferred.fromCoroutine(self._run()).addErrback(
                lambda failure: _log.failure("the reload failed", failure)
            )

    async def _run(self) -> None:
        self._systemd.reloading()
        try:
            while self._is_due:
                self._is_due = False
                await self._reload_and_replace()
        finally:
            self._is_reloading = False
            self._systemd.ready(self._supervisor.status)

    async def _reload_and_replace(self) -> None:
        """A fault does not prevent the next reload, which may have been asked for meanwhile."""
        try:
            if await self._reload_once():
                await self._replace_program()
        except Exception:
            _log.failure("the reload failed")

    async def _reload_once(self) -> bool:
        """Returns whether it succeeded."""
        try:
            await self._supervisor.reload(self._replaces)
        except (GatewayError, OSError):
            # It has been logged already.
            return False
        return True

    async def _replace_program(self) -> None:
        """Replace the program, if that is due, unless another reload is."""
        supervisor = self._supervisor
        if not self._replaces and version_of(_PACKAGE) == self._version:
            return
        cause = succession.obstacle(self._twistd)
        if cause:
            self._replaces = False
            _log.warn("the supervisor's program is not replaced: {cause}", cause=cause)
            return
        while not self._is_overtaken:
            pthread_sigmask(SIG_BLOCK, _SIGNALS)
            try:
                # Meanwhile, the reactor makes the calls that handlers have left with it, and begins a stop.
                await deferLater(self._reactor, _LOOK_S)
                if supervisor.may_be_replaced_now and not self._is_overtaken:
                    self._execute_successor(supervisor)
                    return
            finally:
                accept_signals()

    @property
    def _is_overtaken(self) -> bool:
        """Whether another reload is due, or the gateway stops."""
        return self._is_due or self._supervisor.is_stopping

    def _execute_successor(self, supervisor: Supervisor) -> None:
        """Does not return if it succeeds."""
        self._replaces = False
        _log.info("the supervisor's program is replaced by the installed one")
        pid_file = self._twistd.get("pidfile") or ""
        try:
            with ExitStack() as closing:
                succession.execute_successor(supervisor.hand_over(closing), pid_file)
        except GatewayError as error:
            _log.error("the supervisor's program cannot be replaced: {error}", error=error)
