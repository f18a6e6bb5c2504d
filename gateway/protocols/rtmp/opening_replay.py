"""The gateway's side toward a server, for a client that it has answered as far as its publish or play.

The handshake is done. The client's bytes are sent up to the end of the first command that clients wait for
an answer to (connect, createStream), then up to the next one when the server has answered, and so on. All
after the last of these commands are the owner's to send, through ``up``, once the replay is ``done``.

A server can refuse: ``refusal`` is its description then. It can also give another message stream than the
client has got from the gateway, and all ids are translated then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, final

from gateway.errors import RTMPError
from gateway.protocols.rtmp.answer_filter import AnswerFilter
from gateway.protocols.rtmp.commands import Command, description_of, stream_number
from gateway.protocols.rtmp.connect_rewriting import ConnectRewriting
from gateway.protocols.rtmp.stream_ids import StreamIdTranslation
from gateway.protocols.rtmp.stream_reader import Answered
from gateway.protocols.rtmp.translations import Translations

# Windows, pings, and the answers to some commands.
_MOST_BYTES: Final = 64 * 1024


@final
class OpeningReplay:
    """``received``: the client's bytes, which may grow. ``rewriting``: of its connect, or None.

    After ``done``, and ``finish``: ``rest`` are the server's bytes for the client, and further ones must
    pass through ``down``.
    """

    __slots__ = (
        *("_answers", "_awaited", "_ids", "_received", "_results", "_rewriting", "_sent_bytes"),
        *("_streams", "done", "down", "refusal", "rest", "up"),
    )

    def __init__(
        self,
        answered: Sequence[Answered],
        received: bytearray,
        rewriting: ConnectRewriting | None = None,
    ) -> None:
        self._received = received
        self._rewriting = rewriting
        self._awaited = deque(each for each in answered if each.is_awaited)
        # Commands that the server has answered.
        self._results: set[Answered] = set()
        # How many of the client's bytes have been sent.
        self._sent_bytes = 0
        # The server's message stream for each of the gateway's.
        self._streams: dict[int, int] = {}
        self._ids = StreamIdTranslation(self._streams)
        self._answers = AnswerFilter(answered)
        self.up = Translations([rewriting, self._ids] if rewriting else [self._ids])
        self.down = Translations([self._answers])
        self.rest = b""
        self.done = False
        # None unless the server has refused.
        self.refusal: str | None = None

    def begin(self, now: float) -> bytes:
        """The first bytes for the server: up to the end of the connect."""
        self._sent_bytes = self._awaited[0].end
        # The first bytes of a rewriting are those behind the connect.
        first = b"" if self._rewriting is not None else self._received[: self._sent_bytes]
        return self.up.translate(bytes(first), now)

    def receive(self, data: bytes, now: float) -> bytes:
        """Process bytes from the server. The returned bytes must be sent to it. Raises RTMPError."""
        self.rest += self.down.translate(data, now)
        results, self._answers.results = self._answers.results, []
        for answered, command in results:
            if answered.is_awaited and not self.done:
                self._note(answered, command)
        if len(self.rest) > _MOST_BYTES:
            raise RTMPError("too many bytes before it answers connect and createStream")
        if self.done or self._awaited[0].end == self._sent_bytes:
            return b""
        return self._part(self._awaited[0].end, now)

    def finish(self, transaction: float, now: float) -> bytes:
        """The replay is done. Returns the client's bytes that follow, which must be sent to the server.

        ``transaction``: of the client's request, which is among them.
        """
        self._answers.pass_on(transaction)
        if all(gateways == servers for gateways, servers in self._streams.items()):
            self._ids.finish()
        else:
            # Of several that the server has given the same id, the client uses the last one.
            back = {servers: gateways for gateways, servers in self._streams.items()}
            ids = StreamIdTranslation(back)
            self.rest = ids.translate(self.rest, now)
            self.down = Translations([self._answers, ids])
        return self._part(len(self._received), now)

    def _part(self, end: int, now: float) -> bytes:
        begin, self._sent_bytes = self._sent_bytes, end
        return self.up.translate(bytes(self._received[begin:end]), now)

    def _note(self, answered: Answered, command: Command) -> None:
        """Process the server's answer to a command that clients wait for."""
        if _is_refusal(command):
            self.refusal = description_of(command)
            self.done = True
            return
        if answered.stream_id:
            given = stream_number(command.argument(0))
            if not given:
                raise RTMPError("an answer to createStream without a stream")
            self._streams[answered.stream_id] = given
        self._results.add(answered)
        while self._awaited and self._awaited[0] in self._results:
            self._awaited.popleft()
        self.done = not self._awaited


def _is_refusal(command: Command) -> bool:
    information = command.argument(0)
    has_error = isinstance(information, dict) and information.get("level") == "error"
    return command.name == "_error" or has_error
