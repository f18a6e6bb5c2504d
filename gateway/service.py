"""twistd's options and service for the gateway: the composition root, and the exit status.

The reactor is imported inside a function: twistd imports this file while it parses its own options, among
them ``--reactor``.

An expected error is reported with one line for each problem on standard error and a non-zero exit status,
without a traceback. How it is raised depends on the time of the error:

- While options are parsed, ``SystemExit`` is raised with the lines.
- In ``privilegedStartService``, which opens ports before twistd drops privileges, the error is raised.
  twistd then removes its pid file and, as a daemon, reports the failure to the waiting shell.
- Once the reactor runs, twistd cannot return a status: it catches what ``run`` raises and exits with 0. So
  the reactor is stopped, and the exit status is set after twistd has cleaned up.
"""

from __future__ import annotations

import gc
import os
import platform
import ssl
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, SIGUSR2, signal
from time import time
from types import MappingProxyType
from typing import Any, ClassVar

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from gateway.configuration import loading
from gateway.configuration.sections import Config, Log
from gateway.errors import ConfigurationError, GatewayError
from gateway.logs import debugging
from gateway.periodic_calls import periodic_call
from gateway.reactor_time import use_monotonic_time
from gateway.reloading import Reloader, accept_signals, keep_signals_from_threads
from gateway.supervisor import configured_files, succession
from gateway.supervisor.supervisor import Supervisor
from gateway.systemd_notify import SystemdNotify
from gateway.telemetry.logs.level_filter import LevelFilter
from gateway.telemetry.logs.line_observer import Output
from gateway.telemetry.logs.unraisable import unraisable
from gateway.telemetry.versions import version_of
from gateway.twistd_process import (
    exit_with,
    is_journal,
    is_one_output,
    lines_of,
    observer_of,
    output_of,
    print_error,
)
from gateway.workers import proxy_loops
from gateway.workers.setup import ConfigurationText

_NAME = "rtmpt-gateway"

# Errors with a cause outside this program. Their text is enough; a traceback would obscure it.
_EXPECTED = (GatewayError, CannotListenError, OSError)

_CHECK = (
    "Check the configuration and the files that it names, and exit. Host names are resolved, and ports "
    "opened, only when the gateway starts."
)


# How often the number of sessions is sent to systemd.
_STATUS_S = 10.0

# Logs the lines of workers if twistd's options select another log.
_workers_log = Logger()


class Options(usage.Options):
    """The options of ``twistd rtmpt-gateway``; ``configuration`` is the result of parsing them."""

    synopsis = (
        "[--config FILE | [--listen ADDRESS]... [--upstream SERVER]... [--workers N]] [--check]"
    )
    longdesc = (
        "Accepts RTMPT, RTMPTS, RTMPS and RTMP in front of RTMP servers. Configure it with a file, or "
        "with --listen, --upstream and --workers. An ADDRESS is 127.0.0.1:80, [::]:80, unix:/PATH or "
        "systemd:NAME. A SERVER is HOST, HOST:PORT or a URL such as rtmps://HOST; sessions go to the first "
        "one that is up. Without a server the embedded origin is used, a small live RTMP server."
    )
    optFlags: ClassVar[list[list[str | None]]] = [["check", None, _CHECK]]
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "Configuration file (TOML)."],
        [
            "workers",
            "w",
            None,
            'Number of worker processes, or "auto" for one a core, the default.',
        ],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.listen: list[str] = []
        self.upstream: list[str] = []
        self.configuration = Config()
        self.text = ConfigurationText()
        # The state of the program that this one replaces in its process.
        self.state: succession.State | None = None
        self._path: Path | None = None

    def opt_version(self) -> None:
        """Print the versions of the gateway and of Twisted, and exit."""
        print(", ".join(f"{name} {version_of(name)}" for name in ("rtmpt-gateway", "Twisted")))
        raise SystemExit(0)

    def opt_listen(self, address: str) -> None:
        """Accept clients on this address; may be repeated. [default: 127.0.0.1:8080]"""
        self.listen.append(address)

    def opt_upstream(self, server: str) -> None:
        """Forward sessions to this RTMP server; may be repeated. [default: the embedded origin]"""
        self.upstream.append(server)

    def parseOptions(self, options: Any = None) -> None:
        """As the base class, but an error is reported in one line, without the usage text."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(_lines(f"{error}; see twistd rtmpt-gateway --help")) from None

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"unexpected argument {words[0]!r}")

    def postOptions(self) -> None:
        self.state = succession.take_state(os.environ)
        try:
            if self.state is None:
                self.configuration, self.text = self.read()
            else:
                # The workers run with it. The file may have changed since, and be invalid.
                self._path = Path(self["config"] or "").absolute()
                self.text = self.state.text
                self.configuration = self.text.parse()
        except ConfigurationError as error:
            raise SystemExit(_lines(str(error))) from None
        if self["check"]:
            for warning in configured_files.warnings(self.configuration):
                print(_lines(f"warning: {warning}"), file=sys.stderr)
            print(f"{self['config'] or 'command line'}: configuration is valid")
            raise SystemExit(0)

    def read(self) -> tuple[Config, ConfigurationText]:
        """Read the configuration, and check it and the files that it names. Raises ConfigurationError."""
        text = self._read_text()
        configuration = text.parse()
        proxy_loops.check(configuration)
        configured_files.check(configuration, time())
        return configuration, text

    def _read_text(self) -> ConfigurationText:
        if self["config"] is None:
            return ConfigurationText(
                listen=tuple(self.listen),
                upstream=tuple(self.upstream),
                workers=self["workers"] or "",
            )
        if self.listen or self.upstream or self["workers"]:
            raise usage.UsageError(
                "--config cannot be combined with --listen, --upstream or --workers"
            )
        # twistd as a daemon changes its working directory before a reload.
        path = self._path or Path(self["config"])
        self._path = path.absolute()
        return ConfigurationText(name=self["config"], text=loading.read_file(path))


class GatewayService(service.Service):
    """The gateway as a Twisted service, started and stopped by twistd."""

    _log = Logger()

    def __init__(
        self,
        configuration: Config,
        supervisor: Supervisor,
        reactor: IReactorCore,
        exit_with: Callable[[int], None],
        observer: LevelFilter | None = None,
        twistd: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._observer = observer
        self._configuration = configuration
        self._reactor = reactor
        self._supervisor = supervisor
        self._exit_with = exit_with
        self._systemd = SystemdNotify(os.environ)
        self._reloader = Reloader(supervisor, reactor, self._systemd, twistd)
        self._status = periodic_call(self._report, reactor)

    def setServiceParent(self, parent: Any) -> None:
        """Also set the application's log observer, which twistd takes from there."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open the listening sockets, while twistd may still be root."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        versions = {name: version_of(name) for name in ("rtmpt-gateway", "Twisted")}
        self._log.info(
            "rtmpt-gateway {gateway} starts, with {configuration}; Python {python}, Twisted {twisted},"
            " {openssl}",
            gateway=versions["rtmpt-gateway"],
            configuration=self._configuration.source.name,
            python=platform.python_version(),
            twisted=versions["Twisted"],
            openssl=ssl.OPENSSL_VERSION,
        )
        try:
            self._bind()
        except _EXPECTED as error:
            self._refuse_to_start(str(error))
            # The interpreter prints the exception that twistd lets through; it has been reported already.
            sys.excepthook = lambda *_: None
            raise GatewayError(str(error)) from None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        # A signal handler can interrupt any code, so the reactor calls ``reload`` between events.
        later = IReactorFromThreads(self._reactor).callFromThread
        signal(SIGHUP, lambda *_: later(self._reloader.reload))
        signal(SIGUSR2, lambda *_: later(self._reloader.reload, True))
        # A reactor that does not run yet cannot be stopped if the start fails.
        self._reactor.callWhenRunning(self._begin)

    def _begin(self) -> None:
        accept_signals()
        Deferred.fromCoroutine(self._start()).addErrback(self._fail)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._systemd.stopping()
        later = IReactorFromThreads(self._reactor).callFromThread
        # The reactor's own handlers have no effect while it is stopping.
        for number in (SIGTERM, SIGINT):
            signal(number, lambda *_: later(self._supervisor.hurry))
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._supervisor.stop()
        if self._status.running:
            self._status.stop()
        self._log.info("stopped")

    def _bind(self) -> None:
        """Open the listening sockets; raises GatewayError."""
        self._supervisor.bind()

    async def _start(self) -> None:
        """Start accepting clients. An exception ends twistd."""
        await self._supervisor.start()
        # Objects made at the start are permanent. Without this, each full collection would traverse them,
        # which stops the event loop for about 11 ms.
        gc.collect()
        gc.freeze()
        if not self.running:
            # Stopped in the meantime.
            return
        self._systemd.ready(self._supervisor.status)
        self._status.start(self._systemd.watchdog_s / 3 or _STATUS_S, now=False)

    def _report(self) -> None:
        if self._supervisor.is_alive:
            self._systemd.alive(self._supervisor.status)

    def _refuse_to_start(self, message: str) -> None:
        """Report the error in the log and on standard error, once if both are the same file."""
        for line in message.splitlines():
            self._log.critical("cannot start: {line}", line=line)
        if not self._log_is_standard_error():
            _print_error(message)

    def _log_is_standard_error(self) -> bool:
        observer = self._observer
        return observer is not None and observer.is_on_output and is_one_output()

    def _fail(self, failure: Failure) -> None:
        """Report the failure and exit with status 1."""
        if failure.check(*_EXPECTED):
            self._refuse_to_start(failure.getErrorMessage())
        else:
            self._log.failure("cannot start", failure=failure)
            _print_error(f"cannot start: {failure.value!r}; see the log")
        self._exit_with(1)
        self._reactor.stop()


def makeService(options: Options) -> service.IService:
    """The service maker's function that twistd calls with the parsed options."""
    from twisted.internet import reactor

    use_monotonic_time(reactor)
    keep_signals_from_threads(reactor)
    unraisable.install()
    debugging.enabled = options.configuration.log.level == "debug"
    configuration = options.configuration
    output = output_of(options.parent)
    observer = None if output is None else _observer(configuration.log, output)
    environment = dict(os.environ)
    supervisor = Supervisor(
        *(configuration, options.text, reactor, environment, observer, options.read),
        _log_line if output is None else partial(_write_line, output),
        observer is not None and observer.is_on_output and is_journal(),
        options.state,
    )
    return GatewayService(
        *(configuration, supervisor, IReactorCore(reactor), exit_with, observer),
        options.parent or {},
    )


def _write_line(output: Output, line: str) -> None:
    """Write a finished line of a worker's log."""
    try:
        output.write(line + "\n")
        output.flush()
    except (OSError, ValueError):
        # A full disk or a closed pipe, which cannot be reported.
        return


def _log_line(line: str) -> None:
    _workers_log.info("{line}", line=line)


def _observer(log: Log, output: Output) -> LevelFilter:
    return observer_of(output, log.format, log.level, log.lines_per_s)


def _print_error(message: str) -> None:
    print_error(_NAME, message)


def _lines(message: str) -> str:
    return lines_of(_NAME, message)
