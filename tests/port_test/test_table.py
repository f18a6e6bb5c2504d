"""The result for people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.port_test.observations import (
    Certificate,
    Failure,
    Holding,
    Kind,
    Step,
    Throughput,
    Trial,
)
from gateway.port_test.table import report_of, table_of
from gateway.port_test.ways import Route, Target
from tests.port_test.making import CERTIFICATE, failed, way, works


def lines_of(*trials: Trial, width: int = 100) -> list[str]:
    return report_of(trials, Target("host", "live"), 1.234, width)


def test_the_table_has_a_row_for_each_trial_in_columns() -> None:
    tunnel = works("rtmpt", round_trip_ms=123.4)
    tunnel.holding = Holding(held_ms=251.2)
    secure = works("rtmps", Route.PROXY)
    secure.tls_version, secure.certificate = "TLSv1.3", CERTIFICATE
    secure.times_ms[Step.PROXY] = 21.0
    assert table_of([tunnel, secure, failed("rtmp", Step.CONNECT, Kind.NO_ANSWER)]) == [
        "way        over   connect  TLS                      RTMP    round trip  result",
        "rtmpt:80   IPv4   2.0 ms   -                        3.0 ms  123 ms      works, holds for 251 ms",
        "rtmps:443  proxy  21 ms    1.3, 60 days, Public CA  3.0 ms  10 ms       works",
        "rtmp:1935  IPv4   -        -                        -       -           no answer",
    ]


@pytest.mark.parametrize("step", Step)
def test_a_trial_that_runs_shows_its_step(step: Step) -> None:
    assert table_of([Trial(way("rtmp"), Route.IPV4, step)])[1].endswith(" ...")


@pytest.mark.parametrize("kind", Kind)
def test_every_failure_has_a_short_result(kind: Kind) -> None:
    trial = failed("rtmp", Step.HANDSHAKE, kind, status=404)
    assert len(table_of([trial])[1].partition("-           ")[2]) > 3


def test_the_manual_page_and_the_readme_have_the_columns() -> None:
    root = Path(__file__).resolve().parents[2]
    trial = works("rtmpt")
    trial.throughput = Throughput(1e6, 1e6)
    heading, _ = table_of([trial])
    columns = re.split(" {2,}", heading)
    manual = (root / "deploy/man/rtmpt-port-test.1").read_text().partition("The columns of")[2]
    described = manual.partition("Columns keep")[0]
    assert [each for each in columns if not re.search(rf"\b{each}\b", described)] == []
    shown = [column for column in columns if column not in ("up", "down")]
    readme = (root / "README.md").read_text()
    assert re.search(r"^ {4}" + " +".join(shown) + "$", readme, re.MULTILINE)


def test_the_report_begins_with_the_addresses_and_the_duration() -> None:
    assert lines_of(works("rtmp"))[0] == "host: IPv4 192.0.2.1, IPv6 none; 1.2 s"


def test_equal_sentences_are_one_with_their_ways_by_route() -> None:
    trials = [
        failed("rtmp:80", Step.CONNECT, Kind.NO_ANSWER),
        failed("rtmp:80", Step.CONNECT, Kind.NO_ANSWER, route=Route.IPV6),
        failed("rtmpt:80", Step.CONNECT, Kind.NO_ANSWER),
    ]
    (line,) = [line for line in lines_of(*trials, width=300) if "packets vanish" in line]
    assert line.startswith("  rtmp:80 over IPv4 and IPv6; rtmpt:80 over IPv4: packets vanish: ")


def test_sentences_are_wrapped_at_the_terminals_width() -> None:
    lines = lines_of(failed("rtmp", Step.HANDSHAKE, Kind.CLOSED), width=40)
    after = lines[lines.index("What is in between:") :]
    assert len(after) > 4
    assert all(len(line) <= 40 for line in after)


def test_the_report_ends_with_what_to_type_or_that_nothing_works() -> None:
    assert lines_of(works("rtmp:443"))[-4:] == [
        "Best: rtmp:443 over IPv4. To type into programs:",
        "  OBS, encoders  server rtmp://host:443/live, stream key STREAM",
        "  FFmpeg         rtmp://host:443/live/STREAM",
        "  Flash Player   connect to rtmp://host:443/live, stream STREAM",
    ]
    assert lines_of(failed("rtmp", Step.CONNECT, Kind.REFUSED))[-1] == "No way works from here."


def test_remarks_are_before_failures() -> None:
    closing = works("rtmpt")
    closing.holding = Holding(closes=True)
    lines = lines_of(closing, failed("rtmp", Step.CONNECT, Kind.REFUSED))
    assert lines.index("Remarks:") < lines.index("What is in between:")


def test_a_long_issuer_is_cut_in_the_table_and_not_in_the_sentence() -> None:
    trial = Trial(way("rtmps"), Route.IPV4, None, "192.0.2.1")
    trial.failure = Failure(Step.TLS, Kind.NOT_TRUSTED)
    trial.certificate = Certificate("s", "x" * 60, (), 1)
    table, sentences = "\n".join(table_of([trial])), " ".join(lines_of(trial, width=500)[3:])
    assert "x" * 33 not in table
    assert "x" * 60 in sentences
