"""What was observed of one way over one route: times, facts, and the failure that ended it, if one did.

A trial goes through its steps in their order; those that do not apply to its protocol are left out. The
times are in milliseconds, each that of its step alone. No sentence is written here: see ``verdicts``.
"""

from __future__ import annotations

from enum import Enum

from attrs import Factory, define, frozen

from gateway.port_test.ways import Route, Way


class Step(Enum):
    """A step of a trial; the value is its name in the report."""

    LOOK_UP = "look_up"
    CONNECT = "connect"
    # The proxy's name, the connection to it, and its answer to CONNECT.
    PROXY = "proxy"
    TLS = "tls"
    OPEN = "open"
    HANDSHAKE = "handshake"
    APPLICATION = "application"
    STREAM = "stream"
    ROUND_TRIP = "round_trip"
    HELD = "held"
    THROUGHPUT = "throughput"


class Kind(Enum):
    """How a step failed; the value is its name in the report."""

    UNKNOWN_NAME = "unknown_name"
    NO_NAME_SERVER = "no_name_server"
    NO_ANSWER = "no_answer"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NOT_PERMITTED = "not_permitted"
    CLOSED = "closed"
    SPEAKS_HTTP = "speaks_http"
    SPEAKS_TLS = "speaks_tls"
    SPEAKS_OTHER = "speaks_other"
    NOT_TLS = "not_tls"
    TLS_REFUSED = "tls_refused"
    NOT_TRUSTED = "not_trusted"
    SELF_SIGNED = "self_signed"
    EXPIRED = "expired"
    OTHER_NAME = "other_name"
    STATUS = "status"
    NOT_A_TUNNEL = "not_a_tunnel"
    REJECTED = "rejected"
    INTERNAL = "internal"


class TrialFailed(Exception):
    """A step has failed. ``status``: of an HTTP answer. ``detail``: a code or text of the other side."""

    def __init__(self, kind: Kind, detail: str = "", status: int | None = None) -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.detail = detail
        self.status = status


@frozen
class Failure:
    """The step that failed, and how."""

    step: Step
    kind: Kind
    detail: str = ""
    status: int | None = None


@frozen
class Certificate:
    """The certificate of the other side. ``days_left`` is negative once it has expired."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    days_left: int


class Delivery(Enum):
    """How the answers with media arrived: see ``held_idles``."""

    WHOLE = "whole"
    STREAMED = "streamed"
    BUFFERED = "buffered"


@frozen
class Holding:
    """The behaviour of the tunnel while the tester waits for data.

    ``held_ms``: the longest time after which an idle without data was answered; None if none was.
    ``cut_after_ms``: the age of the request during which the connection was first lost; None if it never
    was. ``closes``: whether connections are closed after each answer.
    """

    held_ms: float | None = None
    cut_after_ms: float | None = None
    closes: bool = False
    delivery: Delivery | None = None


class Unmeasured(Enum):
    """Why a way's throughput is not known; the value is its name in the report."""

    NOT_TUNNELLED = "not_tunnelled"
    NOT_OFFERED = "not_offered"
    BUSY = "busy"
    FAILED = "failed"


@frozen
class Throughput:
    """In bytes a second, or None with a ``cause``. ``limit``: that of the server."""

    up: float | None = None
    down: float | None = None
    limit: float | None = None
    cause: Unmeasured | None = None


@define
class Trial:
    """One way over one route, filled as it goes on. ``step`` is the current one, None at its end.

    ``code``: the code of the server's answer to connect, and ``stream_code`` to play. ``media``: whether
    media has arrived; None if no stream was asked for. ``throughput``: None if it was not asked for.
    """

    way: Way
    route: Route
    step: Step | None = Step.LOOK_UP
    address: str = ""
    times_ms: dict[Step, float] = Factory(dict)
    tls_version: str = ""
    certificate: Certificate | None = None
    code: str = ""
    stream_code: str = ""
    media: bool | None = None
    round_trip_ms: float | None = None
    holding: Holding | None = None
    throughput: Throughput | None = None
    failure: Failure | None = None

    @property
    def works(self) -> bool:
        """Whether it has ended without a failure."""
        return self.step is None and self.failure is None
