"""HTTP requests of the tester: RTMPT commands (PROTOCOL.md, The exchange).

The first fields are FFmpeg's, in its order, so that a server which streams answers to FFmpeg streams them
to the tester as well.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from gateway.errors import BadResponse
from gateway.protocols.responses import Response, ResponseReader

# Servers use 13 to 31 letters and digits; FFmpeg accepts 63. A page of a captive portal begins with "<".
_SESSION_ID: Final = re.compile(rb"[A-Za-z0-9._~+=-]{1,63}")
# The body of commands without data; Flash Player and FFmpeg send this byte.
_NO_DATA: Final = b"\0"
# More than any server answers at once. Web pages of a captive portal may be endless.
ANSWER_BYTES: Final = 4 * 1024 * 1024


@frozen
class Requests:
    """Writer of requests to one server. ``authority``: its host and port, as in ``Host``.

    ``prefix`` is empty, or begins the absolute target for a proxy: ``http://HOST:PORT``. ``folder`` is that
    of the commands, without a slash at its end.
    """

    authority: str
    prefix: str = ""
    folder: str = ""

    def open(self) -> bytes:
        return self._post("/open/1", _NO_DATA)

    def send(self, session_id: str, number: int, data: bytes) -> bytes:
        return self._post(f"/send/{session_id}/{number}", data)

    def idle(self, session_id: str, number: int) -> bytes:
        return self._post(f"/idle/{session_id}/{number}", _NO_DATA)

    def close(self, session_id: str, number: int) -> bytes:
        return self._post(f"/close/{session_id}/{number}", _NO_DATA)

    def _post(self, path: str, body: bytes) -> bytes:
        lines = [
            f"POST {self.prefix}{self.folder}{path} HTTP/1.1",
            "Accept: */*",
            "Connection: keep-alive",
            f"Host: {self.authority}",
            "User-Agent: rtmpt-port-test",
            "Icy-MetaData: 1",
            "Cache-Control: no-cache",
            "Content-Type: application/x-fcs",
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def read_session_id(body: bytes) -> str | None:
    """The session id in the answer to open; None if it is something else, such as a web page."""
    found = body.removesuffix(b"\n")
    return found.decode("ascii") if _SESSION_ID.fullmatch(found) else None


class AnswerBody:
    """Collects one response: ``head`` once it has arrived, and ``received``, complete once ``ended``."""

    __slots__ = ("_reader", "head", "received")

    def __init__(self, reader: ResponseReader) -> None:
        self._reader = reader
        self.head: Response | None = None
        self.received = b""

    @property
    def ended(self) -> bool:
        return self._reader.ended

    @property
    def refusal(self) -> int | None:
        """The status if it is not 200. Its page may be lost: some proxies reset the connection."""
        head = self.head
        return None if head is None or head.status == 200 else head.status

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry the next request."""
        return self._reader.reusable

    def receive(self, data: bytes) -> None:
        """Add received bytes, ``b""`` for the connection's end. Raises BadResponse."""
        if not data:
            self._reader.close()
            return
        self._reader.receive(data)
        if self.head is None and not self._read_head():
            return
        while piece := self._reader.next_piece():
            self.received += piece
        if len(self.received) > ANSWER_BYTES:
            raise BadResponse("an answer without an end")

    def _read_head(self) -> bool:
        """Whether the final head has arrived."""
        while (head := self._reader.next_head()) is not None:
            if not head.interim:
                self.head = head
                return True
        return False
