"""The endpoints of the admin server: a table of paths and methods, and their handlers.

A handler calls the gateway and creates a response. Invalid requests raise problems (problems.py).
openapi.py describes the same table.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, final
from urllib.parse import unquote_to_bytes

from attrs import frozen

from gateway.admin.http.problems import CannotReload, NotSupported, UnknownResource, WrongMethod
from gateway.admin.http.responses import EVENTS, TEXT, Response, json_list, json_response
from gateway.admin.resources.event_streams import EventStreams, detail, mirror_of, row, server_of
from gateway.admin.resources.gateway_interface import Gateway
from gateway.admin.resources.openapi import document
from gateway.admin.resources.queries import (
    METRIC_PARAMETERS,
    SESSION_PARAMETERS,
    parse_level,
    parse_query,
    session_filter,
    session_query,
)
from gateway.admin.status_page.page import Page
from gateway.errors import GatewayError
from gateway.telemetry.exposition.text import Writer, cheaper, exposition

LEVELS: Final = ("debug", "info", "warn", "error", "critical")
# The form of tunnels/ids.py, and longer: aliases are looked up, and never parsed.
_ALIAS: Final = re.compile(r"[A-Za-z0-9_-]{1,31}")
# As in the configuration: perhaps a scheme, a name or an address, and a port.
_SERVER: Final = re.compile(r"([a-z]{1,6}://)?[A-Za-z0-9._:\[\]-]{1,300}")


@frozen
class Call:
    """A permitted request. ``query``: the part after the ``?``."""

    method: str
    path: str
    query: bytes = b""
    body: bytes = b""
    accept: str = ""
    # The variable part of a path: a session's alias, or a server's name.
    alias: str = ""


Handler = Callable[["Endpoints", Call], Awaitable[Response]]


@final
class Endpoints:
    """``page``: the status page at ``/``."""

    def __init__(self, gateway: Gateway, watching: EventStreams, page: Page) -> None:
        self._gateway = gateway
        self._watching = watching
        self._page = page

    async def answer(self, call: Call) -> Response:
        """The response to a call. Raises Problem."""
        methods, alias = _find(call.path)
        handler = methods.get("GET" if call.method == "HEAD" else call.method)
        if handler is None:
            raise WrongMethod(f"{call.path} has {_allow(methods)}", Allow=_allow(methods))
        return await handler(
            self, Call(call.method, call.path, call.query, call.body, call.accept, alias)
        )

    async def show_page(self, call: Call) -> Response:
        parse_query(call.query, ())
        return self._page.answer

    async def show_health(self, call: Call) -> Response:
        parse_query(call.query, ())
        return Response(200, TEXT, b"ok\n")

    async def show_readiness(self, call: Call) -> Response:
        parse_query(call.query, ())
        cause = await self._unready()
        return Response(503 if cause else 200, TEXT, f"{cause or 'ready'}\n".encode())

    async def show_metrics(self, call: Call) -> Response:
        parse_query(call.query, ())
        families = await self._gateway.families()
        pieces = _later(exposition(families, call.accept))
        return Response(200, Writer(call.accept).content_type, pieces)

    async def show_session_metrics(self, call: Call) -> Response:
        wanted = session_filter(parse_query(call.query, METRIC_PARAMETERS))
        accept = cheaper(call.accept)
        pieces = self._gateway.session_metrics(accept, wanted)
        return Response(200, Writer(accept).content_type, pieces)

    async def list_sessions(self, call: Call) -> Response:
        query = session_query(parse_query(call.query, SESSION_PARAMETERS))
        selection = await self._gateway.sessions(query)
        busy_share = await self._gateway.busy_share()
        rows = (row(summary, busy_share) for summary in selection.sessions)
        before = {"matching": selection.matching, "causes": selection.causes}
        return Response(200, "application/json", json_list(before, "sessions", rows))

    async def show_session(self, call: Call) -> Response:
        parse_query(call.query, ())
        summary = await self._gateway.session(call.alias)
        if summary is None:
            raise UnknownResource
        return json_response(detail(summary, await self._gateway.busy_share()))

    async def show_history(self, call: Call) -> Response:
        parse_query(call.query, ())
        found = await self._gateway.history(call.alias)
        if found is None:
            raise UnknownResource
        return json_response(found)

    async def end_session(self, call: Call) -> Response:
        parse_query(call.query, ())
        if not await self._gateway.end_session(call.alias):
            raise UnknownResource
        return Response(204)

    async def list_upstreams(self, call: Call) -> Response:
        parse_query(call.query, ())
        found = [server_of(health) for health in await self._gateway.upstreams()]
        return json_response({"upstreams": found})

    async def list_mirrors(self, call: Call) -> Response:
        parse_query(call.query, ())
        found = [mirror_of(mirror) for mirror in await self._gateway.mirrors()]
        return json_response({"mirrors": found})

    async def begin_upstream_drain(self, call: Call) -> Response:
        return await self._change_server(call, partial(self._gateway.drain_upstream, on=True))

    async def end_upstream_drain(self, call: Call) -> Response:
        return await self._change_server(call, partial(self._gateway.drain_upstream, on=False))

    async def set_upstream_down(self, call: Call) -> Response:
        return await self._change_server(call, self._gateway.down_upstream)

    async def set_upstream_up(self, call: Call) -> Response:
        return await self._change_server(call, self._gateway.up_upstream)

    async def _change_server(
        self, call: Call, change: Callable[[str], Awaitable[bool]]
    ) -> Response:
        """Change the server that the path names, and list all."""
        parse_query(call.query, ())
        if not await change(call.alias):
            raise UnknownResource
        return await self.list_upstreams(call)

    async def show_drain(self, call: Call) -> Response:
        parse_query(call.query, ())
        draining = await self._gateway.is_draining()
        return json_response({"draining": draining})

    async def begin_drain(self, call: Call) -> Response:
        parse_query(call.query, ())
        await self._gateway.drain(True)
        return await self.show_drain(call)

    async def end_drain(self, call: Call) -> Response:
        parse_query(call.query, ())
        await self._gateway.drain(False)
        return await self.show_drain(call)

    async def reload(self, call: Call) -> Response:
        parse_query(call.query, ())
        try:
            return json_response({"reloaded": await self._gateway.reload()})
        except (GatewayError, OSError) as error:
            raise CannotReload(str(error)) from None

    async def show_log_level(self, call: Call) -> Response:
        parse_query(call.query, ())
        return json_response({"level": await self._own_log_level()})

    async def set_log_level(self, call: Call) -> Response:
        parse_query(call.query, ())
        level = parse_level(call.body, LEVELS)
        await self._own_log_level()
        await self._gateway.set_log_level(level)
        return json_response({"level": level})

    async def watch(self, call: Call) -> Response:
        parameters = parse_query(call.query, (*SESSION_PARAMETERS, "session"))
        alias = parameters.pop("session", "")
        query = session_query(parameters)
        events = self._watching.session(alias) if alias else self._watching.list(query)
        return Response(200, EVENTS, events)

    async def describe(self, call: Call) -> Response:
        parse_query(call.query, ())
        return json_response(document())

    async def _unready(self) -> str:
        if await self._gateway.is_draining():
            return "draining"
        # A server that is due may be up again, which only the next client's connection shows.
        servers = [each for each in await self._gateway.upstreams() if not each.named_only]
        if not any((each.up or each.due) and not each.drained for each in servers):
            return "no upstream is up"
        return ""

    async def _own_log_level(self) -> str:
        level = await self._gateway.log_level()
        if level is None:
            raise NotSupported("twistd's options configure the log; omit --logger and --syslog")
        return level


Methods = Mapping[str, Handler]
ROUTES: Final[Mapping[str, Methods]] = {
    "/": {"GET": Endpoints.show_page},
    "/healthz": {"GET": Endpoints.show_health},
    "/readyz": {"GET": Endpoints.show_readiness},
    "/metrics": {"GET": Endpoints.show_metrics},
    "/metrics/sessions": {"GET": Endpoints.show_session_metrics},
    "/sessions": {"GET": Endpoints.list_sessions},
    "/sessions/{alias}": {"GET": Endpoints.show_session, "DELETE": Endpoints.end_session},
    "/sessions/{alias}/history": {"GET": Endpoints.show_history},
    "/upstreams": {"GET": Endpoints.list_upstreams},
    "/upstreams/{server}/drain": {
        "POST": Endpoints.begin_upstream_drain,
        "DELETE": Endpoints.end_upstream_drain,
    },
    "/upstreams/{server}/down": {"POST": Endpoints.set_upstream_down},
    "/upstreams/{server}/up": {"POST": Endpoints.set_upstream_up},
    "/mirrors": {"GET": Endpoints.list_mirrors},
    "/drain": {
        "GET": Endpoints.show_drain,
        "POST": Endpoints.begin_drain,
        "DELETE": Endpoints.end_drain,
    },
    "/reload": {"POST": Endpoints.reload},
    "/log-level": {"GET": Endpoints.show_log_level, "PUT": Endpoints.set_log_level},
    "/events": {"GET": Endpoints.watch},
    "/openapi.json": {"GET": Endpoints.describe},
}
# The paths with a variable part: what is before it, its name, and the form that it must have.
_VARIABLES: Final = (("/sessions/", "{alias}", _ALIAS), ("/upstreams/", "{server}", _SERVER))


def _find(path: str) -> tuple[Methods, str]:
    """The methods of a path, and its variable part. Raises UnknownResource."""
    for before, name, form in _VARIABLES:
        if path.startswith(before):
            written, slash, rest = path.removeprefix(before).partition("/")
            variable = unquote_to_bytes(written).decode("latin-1")
            route = before + name + slash + rest
            if route not in ROUTES or not form.fullmatch(variable):
                raise UnknownResource
            return ROUTES[route], variable
    if path not in ROUTES or "{" in path:
        raise UnknownResource
    return ROUTES[path], ""


def _allow(methods: Methods) -> str:
    return ", ".join(["GET, HEAD" if method == "GET" else method for method in methods])


async def _later(pieces: Iterator[bytes]) -> Any:
    for piece in pieces:
        yield piece
