"""RTMPE that ends at the gateway: encrypted on the client's connection, plain on the server's.

    client                           gateway                           server
      C0 C1 of RTMPE  ─────────────────→  C0 C1  ────────────────────────→
                                          ←─────────────────────  S0 S1 S2
      ←──────────────  S0 S1 S2 of RTMPE  C2  ───────────────────────────→
      C2 of RTMPE  ────────────────────→
      encrypted data  ─────────────────→  data  ─────────────────────────→

Rules:

- The bytes of a client that does not begin with a version of RTMPE are not changed (``is_plain``).
- The client gets its answer after the server's, so nothing has to be stored for a server that is silent.
- Data is decrypted and encrypted as it comes. It is not delayed, and keeps its size.
- Malformed handshakes raise RTMPError. The deadline for ``is_complete`` is the caller's.
"""

from __future__ import annotations

from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.handshake import BLOCK_BYTES, ClientHandshake
from gateway.protocols.rtmp.handshake import RANDOM_BYTES as PLAIN_RANDOM_BYTES
from gateway.protocols.rtmp.rtmpe import RANDOM_BYTES as ENCRYPTED_RANDOM_BYTES
from gateway.protocols.rtmp.rtmpe import Answer, answer
from gateway.protocols.rtmp.rtmpe_keys import VERSIONS

# What one termination needs.
RANDOM_BYTES: Final = PLAIN_RANDOM_BYTES + ENCRYPTED_RANDOM_BYTES
_HELLO_BYTES: Final = 1 + BLOCK_BYTES


@final
class RTMPETermination:
    """The termination of one connection. ``time_ms`` is any clock; ``random`` must be secret.

    ``is_plain``: the client does not use RTMPE. Its bytes need not pass through here from then on.
    """

    __slots__ = ("_answer", "_c2_left", "_hello", "_random", "_server", "_time_ms", "is_plain")

    def __init__(self, time_ms: int, random: bytes) -> None:
        self._time_ms = time_ms
        self._random = random[PLAIN_RANDOM_BYTES:]
        self._server = ClientHandshake(time_ms, random[:PLAIN_RANDOM_BYTES])
        # C0 and C1, as far as they have been received.
        self._hello = b""
        self._answer: Answer | None = None
        self._c2_left = BLOCK_BYTES
        self.is_plain = False

    @property
    def is_complete(self) -> bool:
        """Whether both handshakes are complete."""
        return not self._c2_left

    def up(self, data: bytes) -> bytes:
        """Process bytes from the client. Returns those for the server."""
        if self.is_plain:
            return data
        if self._answer is None:
            return self._begin(data)
        if not self._server.done:
            raise RTMPError("RTMPE client sends data before S1")
        skipped = min(len(data), self._c2_left)
        self._c2_left -= skipped
        return self._answer.ciphers.received.update(data[skipped:])

    def down(self, data: bytes) -> tuple[bytes, bytes]:
        """Process bytes from the server. Returns those for the client, and those for the server."""
        if self._answer is None:
            return data, b""
        if self._server.done:
            return self._answer.ciphers.sent.update(data), b""
        return self._answer_as_server(self._answer, data)

    def _answer_as_server(self, answer: Answer, data: bytes) -> tuple[bytes, bytes]:
        c2 = self._server.receive(data)
        if not self._server.done:
            return b"", c2
        return answer.data + answer.ciphers.sent.update(self._server.rest), c2

    def _begin(self, data: bytes) -> bytes:
        hello = self._hello = self._hello + data
        if hello and hello[0] not in VERSIONS:
            self.is_plain = True
            return hello
        if len(hello) > _HELLO_BYTES:
            raise RTMPError("RTMPE client sends data before S1")
        if len(hello) < _HELLO_BYTES:
            return b""
        self._answer = answer(hello[0], hello[1:], self._time_ms, self._random)
        self._hello = self._random = b""
        return self._server.hello
