"""Values that workers and the supervisor exchange, in types of JSON."""

from __future__ import annotations

from typing import Any, Final

import cattrs
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from gateway.admin.resources.gateway_interface import Selection
from gateway.admin.resources.queries import SessionQuery
from gateway.protocols.rtmp.mirror_states import MirrorState
from gateway.telemetry.exposition.sources import UpstreamHealth
from gateway.telemetry.sessions import SessionFilter
from gateway.telemetry.summary import Summary

# Unknown attributes are ignored: the other process can be of a later version.
_CONVERTER: Final = cattrs.Converter()


def plain(value: Any) -> Any:
    """``value``, an instance of one of the types below, or a list of them, in types of JSON."""
    return _CONVERTER.unstructure(value)


def selection_of(value: Any) -> Selection:
    return _CONVERTER.structure(value, Selection)


def query_of(value: Any) -> SessionQuery:
    return _CONVERTER.structure(value, SessionQuery)


def filter_of(value: Any) -> SessionFilter:
    return _CONVERTER.structure(value, SessionFilter)


def summary_of(value: Any) -> Summary:
    return _CONVERTER.structure(value, Summary)


def health_of(value: Any) -> list[UpstreamHealth]:
    return _CONVERTER.structure(value, list[UpstreamHealth])


def mirrors_of(value: Any) -> list[MirrorState]:
    return _CONVERTER.structure(value, list[MirrorState])


def plain_family(family: Metric) -> list[Any]:
    """A family of metrics, without time stamps and exemplars, which the gateway does not use."""
    samples = [[each.name, each.labels, each.value] for each in family.samples]
    return [family.name, family.documentation, family.type, family.unit, samples]


def family_of(value: Any) -> Metric:
    name, documentation, type_, unit, samples = value
    # The unit is a part of the name already.
    family = Metric(name, documentation, type_, unit)
    family.samples = [Sample(*each) for each in samples]
    return family
