"""Which sessions get streamed answers: by client, by signs of a proxy, and by the configuration."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import Final

from attrs import frozen

from gateway.protocols.clients import Client, Framing, is_direct
from gateway.protocols.http import Fields
from gateway.protocols.limits import Limits, StreamedAnswers
from gateway.protocols.tunnel_options import most_commands


class Delivery(Enum):
    """How a session's answers are delivered, and if not streamed, why; for people and metrics."""

    STREAMED = "streamed"
    NOT_PLAYING = "not_playing"
    CLIENT = "client"
    PROXY = "proxy"
    CONNECTIONS = "connections"
    BUFFERED = "buffered"
    OFF = "off"


@frozen
class StreamPolicy:
    """What one session may get. ``framing`` is None when it gets whole answers, for ``cause``."""

    framing: Framing | None = None
    cause: Delivery = Delivery.CLIENT
    answer_s: float = 1.0
    # Whether signs of a proxy between are ignored.
    always: bool = False
    # Whether the client resumes (``tunnel_options``), so that sends can be held.
    resumes: bool = False

    def without_streaming(self, cause: Delivery) -> StreamPolicy:
        """The same, but whole answers for ``cause``."""
        return _shared(None, cause, self.answer_s, self.always, self.resumes)


# Thousands of sessions have the same few policies.
_shared = lru_cache(StreamPolicy)
WHOLE: Final = StreamPolicy()


def policy_for(
    client: Client, fields: Fields, mode: StreamedAnswers, answer_s: float, limits: Limits
) -> StreamPolicy:
    """The policy for a session that ``client`` opened with these fields."""
    cause = None
    resumes = client.resumes and most_commands(limits) > 0
    if mode is StreamedAnswers.NEVER:
        cause = Delivery.OFF
    elif client.framing is None or client.resumes != resumes:
        cause = Delivery.CLIENT
    elif mode is StreamedAnswers.DIRECT and not resumes and not is_direct(client, fields):
        cause = Delivery.PROXY
    if cause is not None:
        return _shared(None, cause, answer_s, False, resumes)
    is_always = mode is StreamedAnswers.ALWAYS
    return _shared(client.framing, Delivery.STREAMED, answer_s, is_always, resumes)
