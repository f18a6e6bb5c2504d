"""Addresses of a host, IPv4 and IPv6 apart, looked up by the system in threads that end with the process.

The threads are not asyncio's: a look-up cannot be interrupted, and asyncio would wait for its end.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from threading import Thread
from typing import Final

from gateway.port_test.observations import Kind, TrialFailed
from gateway.port_test.ways import Route

_FAMILIES: Final = {
    Route.IPV4: socket.AF_INET,
    Route.IPV6: socket.AF_INET6,
    Route.PROXY: socket.AF_UNSPEC,
}
# The name does not exist, or has no address of the family. All others are failures of the look-up.
_UNKNOWN: Final = frozenset(
    number
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY", "EAI_FAMILY")
    if (number := getattr(socket, name, None)) is not None
)


async def look_up(host: str, route: Route) -> str:
    """The first address of ``host`` for the route: for a proxy, of either family. Raises TrialFailed.

    The caller limits the time.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def end(address: str, failure: TrialFailed | None) -> None:
        if found.done():
            return
        if failure is None:
            found.set_result(address)
        else:
            found.set_exception(failure)

    def work() -> None:
        address, failure = _first_address(host, _FAMILIES[route])
        # The loop may be closed by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(end, address, failure)

    Thread(target=work, daemon=True).start()
    return await found


def _first_address(host: str, family: int) -> tuple[str, TrialFailed | None]:
    try:
        answers = socket.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        kind = Kind.UNKNOWN_NAME if error.errno in _UNKNOWN else Kind.NO_NAME_SERVER
        return "", TrialFailed(kind, str(error.strerror))
    except (OSError, UnicodeError) as error:
        return "", TrialFailed(Kind.UNKNOWN_NAME, str(error))
    return str(answers[0][4][0]), None
