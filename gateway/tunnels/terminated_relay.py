"""The termination of RTMPE for a relay: passes on the data of both connections, decrypted or encrypted."""

from __future__ import annotations

from typing import Protocol, final

from twisted.logger import Logger

from gateway.errors import RTMPError
from gateway.logs import debugging
from gateway.protocols.reasons import EndReason
from gateway.protocols.rtmp.termination import RTMPETermination
from gateway.tunnels.relay_connection import RelayConnection

_log = Logger()


class Terminated(Protocol):
    """The part of the relay that is used here."""

    alias: str
    is_read: bool
    client: RelayConnection
    upstream: RelayConnection

    # Set to None for a client that does not use RTMPE.
    termination: RelayTermination | None

    def checked(self, side: RelayConnection, data: bytes) -> bytes:
        """The bytes to pass on of those read from ``side``."""

    def read(self, side: RelayConnection, data: bytes) -> None:
        """Data of ``side`` for the readers. Called while ``is_read`` is set."""

    def send_up(self, data: bytes) -> None:
        """Check bytes of the client, and write those that pass."""

    def end(self, reason: EndReason) -> None:
        """End the relay."""


@final
class RelayTermination:
    """The termination of RTMPE for one relay."""

    __slots__ = ("_relay", "_rtmpe")

    def __init__(self, relay: Terminated, rtmpe: RTMPETermination) -> None:
        self._relay = relay
        self._rtmpe = rtmpe

    @property
    def is_complete(self) -> bool:
        """Whether the handshake is complete."""
        return self._rtmpe.is_complete

    def pass_on(self, side: RelayConnection, data: bytes) -> None:
        """Pass on ``data`` read from ``side``. The relay may have ended then."""
        try:
            if side is self._relay.client:
                self._pass_up(data)
            else:
                self._pass_down(data)
        except RTMPError as error:
            if debugging.enabled:
                _log.debug("relay {alias}: {cause}", alias=self._relay.alias, cause=error)
            self._relay.end(EndReason.BAD_HANDSHAKE)

    def encrypted(self, answer: bytes) -> bytes:
        """An answer of the gateway's own, as the client reads it."""
        return self._rtmpe.down(answer)[0]

    def _pass_up(self, data: bytes) -> None:
        self._relay.send_up(self._rtmpe.up(data))
        if self._rtmpe.is_plain:
            self._relay.termination = None

    def _pass_down(self, data: bytes) -> None:
        relay = self._relay
        data = relay.checked(relay.upstream, data)
        if relay.is_read:
            relay.read(relay.upstream, data)
        down, up = self._rtmpe.down(data)
        relay.send_up(up)
        if down:
            relay.client.transport.write(down)
