"""The composition root: from twistd's command line to a running gateway, and to its exit status.

The only file that names the reactor, and it does so inside a function: twistd imports this file
while it still reads its own options, among them ``--reactor``.

An operator who made a mistake gets one line a problem on standard error and a non-zero exit, never
a traceback. Three moments need three ways:

- while options are read, nothing runs yet: ``SystemExit`` with the lines;
- in ``privilegedStartService``, where ports are bound before twistd gives up its user, the error is
  raised: only so does twistd remove its pid file and, as a daemon, tell the waiting shell;
- once the reactor runs, twistd leaves no way to return a status (it catches all that ``run`` raises,
  then ends with 0), so the reactor is stopped, twistd tidies up, and the exit status is set last.
"""

from __future__ import annotations

import atexit
import gc
import os
import platform
import ssl
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM, signal
from time import monotonic, time
from typing import Any, ClassVar

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads
from twisted.logger import ILogObserver, Logger
from twisted.python import usage
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile

from gateway.configuration import loading
from gateway.configuration.sections import Config, Log
from gateway.errors import ConfigurationError, GatewayError
from gateway.logs import debugging
from gateway.telemetry.levels import Threshold
from gateway.telemetry.lines import make_observer
from gateway.telemetry.unraisable import unraisable
from gateway.telemetry.versions import version_of
from gateway.workers import configured_files, proxy_loops
from gateway.workers.worker import Worker

# What can go wrong outside of this program: its text says it all, and a traceback would hide it.
_EXPECTED = (GatewayError, CannotListenError, OSError)

_CHECK = (
    "Say whether the configuration and the files that it names are valid, and end. Hosts' names and "
    "whether ports are free are tried at the start only."
)


class Options(usage.Options):
    """``twistd rtmpt-gateway``'s own options; ``configuration`` holds what they came to."""

    synopsis = "[--config FILE | [--listen ADDRESS]... [--upstream SERVER]...] [--check]"
    longdesc = (
        "Puts RTMPT, RTMPTS, RTMPS and RTMP in front of RTMP servers. Either a file says it all, or "
        "--listen and --upstream do. An ADDRESS is 127.0.0.1:80, [::]:80, unix:/PATH or "
        "systemd:NAME; a SERVER is HOST or HOST:PORT, and several stand in for each other. Without "
        "a server the embedded origin serves: a small live relay, to publish and play at once."
    )
    optFlags: ClassVar[list[list[str | None]]] = [["check", None, _CHECK]]
    optParameters: ClassVar[list[list[str | None]]] = [
        ["config", "c", None, "Read this configuration (TOML)."]
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.listen: list[str] = []
        self.upstream: list[str] = []
        self.configuration = Config()

    def opt_version(self) -> None:
        """Print the versions of the gateway and of what it runs on, and end."""
        print(", ".join(f"{name} {version_of(name)}" for name in ("rtmpt-gateway", "Twisted")))
        raise SystemExit(0)

    def opt_listen(self, address: str) -> None:
        """Take clients on this address; may be repeated. [default: 127.0.0.1:8080]"""
        self.listen.append(address)

    def opt_upstream(self, server: str) -> None:
        """Relay to this RTMP server; may be repeated. [default: the embedded origin]"""
        self.upstream.append(server)

    def parseOptions(self, options: Any = None) -> None:
        """As the base class, but an error is one line and not a page of usage."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            raise SystemExit(_lines(f"{error}; see twistd rtmpt-gateway --help")) from None

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"unexpected {words[0]!r}: everything is said by options")

    def postOptions(self) -> None:
        try:
            self.configuration = self._read()
            proxy_loops.check(self.configuration)
            configured_files.check(self.configuration, time())
        except ConfigurationError as error:
            raise SystemExit(_lines(str(error))) from None
        if self["check"]:
            for warning in configured_files.warnings(self.configuration):
                print(_lines(f"warning: {warning}"), file=sys.stderr)
            print(f"{self['config'] or 'command line'}: configuration is valid")
            raise SystemExit(0)

    def _read(self) -> Config:
        if self["config"] is None:
            return loading.from_options(self.listen, self.upstream)
        if self.listen or self.upstream:
            raise usage.UsageError("--config says it all: leave out --listen and --upstream")
        return loading.from_file(Path(self["config"]))


class GatewayService(service.Service):
    """The gateway as twistd starts and stops it."""

    _log = Logger()

    def __init__(
        self,
        configuration: Config,
        reactor: IReactorCore,
        exit_with: Callable[[int], None],
        observer: Threshold | None = None,
    ) -> None:
        self._observer = observer
        self._configuration = configuration
        self._reactor = reactor
        self._worker = Worker(configuration, reactor, dict(os.environ), observer)
        self._exit_with = exit_with

    def setServiceParent(self, parent: Any) -> None:
        """Become part of twistd's application, which is where it looks for a log observer."""
        if self._observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Bind every listening socket, while twistd may still be root."""
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
            # twistd lets the interpreter print what is raised here, which would be said twice.
            sys.excepthook = lambda *_: None
            raise GatewayError(str(error)) from None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        # In the handler itself anything could be half done; the reactor finds a better moment.
        later = IReactorFromThreads(self._reactor).callFromThread
        signal(SIGHUP, lambda *_: later(self.reload))
        # Not before the reactor runs: a reactor that does not run yet cannot be stopped.
        self._reactor.callWhenRunning(self._begin)

    def reload(self) -> None:
        """What SIGHUP asks for: take what has been replaced outside; a bad certificate changes nothing."""
        try:
            done = " and ".join(self._worker.reload()) or "nothing"
        except _EXPECTED as error:
            faults = "; ".join(str(error).splitlines())
            self._log.error("the old certificates stay in use: {faults}", faults=faults)
        else:
            self._log.info("reloaded {done}; all else takes a restart", done=done)

    def _begin(self) -> None:
        Deferred.fromCoroutine(self._start()).addErrback(self._fail)

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        later = IReactorFromThreads(self._reactor).callFromThread
        # The reactor's own handlers would only say that it is stopping already.
        for number in (SIGTERM, SIGINT):
            signal(number, lambda *_: later(self._worker.hurry))
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        await self._worker.stop()
        self._log.info("stopped")

    def _bind(self) -> None:
        """Open the listening sockets; raises GatewayError."""
        self._worker.bind()

    async def _start(self) -> None:
        """Let clients in; whatever it raises ends twistd."""
        await self._worker.start()
        # What is there now stays: without this, the collector would look at all of it each time, for some
        # 11 ms in which nothing moves.
        gc.collect()
        gc.freeze()

    def _refuse_to_start(self, message: str) -> None:
        """Say it in the log and on standard error, once where both are one."""
        for line in message.splitlines():
            self._log.critical("cannot start: {line}", line=line)
        if not self._log_is_standard_error():
            _say(message)

    def _log_is_standard_error(self) -> bool:
        observer = self._observer
        return observer is not None and observer.is_on_output and _is_one_output()

    def _fail(self, failure: Failure) -> None:
        """End twistd with status 1: the gateway cannot do what it was started for."""
        if failure.check(*_EXPECTED):
            self._refuse_to_start(failure.getErrorMessage())
        else:
            self._log.failure("cannot start", failure=failure)
            _say(f"cannot start: {failure.value!r}; see the log")
        self._exit_with(1)
        self._reactor.stop()


def makeService(options: Options) -> service.IService:
    """What twistd runs: a gateway that does as the options say."""
    from twisted.internet import reactor

    unraisable.install()
    debugging.enabled = options.configuration.log.level == "debug"
    observer = _observer(options.configuration.log, options.parent)
    return GatewayService(options.configuration, IReactorCore(reactor), exit_with, observer)


def _observer(log: Log, twistd: Mapping[str, Any] | None) -> Threshold | None:
    """The observer of log events; None where twistd's options name one, or syslog."""
    if twistd is None or twistd.get("logger") or twistd.get("syslog"):
        return None
    name = twistd.get("logfile")
    if name == "-" or (not name and twistd.get("nodaemon")):
        # By and by twistd puts its log in the place of ``sys.stdout``.
        lines = make_observer(log.format, sys.stdout, log.lines_per_s, monotonic, _is_journal())
        return Threshold(lines, log.level, is_on_output=True)
    file = LogFile.fromFullPath(name or "twistd.log")
    return Threshold(make_observer(log.format, file, log.lines_per_s, monotonic), log.level)


def _is_one_output() -> bool:
    """Whether standard output and standard error are the same file, terminal or socket."""
    try:
        output, error = os.fstat(1), os.fstat(2)
    except OSError:
        return False
    return (output.st_dev, output.st_ino) == (error.st_dev, error.st_ino)


def _is_journal() -> bool:
    """Whether standard output goes to journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(1)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def exit_with(status: int) -> None:
    """Have this process end with the status, when twistd has ended as if all were well.

    ``atexit`` runs its last entry first, so what others registered is skipped; twistd's log is
    written through at every line and loses nothing by that.
    """
    atexit.register(_exit, status)


def _exit(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _say(message: str) -> None:
    """To the real standard error: twistd has put its log in the place of ``sys.stderr``."""
    if sys.__stderr__ is not None:
        print(_lines(message), file=sys.__stderr__, flush=True)


def _lines(message: str) -> str:
    return "\n".join(f"rtmpt-gateway: {line}" for line in message.splitlines())
