"""Cuts a client's HTTP connection at a chosen moment of an exchange.

A relay between client and gateway, which understands just enough HTTP to know where a request or an
answer begins and ends (both sides always send Content-Length). It passes them on whole, notes every
exchange, and when it is armed cuts the first exchange that suits.

Both connections, to the client and to the gateway, are cut in the same way. With ``unnoticed`` the
gateway's connection stays open, as if a NAT router drops its state without a reset.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from enum import Enum
from threading import Lock
from typing import final

from attrs import define, frozen

from tests.helpers.interop.programs import until
from tests.helpers.interop.relay import How, Link, Relay, end

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
# Anywhere inside; the shortest head that is sent here has 80 bytes.
_PART_OF_HEAD_BYTES = 20
# An idle that is not answered after so long is being held.
_HELD_S = 0.02


class Moment(Enum):
    """The moment of an exchange at which it is cut."""

    IN_REQUEST = "in the head of its request"
    HELD = "while its answer is held"
    BEFORE_ANSWER = "when its answer has left, before a byte of it arrives"
    IN_ANSWER_HEAD = "in the head of its answer"
    IN_ANSWER_BODY = "in the body of its answer"
    AFTER_ANSWER = "after its answer, before the next request"


_DURING_ANSWER = {
    Moment.BEFORE_ANSWER,
    Moment.IN_ANSWER_HEAD,
    Moment.IN_ANSWER_BODY,
    Moment.AFTER_ANSWER,
}


@frozen
class Cut:
    """``command`` selects the exchanges to cut, and ``times`` is the number of cuts."""

    moment: Moment
    how: How
    command: bytes = b"idle"
    times: int = 1
    unnoticed: bool = False


@frozen
class Message:
    """A complete request or answer."""

    head: bytes
    body: bytes


@define
class Exchange:
    """``passed``: the whole request has gone on to the gateway. ``arrived`` is the received part of
    the answer's body; None before the client has the whole head.
    """

    command: bytes
    number: int
    request: Message
    passed: bool = False
    cut: bool = False
    arrived: bytes | None = None


@final
class _Messages:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._data = b""

    def receive(self, data: bytes) -> Iterator[Message]:
        self._data += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        before, end_of_head, after = self._data.partition(b"\r\n\r\n")
        if not end_of_head:
            return None
        head = before + end_of_head
        length = int(_CONTENT_LENGTH.findall(head)[0])
        if len(after) < length:
            return None
        self._data = after[length:]
        return Message(head, after[:length])


def _exchange(request: Message) -> Exchange:
    target = request.head.split(b" ", 2)[1]
    words = target.split(b"/")
    return Exchange(words[1], int(words[-1]), request)


@final
class CutLink(Link):
    """One connection of the client, which ``cutter`` can cut."""

    def __init__(self, cutter: Cutter, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self._cutter = cutter
        self._requests = _Messages()
        self._answers = _Messages()
        self._unanswered: list[Exchange] = []
        self._watched: Exchange | None = None

    def from_client(self, data: bytes) -> None:
        for request in self._requests.receive(data):
            exchange = _exchange(request)
            self._cutter.exchanges.append(exchange)
            self._unanswered.append(exchange)
            if self._cutter.takes(Moment.IN_REQUEST, exchange):
                self.server.sendall(request.head[:_PART_OF_HEAD_BYTES])
                self._end(exchange)
            self.server.sendall(request.head + request.body)
            exchange.passed = True
            self._watched = exchange
            self.patience_s = _HELD_S

    def silence(self) -> None:
        exchange, self._watched = self._watched, None
        self.patience_s = None
        if exchange is not None and self._cutter.takes(Moment.HELD, exchange):
            self._end(exchange)

    def from_server(self, data: bytes) -> None:
        for answer in self._answers.receive(data):
            self._watched = None
            exchange = self._unanswered.pop(0)
            moment = self._cutter.takes_answer(exchange, answer)
            if moment is None:
                self.client.sendall(answer.head + answer.body)
                exchange.arrived = answer.body
            else:
                self._cut_answer(moment, exchange, answer)

    def _cut_answer(self, moment: Moment, exchange: Exchange, answer: Message) -> None:
        if moment is Moment.IN_ANSWER_HEAD:
            self.client.sendall(answer.head[:_PART_OF_HEAD_BYTES])
        elif moment is Moment.IN_ANSWER_BODY:
            exchange.arrived = answer.body[: len(answer.body) // 2]
            self.client.sendall(answer.head + exchange.arrived)
        elif moment is Moment.AFTER_ANSWER:
            exchange.arrived = answer.body
            self.client.sendall(answer.head + answer.body)
        self._end(exchange)

    def _end(self, exchange: Exchange) -> None:
        """Cut the connection, and end the thread's loop by the exception of a lost connection."""
        exchange.cut = True
        cut = self._cutter.cut
        if cut.unnoticed:
            self._cutter.kept_open.append(self.server.dup())
        else:
            end(self.server, cut.how)
        end(self.client, cut.how)
        raise ConnectionAbortedError


@final
class Cutter:
    """``exchanges`` are all exchanges, in the order of their beginning."""

    def __init__(self, gateway_port: int, cut: Cut) -> None:
        self.cut = cut
        self.exchanges: list[Exchange] = []
        self.kept_open: list[socket.socket] = []
        self._left = 0
        self._lock = Lock()
        self._relay = Relay(gateway_port, lambda client, server: CutLink(self, client, server))
        self.port = self._relay.port

    def arm(self) -> None:
        """Cut from now on."""
        self._left = self.cut.times

    def has_cut(self) -> None:
        """Wait until all requested cuts are done."""
        until(
            lambda: sum(exchange.cut for exchange in self.exchanges) == self.cut.times,
            f"{self.cut} happens",
        )

    def takes(self, moment: Moment, exchange: Exchange) -> bool:
        """Whether to cut ``exchange`` at this ``moment``; if so, one of the ``times`` is used up."""
        with self._lock:
            suits = moment is self.cut.moment and exchange.command == self.cut.command
            if not (suits and self._left):
                return False
            self._left -= 1
            return True

    def takes_answer(self, exchange: Exchange, answer: Message) -> Moment | None:
        """The moment during this ``answer`` at which to cut; an answer without data would prove nothing."""
        moment = self.cut.moment
        if moment not in _DURING_ANSWER:
            return None
        if self.cut.command == b"idle" and len(answer.body) == 1:
            return None
        return moment if self.takes(moment, exchange) else None

    def after_cut(self) -> list[Exchange]:
        """The data that the client has sent since the last cut."""
        last = max(index for index, exchange in enumerate(self.exchanges) if exchange.cut)
        return self.exchanges[last + 1 :]

    def sent(self) -> list[bytes]:
        """What the client had to say to the upstream and got as far as the gateway, each piece once.

        Without the ``00`` of an idle that ffmpeg tries again as a send, and without what it tries again
        although it had arrived.
        """
        pieces: list[bytes] = []
        arrived = b""
        for exchange in self.exchanges:
            body = exchange.request.body
            if exchange.command == b"send" and exchange.passed and body not in (b"\x00", arrived):
                pieces.append(body)
            arrived = body if exchange.cut and exchange.passed else b""
        return pieces

    def received(self) -> bytes:
        """The RTMP bytes that the client has got in whole answers, without the interval bytes."""
        return b"".join(
            exchange.arrived[1:]
            for exchange in self.exchanges
            if exchange.arrived and exchange.command in (b"send", b"idle")
        )

    def close(self) -> None:
        self._relay.close()
        while self.kept_open:
            self.kept_open.pop().close()
