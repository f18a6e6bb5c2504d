"""The JSON document, by its schema in etc/."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

from gateway.port_test.observations import (
    Delivery,
    Holding,
    Kind,
    Step,
    Throughput,
    Trial,
    Unmeasured,
)
from gateway.port_test.report import VERSION, document_of
from gateway.port_test.ways import Protocol, Route, Target
from tests.port_test.making import CERTIFICATE, failed, works

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "etc/rtmpt-port-test.schema.json").read_text())
WAY = SCHEMA["definitions"]["way"]["properties"]


def all_facts() -> Trial:
    """A trial with every fact."""
    trial = works("rtmpts", Route.PROXY)
    trial.tls_version, trial.certificate = "TLSv1.3", CERTIFICATE
    trial.code, trial.stream_code, trial.media = "NetConnection.Connect.Success", "code", True
    trial.holding = Holding(250.0, 1000.0, True, Delivery.BUFFERED)
    trial.throughput = Throughput(1e6, 2e6, 2.5e6)
    return trial


def test_the_schema_itself_is_valid_and_of_this_version() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["properties"]["version"] == {"const": VERSION}


def test_documents_match_the_schema_and_have_no_member_beside_it() -> None:
    trials = [all_facts(), works("rtmp"), failed("rtmpt", Step.OPEN, Kind.STATUS, status=403)]
    document = json.loads(json.dumps(document_of(trials, Target("host", "live", "key"), 1.0)))
    jsonschema.validate(document, SCHEMA)
    assert set(document) == set(SCHEMA["properties"]) == set(SCHEMA["required"])
    for each in document["ways"]:
        assert set(each) == set(WAY) == set(SCHEMA["definitions"]["way"]["required"])


def test_the_schema_lists_all_values() -> None:
    definitions = SCHEMA["definitions"]
    failure = WAY["failure"]["anyOf"][1]["properties"]
    held = WAY["held"]["anyOf"][1]["properties"]
    assert definitions["step"]["enum"] == [step.value for step in Step]
    assert definitions["over"]["enum"] == [route.value for route in Route]
    assert WAY["protocol"]["enum"] == [protocol.value for protocol in Protocol]
    assert failure["kind"]["enum"] == [kind.value for kind in Kind]
    assert held["delivery"]["enum"] == [*(each.value for each in Delivery), None]
    throughput = WAY["throughput"]["anyOf"][1]["properties"]
    assert throughput["cause"]["enum"] == [*(each.value for each in Unmeasured), None]


def test_objects_inside_a_way_have_the_members_of_the_schema() -> None:
    (way,) = json.loads(json.dumps(document_of([all_facts()], Target("host"), 1.0)))["ways"]
    failing = failed("rtmpt", Step.OPEN, Kind.STATUS, status=403)
    (other,) = json.loads(json.dumps(document_of([failing], Target("host"), 1.0)))["ways"]
    for name, found in (*way.items(), ("failure", other["failure"])):
        schema = next((each for each in WAY[name].get("anyOf", ()) if "properties" in each), None)
        if schema is not None and found is not None:
            assert set(found) == set(schema["properties"]) == set(schema["required"]), name


def test_the_best_way_is_first_and_named() -> None:
    trials = [failed("rtmp", Step.CONNECT, Kind.NO_ANSWER), works("rtmpt")]
    document = document_of(trials, Target("host"), 1.0)
    assert document["best"] == {"way": "rtmpt:80", "over": "IPv4"}
    assert document["works"] is True


def test_nothing_is_best_if_no_way_works() -> None:
    document = document_of([failed("rtmp", Step.CONNECT, Kind.REFUSED)], Target("host"), 1.0)
    assert (document["best"], document["works"], document["type"]) == (None, False, {})
