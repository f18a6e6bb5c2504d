"""A media server that begins to fail, with all of its connections, and works again.

``FaultyServer`` is the test's side. As a program, ``python -m tests.helpers.interop.faulty FILE``, it
relays connections to a server, and reads from ``FILE`` that server's port, and how it fails:

    says nothing   connections are accepted, and no byte passes; those that live go on after the fault
    is slow        every byte is delayed by ``SLOW_S``
    resets         connections are reset at their next byte, new ones at their first
    closes         the same, with FIN

It is a process of its own, so that its work does not delay the thread that measures sessions.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final, final

from tests.helpers.interop.programs import Program, Programs
from tests.helpers.interop.servers import LOOPBACK, ROOT, port_said

SLOW_S: Final = 1.0
_LOOK_S = 0.02
_READ_BYTES = 64 * 1024
_LINGER_NOT = struct.pack("ii", 1, 0)


@final
class FaultyServer:
    """In front of the server on ``server_port``. ``port``: its own. ``start``: starts a program, by default
    as those of ``programs``.
    """

    def __init__(
        self,
        programs: Programs,
        server_port: int,
        start: Callable[..., Program] | None = None,
    ) -> None:
        self._file = programs.new_folder("faulty") / "state.json"
        self._numbers = count()
        self._write("", server_port)
        start = start or partial(programs.start, environment={"PYTHONPATH": str(ROOT)})
        self._program = start(sys.executable, "-m", "tests.helpers.interop.faulty", str(self._file))
        self.port = port_said(self._program, "listening on ")

    def set(self, fault: str, server_port: int) -> None:
        """Fail like this from now on, or work ("")."""
        number = self._write(fault, server_port)
        self._program.says(f"state {number} ")

    def _write(self, fault: str, server_port: int) -> int:
        number = next(self._numbers)
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps([number, fault, server_port]))
        new.rename(self._file)
        return number


@final
class _Relay:
    """All connections. ``_speaks`` is not set while the fault is "says nothing"."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._number, self._fault, self._server_port = -1, "", 0
        self._speaks = asyncio.Event()

    async def run(self) -> None:
        self._look()
        server = await asyncio.start_server(self._relay, LOOPBACK, 0)
        print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look()

    def _look(self) -> None:
        number, fault, server_port = json.loads(self._file.read_text())
        if number == self._number:
            return
        self._number, self._fault, self._server_port = number, fault, server_port
        print(f"state {number} is in use", flush=True)
        if self._fault == "says nothing":
            self._speaks.clear()
        else:
            self._speaks.set()

    async def _relay(self, client: StreamReader, to_client: StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(LOOPBACK, self._server_port)
        ways = [
            asyncio.ensure_future(self._pass(client, to_server)),
            asyncio.ensure_future(self._pass(server, to_client)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        if self._fault == "resets":
            connection: socket.socket = to_client.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        to_client.close()
        to_server.close()

    async def _pass(self, source: StreamReader, to: StreamWriter) -> None:
        """Pass bytes on until one of the connections ends, or a fault ends them."""
        with suppress(ConnectionError):
            while data := await source.read(_READ_BYTES):
                if self._fault in ("resets", "closes"):
                    return
                if self._fault == "is slow":
                    await asyncio.sleep(SLOW_S)
                await self._speaks.wait()
                to.write(data)
                await to.drain()


if __name__ == "__main__":
    asyncio.run(_Relay(Path(sys.argv[1])).run())
