"""The client's side of a check of a server: the handshake, and a connect to an application if there is one.

Nothing is sent behind them, so the server has no stream of the check.
"""

from __future__ import annotations

from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.amf import Value
from gateway.protocols.rtmp.chunk_writer import ChunkWriter
from gateway.protocols.rtmp.chunks import ChunkLimits, ChunkReader
from gateway.protocols.rtmp.commands import COMMAND_BYTES, Command, description_of, read_command
from gateway.protocols.rtmp.handshake import RANDOM_BYTES, ClientHandshake

_CONNECT: Final = 1.0
_LIMITS: Final = ChunkLimits(message_bytes=COMMAND_BYTES, assembling_bytes=2 * COMMAND_BYTES)
# Some servers accept encoders that they know only.
_FLASH_VERSION: Final = "FMLE/3.0 (compatible; FMSc/1.0)"


@final
class ServerCheck:
    """``application``: "" for the handshake alone. ``server_url``: of the server, without application.

    ``hello`` must be sent first, then what ``receive`` returns, until it is ``done``.
    """

    def __init__(self, application: str, server_url: str) -> None:
        self._application = application
        self._server_url = server_url
        # Bytes that may be anything (the RTMP specification, 5.2).
        self._handshake = ClientHandshake(0, bytes(RANDOM_BYTES))
        self._reader = ChunkReader(_LIMITS)
        self.hello = self._handshake.hello
        self.done = False

    @property
    def awaited(self) -> str:
        """What the server has to answer."""
        return "the connect" if self._handshake.done else "the handshake"

    def receive(self, data: bytes) -> bytes:
        """Process the server's bytes. Raises RTMPError with the cause if the check has failed."""
        if not self._handshake.done:
            return self._shake_hands(data)
        self._read(data)
        return b""

    def _shake_hands(self, data: bytes) -> bytes:
        try:
            answer = self._handshake.receive(data)
        except RTMPError:
            raise RTMPError("its answer is not an RTMP handshake") from None
        if not self._application:
            self.done = self._handshake.done
            return b""
        if not self._handshake.done:
            return answer
        self._read(self._handshake.rest)
        return answer + self._connect()

    def _connect(self) -> bytes:
        request: Value = {
            "app": self._application,
            "type": "nonprivate",
            "flashVer": _FLASH_VERSION,
            "tcUrl": f"{self._server_url}/{self._application}",
        }
        return ChunkWriter().write(Command("connect", _CONNECT, request).message())

    def _read(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            command = read_command(message)
            if command is None or command.transaction != _CONNECT:
                continue
            if command.name == "_error":
                cause = description_of(command)
                raise RTMPError(f"it refuses the application {self._application}: {cause}")
            self.done = self.done or command.name == "_result"
