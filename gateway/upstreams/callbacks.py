"""HTTP callbacks that decide on a client's connect, publish and play, and that learn of the end of streams.

The parameters are those of nginx-rtmp's ``on_connect``, ``on_publish``, ``on_play`` and ``on_done``: call,
addr, clientid, app, flashver, swfurl, tcurl, pageurl, name, and the arguments in the stream's name. An
argument with the name of a parameter is left out: most programs would use it in place of the parameter. The
caller gives the parameters of done, which has no fields of the client.

An answer 2xx allows, 3xx with a Location allows the stream under that name, and any other refuses. If a
callback cannot be reached or is late, the configuration decides.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from io import BytesIO
from typing import Any, Final, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from attrs import frozen
from OpenSSL.SSL import Error as SSLError
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http_headers import Headers

from gateway.logs import repeated
from gateway.protocols.access import ALLOWED, AccessRequest, Action, Verdict, Visitor

_log = Logger()

# The client's fields of the request that opened its session, which the callback's request gets too.
_PASSED_FIELDS: Final = (b"user-agent", b"referer", b"origin", b"cookie", b"authorization")
# Further calls fail. Each takes about 50 kB while it lasts.
_MOST_CALLS: Final = 1000
_MOST_ARGUMENTS: Final = 100
_SHOWN_CHARACTERS: Final = 80
_REPLACEMENT_CHARACTER: Final = "\ufffd"
_FAILURES: Final = (
    *(ConnectError, DNSLookupError, SSLError),
    *(RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived),
)
_REFUSED: Final = Verdict("refused by the server's rules")
_UNDECIDED: Final = Verdict("it cannot be checked now; try again later")


@frozen
class CallbackSettings:
    """``urls``: by action, and "done". ``method``: of the requests, "post" or "get". ``allows_on_failure``:
    whether a callback that fails allows.
    """

    urls: Mapping[str, str]
    method: str = "post"
    timeout_s: float = 2.0
    allows_on_failure: bool = False


class _CallFailedError(Exception):
    """A callback gave no answer. The message has the cause."""


@final
class Callbacks:
    """``reactor`` is Twisted's. ``results``: the numbers of calls by callback and result."""

    def __init__(self, reactor: Any, settings: CallbackSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        # A kept connection may have been closed by the server when it is used, and a POST is not repeated.
        pool = HTTPConnectionPool(reactor, persistent=False)
        self._agent = Agent(reactor, connectTimeout=settings.timeout_s, pool=pool)
        self._calls: set[Deferred[Any]] = set()
        self.results: dict[tuple[str, str], int] = {
            (callback, result): 0
            for callback in settings.urls
            for result in ("allowed", "refused", "failed")
        }

    def judge(self, request: AccessRequest, visitor: Visitor) -> Verdict | Deferred[Verdict]:
        """The decision on ``request``; at once if no callback is configured for it."""
        callback = request.action.value
        if callback not in self._settings.urls:
            return ALLOWED
        parameters = _parameters(request, visitor)
        arguments = [*parameters.items(), *_other_arguments(request.query, parameters)]
        return self._begin(self._decide(request, urlencode(arguments), visitor.fields))

    def tell_done(self, parameters: Mapping[str, str]) -> None:
        """Call the callback "done", if there is one. Its answer has no effect."""
        if "done" in self._settings.urls:
            self._begin(self._report(urlencode(parameters)))

    async def finish(self) -> None:
        """Wait for the calls that have begun. They end within the timeout."""
        await DeferredList(list(self._calls), consumeErrors=True)

    def _begin(self, call: Coroutine[Deferred[Any], Any, Verdict]) -> Deferred[Verdict]:
        deferred = Deferred.fromCoroutine(call)
        if not deferred.called:
            self._calls.add(deferred)
            deferred.addBoth(self._forget, deferred)
        return deferred

    def _forget(self, result: Any, deferred: Deferred[Any]) -> Any:
        self._calls.discard(deferred)
        return result

    async def _decide(self, request: AccessRequest, query: str, fields: Any) -> Verdict:
        callback = request.action.value
        try:
            verdict = _verdict(request, *await self._call(callback, query, fields))
        except _CallFailedError as error:
            self._report_failure(callback, error)
            return ALLOWED if self._settings.allows_on_failure else _UNDECIDED
        self.results[callback, "refused" if verdict.refusal else "allowed"] += 1
        return verdict

    async def _report(self, query: str) -> Verdict:
        try:
            await self._call("done", query, None)
        except _CallFailedError as error:
            self._report_failure("done", error)
        else:
            self.results["done", "allowed"] += 1
        return ALLOWED

    def _report_failure(self, callback: str, error: _CallFailedError) -> None:
        self.results[callback, "failed"] += 1
        repeated.warn(
            _log,
            f"callback {callback}",
            "the callback on_{callback} failed: {url}: {error}",
            callback=callback,
            url=_without_secrets(self._settings.urls[callback]),
            error=str(error),
        )

    async def _call(self, callback: str, query: str, fields: Any) -> tuple[int, str]:
        """The status of the answer, and its Location or empty. Raises _CallFailedError."""
        if len(self._calls) >= _MOST_CALLS:
            raise _CallFailedError(f"over {_MOST_CALLS} calls at the same time")
        request = self._request(callback, query, fields)
        timeout = self._reactor.callLater(self._settings.timeout_s, request.cancel)
        try:
            response = await request
        except (CancelledError, ConnectingCancelledError):
            if timeout.active():
                # The session has ended.
                raise CancelledError from None
            raise _CallFailedError(f"no answer in {self._settings.timeout_s:g} s") from None
        except _FAILURES as error:
            raise _CallFailedError(_cause_of(error)) from None
        finally:
            if timeout.active():
                timeout.cancel()
        response.deliverBody(_Unread())
        (location,) = response.headers.getRawHeaders(b"location", [b""])[:1]
        return response.code, location.decode("utf-8", "replace")

    def _request(self, callback: str, query: str, fields: Any) -> Deferred[Any]:
        url, headers = self._settings.urls[callback], _headers(fields)
        if self._settings.method == "get":
            return self._agent.request(b"GET", _with_query(url, query).encode(), headers)
        headers.addRawHeader(b"content-type", b"application/x-www-form-urlencoded")
        body = FileBodyProducer(BytesIO(query.encode()))
        return self._agent.request(b"POST", url.encode(), headers, body)


class _Unread(Protocol):
    """The body of an answer, which is not read."""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


def _parameters(request: AccessRequest, visitor: Visitor) -> dict[str, str]:
    parameters = {
        "call": request.action.value,
        "addr": visitor.address,
        "clientid": visitor.alias,
        "app": request.application,
        "flashver": request.flash_version,
        "swfurl": request.swf_url,
        "tcurl": request.tc_url,
        "pageurl": request.page_url,
    }
    if request.action is not Action.CONNECT:
        parameters["name"] = request.name
    return parameters


def _other_arguments(query: str, parameters: Mapping[str, str]) -> list[tuple[str, str]]:
    """The arguments of a stream's name that are no ``parameters``; none if there are too many."""
    try:
        arguments = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_ARGUMENTS)
    except ValueError:
        return []
    return [(name, value) for name, value in arguments if name not in parameters]


def _verdict(request: AccessRequest, status: int, location: str) -> Verdict:
    if 200 <= status < 300:
        return ALLOWED
    if not (300 <= status < 400 and location and request.action is not Action.CONNECT):
        return _REFUSED
    if "://" in location or not location.isprintable() or _REPLACEMENT_CHARACTER in location:
        repeated.warn(
            _log,
            "callback location",
            "a callback sent the Location {location}: expected a stream name",
            location=location[:_SHOWN_CHARACTERS],
        )
        return _REFUSED
    return Verdict(stream=location)


def _headers(fields: Any) -> Headers:
    headers = Headers()
    for name, value in fields.items if fields is not None else ():
        if name in _PASSED_FIELDS:
            headers.addRawHeader(name, value)
    return headers


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    joined = f"{parts.query}&{query}" if parts.query else query
    return urlunsplit(parts._replace(query=joined))


def _without_secrets(url: str) -> str:
    """The URL without its query, which can have a password."""
    return url.partition("?")[0]


def _cause_of(error: Exception) -> str:
    """The first cause that Twisted's error has, in one line."""
    reasons = getattr(error, "reasons", None)
    inner = reasons[0].value if reasons else error
    return " ".join(str(inner).split()) or type(inner).__name__
