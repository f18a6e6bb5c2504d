"""The responses of one connection to pipelined commands, in order.

An answer must declare its length or be chunked: if an answer ended with its connection, its end could not
be distinguished from a cut. The page of a refusal that does so is not read. Equal heads are parsed once:
most answers have one byte.

This module does not know which command a response belongs to.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, final

from gateway.errors import BadRequest, BadResponse
from gateway.protocols.bodies import BodyReader
from gateway.protocols.fields import field_lines
from gateway.protocols.limits import Limits
from gateway.protocols.responses import Framing, Response, check_interim, response_of

_OK: Final = 200
# Answers without data have the same heads; so have small ones of the same length.
_response_of = lru_cache(maxsize=64)(response_of)


@final
class AnswerReader(BodyReader):
    """Pulled like a ``RequestReader``: a head, the pieces of its body, and the next head."""

    __slots__ = ("_interim", "_seen")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        # Interim responses since the last final one.
        self._interim = 0
        # How much of an incomplete head has been searched for its end.
        self._seen = 0

    def next_head(self) -> Response | None:
        """The head of the next response, or None if it is incomplete. Raises BadResponse."""
        buffer = self.buffer
        end = buffer.find(b"\r\n\r\n", self._seen) + 4
        if (len(buffer) if end == 3 else end) > self._limits.head_bytes:
            raise BadResponse("head over the limit")
        if end == 3:
            self._seen = max(0, len(buffer) - 3)
            return None
        self._seen = 0
        head = buffer[:end]
        # Before it is parsed, because what is parsed is remembered.
        if field_lines(head) > self._limits.head_fields:
            raise BadResponse("too many fields")
        response = _response_of(head, False)
        if response.framing is Framing.UNTIL_CLOSE and response.status == _OK:
            raise BadResponse("an answer without its length")
        self._interim = self._interim + 1 if response.interim else 0
        check_interim(self._interim)
        self.buffer = buffer[end:]
        is_chunked = response.framing is Framing.CHUNKED
        has_length = response.framing is Framing.LENGTH
        self._begin_body((response.content_length or 0) if has_length else 0, is_chunked)
        return response

    def next_piece(self) -> bytes:
        """As ``BodyReader.next_piece``. Raises BadResponse."""
        try:
            return super().next_piece()
        except BadRequest as error:
            raise BadResponse(str(error)) from error
