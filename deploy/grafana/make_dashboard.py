"""Generates rtmpt-gateway.json, the Grafana dashboard in this directory, from the tables in this file.

Run it after a change, without arguments, and import the JSON in Grafana (10 or newer). The rows are: rate,
errors and duration; saturation; media servers and listeners; one session, selected by its alias. The
dashboard needs the rules of deploy/prometheus/recording.yml. The tests run each expression in Prometheus.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("rtmpt-gateway.json")
_WIDTH: Final = 24
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_ON: Final = '{instance=~"$instance"}'
# Aliases are unique within a gateway: two gateways with the same [node] id can have the same ones.
_OF: Final = '{instance=~"$instance", session="$session"}'
_DAY_S: Final = 86400


class Line(NamedTuple):
    """One expression, and the legend of its series."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """``limits`` are the thresholds of yellow and red. With ``wanted``, values below the first are red, and
    values from the last on are green. ``most`` is the scale's maximum; ``words`` replace 0, 1 and so on."""

    title: str
    help: str
    unit: str
    lines: tuple[Line, ...]
    width: int = 8
    kind: str = "timeseries"
    stacked: bool = False
    limits: tuple[float, ...] = ()
    wanted: tuple[float, ...] = ()
    most: float | None = None
    words: tuple[str, ...] = ()


class Row(NamedTuple):
    title: str
    panels: tuple[Panel, ...]
    height: int = 8


def _quantile(name: str, quantile: str) -> Line:
    return Line(
        f"instance_protocol:rtmpt_gateway_{name}_seconds:{quantile}_5m{_ON}",
        f"{{{{protocol}}}} {quantile} · {{{{instance}}}}",
    )


def _latency(name: str, title: str, what: str) -> Panel:
    return Panel(title, what, "s", (_quantile(name, "p95"), _quantile(name, "p50")))


def _share(title: str, what: str, rule: str) -> Panel:
    line = Line(f"instance:rtmpt_gateway_{rule}:ratio{_ON}", "{{instance}}")
    return Panel(title, what, "percentunit", (line,), 6, limits=(0.7, 0.85), most=1)


def _of_session(name: str, legend: str, statistic: str = "") -> Line:
    chosen = _OF.replace("}", f', statistic="{statistic}"}}') if statistic else _OF
    return Line(f"rtmpt_gateway_session_{name}{chosen}", legend)


def _rate_of_session(name: str, legend: str) -> Line:
    return Line(f"rate(rtmpt_gateway_session_{name}_total{_OF}[$__rate_interval])", legend)


_RATE_ERRORS_DURATION: Final = Row(
    "Rate, errors, duration",
    (
        Panel(
            "Gateways up",
            "Whether Prometheus gets metrics of them.",
            "none",
            (Line('up{job="rtmpt-gateway", instance=~"$instance"}', "{{instance}}"),),
            4,
            "stat",
            wanted=(1,),
            words=("down", "up"),
        ),
        Panel(
            "Sessions",
            "Living sessions, by protocol.",
            "none",
            (
                Line(
                    f"sum by (protocol) (rtmpt_gateway_sessions{_ON})",
                    "{{protocol}}",
                ),
            ),
            10,
            stacked=True,
        ),
        Panel(
            "RTMP bytes",
            "What is relayed: up to the media servers, and down to the clients.",
            "Bps",
            (
                Line(
                    f"sum by (direction) (instance_direction:rtmpt_gateway_bytes:rate5m{_ON})",
                    "{{direction}}",
                ),
            ),
            10,
        ),
        Panel(
            "Commands",
            "Tunnel commands that took effect, a second.",
            "reqps",
            (
                Line(
                    f"sum by (command) (instance_command:rtmpt_gateway_commands:rate5m{_ON})",
                    "{{command}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Sessions opened and refused",
            "A refused client tries its next way, or gives up.",
            "ops",
            (
                Line(f"sum(instance:rtmpt_gateway_sessions_opened:rate5m{_ON})", "opened"),
                Line(
                    "sum by (cause) (rate("
                    f"rtmpt_gateway_opens_refused_total{_ON}[$__rate_interval]))",
                    "refused: {{cause}}",
                ),
            ),
        ),
        Panel(
            "Sessions ended, by reason",
            "client_closed, abandoned and drained are no errors.",
            "ops",
            (
                Line(
                    f"sum by (reason) (instance_reason:rtmpt_gateway_sessions_ended:rate5m{_ON})",
                    "{{reason}}",
                ),
            ),
            stacked=True,
        ),
        _latency(
            "downstream_wait",
            "Downstream wait",
            "From bytes of the media server in to the answer out that carries them.",
        ),
        _latency(
            "upstream_delay",
            "Upstream delay",
            "From a body in to its being taken by the media server, the wait for its turn included.",
        ),
        _latency(
            "poll_gap",
            "Poll gap",
            "From an answer out to the client's next command in: its network, proxies and polling.",
        ),
    ),
)

_SATURATION: Final = Row(
    "Saturation",
    (
        _share("Sessions", "Share of the sessions that may live at once.", "sessions"),
        _share("Connections", "Share of the client connections that may stand.", "connections"),
        _share("Buffers", "Share of what all sessions' buffers may hold.", "buffers_bytes"),
        _share("Open files", "Share of the open files.", "process_open_fds"),
        Panel(
            "Event loop busy",
            "Processor time of the busiest worker's event loop, as a share of the time.",
            "percentunit",
            (Line(f"rtmpt_gateway_event_loop_busy_ratio{_ON}", "{{instance}}"),),
            limits=(0.7, 0.85),
            most=1,
        ),
        Panel(
            "Event loop lag",
            "How late its timer came; every session waits as long.",
            "s",
            (
                Line(
                    f"instance:rtmpt_gateway_event_loop_lag_seconds:p99_5m{_ON}",
                    "p99 · {{instance}}",
                ),
            ),
            limits=(0.05, 0.1),
        ),
        Panel(
            "Processor",
            "Processor seconds a second, of all workers.",
            "none",
            (
                Line(
                    f"rate(rtmpt_gateway_process_cpu_seconds_total{_ON}[$__rate_interval])",
                    "{{instance}}",
                ),
            ),
            4,
        ),
        Panel(
            "Memory",
            "Of all workers.",
            "bytes",
            (Line(f"rtmpt_gateway_process_resident_memory_bytes{_ON}", "{{instance}}"),),
            4,
        ),
    ),
)

_SERVERS_AND_DOORS: Final = Row(
    "Media servers and listeners",
    (
        Panel(
            "Media servers",
            "Whether the last connection was taken; nobody may have tried since.",
            "none",
            (Line(f"rtmpt_gateway_upstream_up{_ON}", "{{upstream}} · {{instance}}"),),
            6,
            "stat",
            wanted=(1,),
            words=("down", "up"),
        ),
        Panel(
            "Connecting to media servers",
            "How long it took, where it did not fail.",
            "s",
            (
                Line(
                    "histogram_quantile(0.95, sum by (le, upstream) (rate("
                    f"rtmpt_gateway_upstream_dial_seconds_bucket{_ON}[$__rate_interval])))",
                    "{{upstream}} p95",
                ),
            ),
            6,
        ),
        Panel(
            "Failed connections to media servers",
            "A second.",
            "ops",
            (
                Line(
                    "sum by (upstream, reason) (rate("
                    f"rtmpt_gateway_upstream_failures_total{_ON}[$__rate_interval]))",
                    "{{upstream}} {{reason}}",
                ),
            ),
            6,
        ),
        Panel(
            "Sessions of media servers",
            "The number of sessions of each, and of opens that wait for a place.",
            "none",
            (
                Line(f"rtmpt_gateway_upstream_sessions{_ON}", "{{upstream}} · {{instance}}"),
                Line(f"rtmpt_gateway_upstream_queue{_ON}", "waiting for {{group}} · {{instance}}"),
            ),
        ),
        Panel(
            "States of media servers",
            "Which are down, start slowly, or get no new sessions as the operator asked.",
            "none",
            (
                Line(
                    f"sum by (state) (rtmpt_gateway_upstream_state{_ON})",
                    "{{state}}",
                ),
            ),
        ),
        Panel(
            "Health checks of media servers",
            "How long they take.",
            "s",
            (
                Line(
                    "histogram_quantile(0.95, sum by (le, upstream, outcome) (rate("
                    f"rtmpt_gateway_upstream_check_seconds_bucket{_ON}[$__rate_interval])))",
                    "{{upstream}} {{outcome}} p95",
                ),
            ),
        ),
        Panel(
            "Certificates",
            "How long they are good.",
            "s",
            (
                Line(
                    f"rtmpt_gateway_tls_certificate_expiry_timestamp_seconds{_ON} - time()",
                    "{{certificate}} · {{instance}}",
                ),
            ),
            6,
            "stat",
            wanted=(3 * _DAY_S, 14 * _DAY_S),
        ),
        Panel(
            "Connections accepted",
            "By what they speak, a second.",
            "ops",
            (
                Line(
                    "sum by (listener, speaks) (rate("
                    f"rtmpt_gateway_connections_accepted_total{_ON}[$__rate_interval]))",
                    "{{listener}} {{speaks}}",
                ),
            ),
        ),
        Panel(
            "Connections refused",
            "By cause, a second.",
            "ops",
            (
                Line(
                    "sum by (cause) (rate("
                    f"rtmpt_gateway_connections_refused_total{_ON}[$__rate_interval]))",
                    "{{cause}}",
                ),
            ),
        ),
        Panel(
            "TLS handshakes",
            "By outcome, a second.",
            "ops",
            (
                Line(
                    "sum by (outcome) (rate("
                    f"rtmpt_gateway_tls_handshakes_total{_ON}[$__rate_interval]))",
                    "{{outcome}}",
                ),
            ),
        ),
        Panel(
            "Datagrams",
            "Relayed by UDP listeners in each direction, and dropped by reason, a second.",
            "pps",
            (
                Line(
                    "sum by (listener, direction) (rate("
                    f"rtmpt_gateway_udp_datagrams_total{_ON}[$__rate_interval]))",
                    "{{listener}} {{direction}}",
                ),
                Line(
                    "sum by (reason) (rate("
                    f"rtmpt_gateway_udp_dropped_datagrams_total{_ON}[$__rate_interval]))",
                    "dropped: {{reason}}",
                ),
            ),
        ),
    ),
)

_ONE_SESSION: Final = Row(
    "One session: $session",
    (
        Panel(
            "What it is",
            "Who it is, and where it goes; a line for each state that it was in.",
            "none",
            (_of_session("info", ""),),
            24,
            "table",
        ),
        Panel(
            "Latencies, p95",
            "Of the last minute; the highest one is where the delay comes from.",
            "s",
            (_of_session("latency_seconds", "{{latency}}", "p95"),),
            12,
        ),
        Panel(
            "Latencies, at worst",
            "Of the last minute.",
            "s",
            (_of_session("latency_seconds", "{{latency}}", "max"),),
            12,
        ),
        Panel(
            "Round trip of the client's connection",
            "From the kernel; with a proxy in between, that to the proxy.",
            "s",
            (
                _of_session("client_round_trip_seconds", "round trip"),
                _of_session("client_round_trip_variation_seconds", "variation"),
            ),
        ),
        Panel(
            "RTMP bytes",
            "Up to the media server, and down to the client.",
            "Bps",
            (_rate_of_session("bytes", "{{direction}}"),),
        ),
        Panel(
            "Buffered",
            "What waits in the gateway.",
            "bytes",
            (_of_session("buffered_bytes", "buffered"),),
        ),
        Panel(
            "Commands and answers",
            "A second.",
            "reqps",
            (
                _rate_of_session("commands", "{{command}}"),
                _rate_of_session("answers", "{{content}} answers"),
                _rate_of_session("held_answers", "held answers"),
                _rate_of_session("streamed_answers", "streamed answers"),
            ),
            12,
        ),
        Panel(
            "Trouble on the way",
            "Repeats and reorders come of proxies, retransmits of the network; a second.",
            "ops",
            (
                _rate_of_session("repeats", "repeats"),
                _rate_of_session("reorders", "reorders"),
                _rate_of_session("client_retransmits", "TCP retransmits"),
                _rate_of_session("connections", "new connections"),
            ),
            12,
        ),
    ),
)

ROWS: Final = (_RATE_ERRORS_DURATION, _SATURATION, _SERVERS_AND_DOORS, _ONE_SESSION)
# Name, title, the series whose label of that name are the choices, and whether several can be chosen.
_CHOICES: Final = (
    ("instance", "Gateway", "rtmpt_gateway_build_info", True),
    ("session", "Session", 'rtmpt_gateway_session_info{instance=~"$instance"}', False),
)


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana's JSON model has it."""
    return {
        "uid": "rtmpt-gateway",
        "title": "RTMPT gateway",
        "description": "Written by make_dashboard.py; needs the rules of deploy/prometheus.",
        "tags": ["rtmp", "rtmpt"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source_choice(), *(_choice(*each) for each in _CHOICES)]},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels(ROWS)),
    }


def _source_choice() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }


def _choice(name: str, title: str, series: str, several: bool) -> dict[str, Any]:
    query = f"label_values({series}, {name})"
    return {
        "name": name,
        "label": title,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        # When the time range changes: sessions come and go.
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        **({"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if several else {}),
    }


def _panels(rows: Iterable[Row]) -> Iterable[dict[str, Any]]:
    """Row after row, each panel right of the one before while there is room."""
    number = y = 0
    for row in rows:
        number += 1
        place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "gridPos": place,
            "collapsed": False,
            "panels": [],
        }
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + row.height
            number += 1
            place = {"x": x, "y": y, "w": panel.width, "h": row.height}
            yield {"id": number, "gridPos": place, **_panel(panel)}
            x += panel.width
        y += row.height


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": _SOURCE,
        "targets": [
            _target(line, chr(ord("A") + index), panel.kind)
            for index, line in enumerate(panel.lines)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "transformations": _TRANSFORMATIONS.get(panel.kind, []),
    }


def _target(line: Line, name: str, kind: str) -> dict[str, Any]:
    at_once = kind != "timeseries"
    return {
        "refId": name,
        "datasource": _SOURCE,
        "expr": line.expression,
        "legendFormat": line.legend,
        "instant": at_once,
        "range": not at_once,
        "format": "table" if kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": _steps(panel)},
    }
    if panel.words:
        options = {str(value): {"text": word} for value, word in enumerate(panel.words)}
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "fillOpacity": 20 if panel.stacked else 0,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
            "showPoints": "never",
        }
    return defaults


def _steps(panel: Panel) -> list[dict[str, Any]]:
    """Colours, each with the value from which on it is meant."""
    values = (None, *(panel.wanted or panel.limits))
    colors = ("green", "yellow", "red")
    if panel.wanted:
        colors = ("red", "green") if len(panel.wanted) == 1 else ("red", "yellow", "green")
    return [{"color": c, "value": v} for c, v in zip(colors, values, strict=False)]


# Columns to hide in tables.
_TRANSFORMATIONS: Final[dict[str, list[dict[str, Any]]]] = {
    "table": [
        {
            "id": "organize",
            "options": {"excludeByName": dict.fromkeys(("Time", "Value", "__name__", "job"), True)},
        }
    ]
}
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "value_and_name",
    },
    "table": {"showHeader": True},
}


def text() -> str:
    """The dashboard's file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
