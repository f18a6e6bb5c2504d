"""RTMPE toward a server: plain on the session's side, encrypted on the server's.

    session                           gateway                           server
                                        C0 C1 of RTMPE  ─────────────────→
                                        ←───────────────  S0 S1 S2 of RTMPE
                                        C2 of RTMPE  ────────────────────→     is_ready
      C0 C1  ──────────────────────────→
      ←───────────────────────  S0 S1 S2
      C2, data  ───────────────────────→  encrypted data  ───────────────→

The counterpart of ``termination``. Rules:

- The session gets the gateway's own handshake, with Flash's digests if its client has one.
- What the server sends before the session has S2 is kept, up to a limit.
- Data is encrypted and decrypted as it comes. It is not delayed, and keeps its size.
- Malformed handshakes raise RTMPError. The deadline for ``is_ready`` is the caller's.
"""

from __future__ import annotations

from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.digest import ANSWER_RANDOM_BYTES
from gateway.protocols.rtmp.digest_handshake import DigestServerHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES as PLAIN_RANDOM_BYTES
from gateway.protocols.rtmp.rtmpe import RANDOM_BYTES as ENCRYPTED_RANDOM_BYTES
from gateway.protocols.rtmp.rtmpe_client import RTMPEClientHandshake
from gateway.protocols.rtmp.rtmpe_keys import Ciphers

# What one initiation needs.
RANDOM_BYTES: Final = PLAIN_RANDOM_BYTES + ANSWER_RANDOM_BYTES + ENCRYPTED_RANDOM_BYTES
# Servers send a few control messages at most before a connect.
_EARLY_BYTES: Final = 4096


@final
class RTMPEInitiation:
    """The initiation of one connection. ``time_ms`` is any clock; ``random`` must be secret.

    ``hello`` must be sent to the server first.
    """

    __slots__ = ("_ciphers", "_early", "_is_answered", "_server", "_session")

    def __init__(self, time_ms: int, random: bytes) -> None:
        for_block, rest = random[:PLAIN_RANDOM_BYTES], random[PLAIN_RANDOM_BYTES:]
        for_answer, rest = rest[:ANSWER_RANDOM_BYTES], rest[ANSWER_RANDOM_BYTES:]
        self._session: DigestServerHandshake | None = DigestServerHandshake(
            time_ms, for_block, for_answer
        )
        self._server = RTMPEClientHandshake(time_ms, rest)
        self._ciphers: Ciphers | None = None
        self._is_answered = False
        # Decrypted data of the server that the session cannot get yet.
        self._early = b""

    @property
    def hello(self) -> bytes:
        """C0 and C1 of RTMPE."""
        return self._server.hello

    @property
    def is_ready(self) -> bool:
        """Whether the server's handshake is complete, and the session's can begin."""
        return self._ciphers is not None

    def shake_hands(self, data: bytes) -> bytes:
        """Process bytes from the server until ``is_ready``. Returns those for the server."""
        answer = self._server.receive(data)
        ciphers = self._server.ciphers
        if ciphers is not None:
            self._keep(ciphers.received.update(self._server.rest))
            self._ciphers = ciphers
        return answer

    def down(self, data: bytes) -> bytes:
        """Process bytes from the server. Returns those for the session."""
        data = self._ready.received.update(data)
        if self._is_answered:
            return data
        self._keep(data)
        return b""

    def up(self, data: bytes) -> tuple[bytes, bytes]:
        """Process bytes from the session. Returns those for the server, and those for the session."""
        if self._session is None:
            return self._ready.sent.update(data), b""
        answer = self._session.receive(data)
        if answer:
            self._is_answered = True
            answer, self._early = answer + self._early, b""
        data = b""
        if self._session.done:
            data = self._ready.sent.update(self._session.rest)
            self._session = None
        return data, answer

    @property
    def _ready(self) -> Ciphers:
        assert self._ciphers is not None
        return self._ciphers

    def _keep(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _EARLY_BYTES:
            raise RTMPError("the server sends too much before the client's handshake")
