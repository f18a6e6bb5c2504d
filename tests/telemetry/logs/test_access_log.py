"""The access log: escaping, limit on lines, rotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import UpstreamUnavailable
from gateway.protocols.ingress import Ingress
from gateway.protocols.reasons import EndReason
from gateway.telemetry.logs.access_log import FIELDS, AccessLog
from gateway.telemetry.logs.line_observer import BURST
from tests.helpers.fabricated_telemetry import Node


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AccessLog]:
    log = AccessLog(tmp_path / "access.log", 10, lambda: 0.0, lambda: 1.7e9)
    log.open()
    yield log
    log.close()


def entries(path: Path) -> list[dict[str, str]]:
    lines = path.read_text().split("\n")
    assert lines.pop() == ""
    header = next(line for line in lines if line.startswith("#Fields: "))
    names = header.removeprefix("#Fields: ").split(" ")
    assert tuple(names) == FIELDS
    found = [line.split("\t") for line in lines if not line.startswith("#")]
    assert all(len(each) == len(names) for each in found)
    return [dict(zip(names, each, strict=True)) for each in found]


def refuse(log: AccessLog) -> None:
    log.refused(UpstreamUnavailable("none"), "192.0.2.1", Ingress("rtmps"))


def test_a_session_with_a_stream_has_four_lines(log: AccessLog, tmp_path: Path) -> None:
    node = Node(records=[log])
    tunnel = node.open()
    facts = tunnel.figures.facts
    facts.application, facts.action, facts.stream = "live", "publish", "news"
    facts.notice()
    node.talk([tunnel], 5)
    tunnel.session.close(node.now)
    found = entries(tmp_path / "access.log")
    assert [(each["x-event"], each["x-category"]) for each in found] == [
        ("connect", "session"),
        ("publish", "stream"),
        ("unpublish", "stream"),
        ("disconnect", "session"),
    ]
    last = found[-1]
    assert (last["date"], last["time"]) == ("2023-11-14", "22:13:20")
    assert (last["c-ip"], last["c-proto"], last["x-app"]) == ("192.0.2.1", "rtmpt", "live")
    assert (last["cs-bytes"], last["sc-bytes"], last["x-sname"]) == ("5", "5", "news")
    assert (last["c-client-id"], last["x-comment"]) == (tunnel.alias, "client_closed")
    assert "secret" not in (tmp_path / "access.log").read_text()


@pytest.mark.parametrize("hostile", ["a b", "a\nb", "a\tb", '"', "\x1b[2J", "#", "\x00", "%"])
def test_text_from_a_client_cannot_break_a_line(log, tmp_path: Path, hostile: str) -> None:
    node = Node(records=[log])
    tunnel = node.open()
    facts = tunnel.figures.facts
    facts.application = facts.stream = facts.flash_version = hostile
    facts.action = "play"
    tunnel.dismiss(EndReason.CLIENT_LOST)
    found = entries(tmp_path / "access.log")
    assert [each["x-event"] for each in found] == ["connect", "stop", "disconnect"]
    assert found[1]["x-status"] == "408"


def test_a_refused_open_has_its_status(log: AccessLog, tmp_path: Path) -> None:
    refuse(log)
    (found,) = entries(tmp_path / "access.log")
    assert (found["x-event"], found["x-status"]) == ("connect", "503")
    assert (found["c-ip"], found["c-proto"]) == ("192.0.2.1", "rtmps")
    assert found["x-comment"] == "upstream_unavailable"


def test_lines_after_a_rotation_are_written_to_a_new_file(log: AccessLog, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    refuse(log)
    path.rename(tmp_path / "access.log.1")
    refuse(log)
    log.reopen()
    refuse(log)
    assert len(entries(tmp_path / "access.log.1")) == 2
    assert len(entries(path)) == 1
    log.reopen()
    refuse(log)
    assert len(entries(path)) == 2


def test_a_file_that_cannot_be_reopened_ends_only_the_access_log(log, tmp_path) -> None:
    (tmp_path / "access.log").unlink()
    (tmp_path / "access.log").mkdir()
    log.reopen()
    refuse(log)
    log.close()


def test_a_full_disk_ends_only_the_access_log_until_it_is_reopened(
    log: AccessLog, tmp_path: Path
) -> None:
    path = tmp_path / "access.log"
    path.unlink()
    path.symlink_to("/dev/full")
    log.reopen()
    refuse(log)
    log.reopen()
    log.reopen()
    path.unlink()
    log.reopen()
    refuse(log)
    assert len(entries(path)) == 1


def test_the_number_of_lines_for_a_flood_of_opens_is_limited(
    log: AccessLog, tmp_path: Path
) -> None:
    for _ in range(BURST + 100):
        refuse(log)
    assert len(entries(tmp_path / "access.log")) == BURST
