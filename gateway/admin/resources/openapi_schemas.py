"""The schemas of the OpenAPI document: the JSON that the resources return."""

from __future__ import annotations

from typing import Any, Final

from gateway.admin.resources.diagnosis import Cause
from gateway.protocols.rtmp.mirror_states import STREAM_STATES
from gateway.telemetry.exposition.sources import SERVER_STATES
from gateway.telemetry.measurement.history import SAMPLED
from gateway.telemetry.measurement.totals import LATENCIES

Schema = dict[str, Any]

STRING: Final[Schema] = {"type": "string"}
_SECONDS: Final[Schema] = {"type": "number", "description": "seconds"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_LEVEL: Final[Schema] = {"type": "string", "enum": ["debug", "info", "warn", "error", "critical"]}
_CAUSE: Final[Schema] = {"type": "string", "enum": [cause.value for cause in Cause]}


def reference(name: str) -> Schema:
    """A reference to the schema ``name``."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}


def schemas() -> dict[str, Schema]:
    """All schemas by name."""
    figures = _session_figures()
    return {
        "Problem": _object(title=STRING, status=_COUNT, detail=STRING),
        "Drain": _object(draining=_FLAG),
        "Reload": _object(reloaded=_list(STRING)),
        "LogLevel": {**_object(level=_LEVEL), "additionalProperties": False},
        "Estimate": _object(
            last_s=_SECONDS, p50_s=_SECONDS, p95_s=_SECONDS, max_s=_SECONDS, count=_COUNT
        ),
        "Diagnosis": _object(
            cause=_CAUSE, delay_s=_SECONDS, parts=_map(_SECONDS), notes=_list(STRING)
        ),
        "Session": _object(**figures, diagnosis=reference("Diagnosis")),
        "History": _object(
            every_s=_SECONDS,
            age_s={**_SECONDS, "description": "Age of the newest sample"},
            samples={
                **_list(_object(**{name: {"type": "number"} for name in SAMPLED})),
                "description": "Oldest first",
            },
        ),
        "SessionRow": _object(**figures, cause=_CAUSE, delay_s=_SECONDS),
        "SessionList": _object(
            matching=_COUNT, causes=_map(_COUNT), sessions=_list(reference("SessionRow"))
        ),
        **_upstream_schemas(),
        **_mirror_schemas(),
    }


def _upstream_schemas() -> dict[str, Schema]:
    return {
        "Upstream": _object(
            name=STRING,
            up={
                **_FLAG,
                "description": "Whether the last connect succeeded; true before the first one",
            },
            due={
                **_FLAG,
                "description": (
                    "False while it is tried last: for some time after a failure, or while it is"
                    " down by its health checks"
                ),
            },
            drained={**_FLAG, "description": "Whether the operator has new sessions kept from it"},
            state={"type": "string", "enum": list(SERVER_STATES)},
            weight=_COUNT,
            sessions=_COUNT,
            group={**STRING, "description": "The name of its [[upstream]]"},
            waiting={**_COUNT, "description": "Opens that wait for a place in its [[upstream]]"},
            connections=_COUNT,
            failures=_COUNT,
            failures_by_reason=_map(_COUNT),
            connect_p50_s=_SECONDS,
            connect_p95_s=_SECONDS,
            checks={**_map(_COUNT), "description": "Health checks by outcome"},
            check_p95_s=_SECONDS,
            addresses={**_list(STRING), "description": "Its IP addresses"},
            stale={
                **_FLAG,
                "description": "Whether its addresses are old ones: its name cannot be resolved now",
            },
            failed_look_ups={**_COUNT, "description": "Failed resolutions of its name"},
            service={**STRING, "description": "The SRV records that it is from, or empty"},
            named_only={
                **_FLAG,
                "description": "It gets only what is sent to its [[upstream]] by name, as by a mirror",
            },
            silent_s={
                **_SECONDS,
                "description": "How long it has sent nothing although sessions wait for it; else 0",
            },
        ),
        "UpstreamList": _object(upstreams=_list(reference("Upstream"))),
    }


def _mirror_schemas() -> dict[str, Schema]:
    return {
        "Mirror": _object(
            name={**STRING, "description": "The name of its [[upstream]]"},
            publishing={**_COUNT, "description": "Streams that are published there"},
            waiting={**_COUNT, "description": "Streams that are not, and are tried again"},
            failures={**_COUNT, "description": "Connections that failed or ended early"},
            left_out_messages=_COUNT,
            queued_bytes=_COUNT,
            streams=_list(reference("MirroredStream")),
        ),
        "MirroredStream": _object(
            stream={**STRING, "description": "Its application and name here"},
            state={"type": "string", "enum": list(STREAM_STATES)},
            state_s=_SECONDS,
            server={**STRING, "description": "The last one that accepted a connection"},
            queued_bytes={**_COUNT, "description": "Of messages that wait for the server to read"},
            left_out_messages={
                **_COUNT,
                "description": "Messages that the server did not get since it accepted the publish",
            },
            failures=_COUNT,
            last_error={**STRING, "description": "The cause of the last failure, or empty"},
            next_try_s={**_SECONDS, "description": "Until the next try; else 0"},
        ),
        "MirrorList": _object(mirrors=_list(reference("Mirror"))),
    }


_SECONDS_OR_NOTHING: Final[Schema] = {"type": ["number", "null"]}


def _session_figures() -> dict[str, Schema]:
    strings = (
        *("alias", "protocol", "listener", "upstream", "address", "client", "application"),
        *("stream", "action", "state", "reason", "streaming"),
    )
    seconds = (
        *("opened_at", "duration_s", "upstream_connect_s", "streamed_s", "pause_s"),
        "unanswered_s",
    )
    counts = (
        *("connections", "bytes_up", "bytes_down", "buffered_bytes", "sends", "idles", "closes"),
        *("repeats", "reorders", "held_answers", "empty_answers", "filled_answers"),
        *("streamed_answers", "streamed_bytes"),
    )
    measured = [name for name in LATENCIES if name != "upstream_connect"]
    return {
        **dict.fromkeys(strings, STRING),
        **dict.fromkeys(seconds, _SECONDS),
        **dict.fromkeys(counts, _COUNT),
        "proxies": _list(STRING),
        "latencies": {
            "type": "object",
            "properties": dict.fromkeys(measured, reference("Estimate")),
            "additionalProperties": False,
        },
        "media_drift_s": {"type": ["number", "null"]},
        **dict.fromkeys(("quiet_up_s", "quiet_down_s", "resumed_s"), _SECONDS_OR_NOTHING),
        "tcp": {
            "anyOf": [
                _object(round_trip_s=_SECONDS, variation_s=_SECONDS, retransmits=_COUNT),
                {"type": "null"},
            ]
        },
        "client_figures": {
            "description": "What rtmpt-client has measured in a tunnel",
            "anyOf": [
                _object(round_trip_s=_SECONDS_OR_NOTHING, answer_s=_SECONDS_OR_NOTHING),
                {"type": "null"},
            ],
        },
    }
