"""Observer of the beginning and end of sessions."""

from __future__ import annotations

from gateway.errors import RequestRefused
from gateway.protocols.ingress import Ingress
from gateway.telemetry.summary import Summary


class SessionObserver:
    """The base class of observers; its methods do nothing."""

    def opened(self, summary: Summary) -> None:
        """A session was opened. Its application and stream are not known yet."""

    def stream_began(self, summary: Summary) -> None:
        """A publish or play was found in the session's stream."""

    def stream_unknown(self, summary: Summary) -> None:
        """No publish or play can be found in the session's stream."""

    def ended(self, summary: Summary) -> None:
        """A session ended."""

    def refused(self, error: RequestRefused, address: str, ingress: Ingress) -> None:
        """A session could not be opened for the client ``address``."""
