"""The result as a JSON document, described by etc/rtmpt-port-test.schema.json; and the exit status.

Names and meanings of members do not change within a version. New members may appear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.port_test.observations import Certificate, Failure, Holding, Throughput, Trial
from gateway.port_test.order import addresses_to_type, best_first, recommended
from gateway.port_test.verdicts import remarks_on, verdict_on
from gateway.port_test.ways import Target

VERSION: Final = 1

Document = dict[str, object]


def document_of(trials: Sequence[Trial], target: Target, took_s: float) -> Document:
    """The document; ``ways`` has the best way first."""
    ordered = best_first(trials)
    best = recommended(ordered)
    return {
        "version": VERSION,
        "host": target.host,
        "application": target.application or None,
        "took_s": round(took_s, 3),
        "works": best is not None,
        "best": None if best is None else {"way": str(best.way), "over": best.route.value},
        "type": dict(addresses_to_type(ordered, target)),
        "ways": [_way(trial, ordered) for trial in ordered],
    }


def _way(trial: Trial, trials: Sequence[Trial]) -> Document:
    return {
        "way": str(trial.way),
        "protocol": trial.way.protocol.value,
        "port": trial.way.port,
        "over": trial.route.value,
        "address": trial.address or None,
        "works": trial.works,
        "times_ms": {step.value: _rounded(time) for step, time in trial.times_ms.items()},
        "round_trip_ms": _rounded(trial.round_trip_ms),
        "tls_version": trial.tls_version or None,
        "certificate": _certificate(trial.certificate),
        "application_code": trial.code or None,
        "stream_code": trial.stream_code or None,
        "media": trial.media,
        "held": _holding(trial.holding),
        "throughput": _throughput(trial.throughput),
        "failure": _failure(trial.failure),
        "verdict": verdict_on(trial, trials) or None,
        "remarks": remarks_on(trial, trials),
    }


def _certificate(certificate: Certificate | None) -> Document | None:
    if certificate is None:
        return None
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": list(certificate.names),
        "days_left": certificate.days_left,
    }


def _holding(holding: Holding | None) -> Document | None:
    if holding is None:
        return None
    return {
        "held_ms": _rounded(holding.held_ms),
        "cut_after_ms": _rounded(holding.cut_after_ms),
        "closes": holding.closes,
        "delivery": None if holding.delivery is None else holding.delivery.value,
    }


def _throughput(found: Throughput | None) -> Document | None:
    if found is None:
        return None
    return {
        "up_bits_per_s": _bits(found.up),
        "down_bits_per_s": _bits(found.down),
        "limit_bits_per_s": _bits(found.limit),
        "cause": None if found.cause is None else found.cause.value,
    }


def _bits(bytes_per_s: float | None) -> int | None:
    return None if bytes_per_s is None else round(bytes_per_s * 8)


def _failure(failure: Failure | None) -> Document | None:
    if failure is None:
        return None
    return {
        "step": failure.step.value,
        "kind": failure.kind.value,
        "status": failure.status,
        "detail": failure.detail or None,
    }


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 1)
