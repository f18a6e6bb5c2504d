"""Several worker processes as one gateway: no session notices which worker its commands reach."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import count, pairwise
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.helpers.interop.clients import publish, url
from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession, SessionEnded
from tests.helpers.interop.programs import Programs, until
from tests.helpers.interop.servers import LOOPBACK, run_gateway, start_gateway
from tests.helpers.interop.workers import FORWARDED, TAKEN, Gateway
from tests.interop.conftest import Upstream


@pytest.fixture
def echo() -> Iterator[int]:
    with echo_server() as port:
        yield port


@pytest.fixture
def gateway(programs: Programs, tmp_path: Path, echo: int) -> Iterator[Gateway]:
    started = Gateway(programs, tmp_path, echo)
    yield started
    stop(programs, started)


def stop(programs: Programs, gateway: Gateway) -> None:
    began = monotonic()
    programs.stop()
    assert monotonic() - began < 15
    assert "Traceback" not in gateway.program.log


@pytest.fixture(scope="module")
def lasting_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("shared")
    programs = Programs(folder)
    with echo_server() as echo:
        started = Gateway(programs, folder, echo)
        yield started
        stop(programs, started)


@pytest.fixture
def shared_gateway(lasting_gateway: Gateway) -> Iterator[Gateway]:
    """A gateway that serves several tests. Each leaves it with two workers, and without sessions."""
    yield lasting_gateway
    lasting_gateway.await_workers()
    assert lasting_gateway.total("rtmpt_gateway_sessions") == 0


def test_commands_reach_their_session_from_every_worker(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    before = {name: gateway.metrics()[name] for name in (FORWARDED, TAKEN)}
    bytes_before = gateway.total("rtmpt_gateway_bytes_total")
    sessions = [
        NumberedSession(gateway.port, keeps=number % 4 == 0, announces=number % 4 == 1)
        for number in range(20)
    ]
    for _ in range(10):
        for session in sessions:
            session.step()
    assert len({session.worker for session in sessions}) == 2
    assert {each["alias"][:4] for each in gateway.sessions()} == {each.worker for each in sessions}
    assert gateway.total("rtmpt_gateway_sessions") == 20
    assert gateway.metrics()[FORWARDED] > before[FORWARDED] + 20
    assert gateway.metrics()[TAKEN] > before[TAKEN] + 20
    for session in sessions:
        session.finish()
    assert gateway.total("rtmpt_gateway_sessions") == 0
    sent = sum(len(session.sent) for session in sessions)
    assert gateway.total("rtmpt_gateway_bytes_total") == bytes_before + 2 * sent


def test_sessions_of_the_port_test_are_reached_by_its_own_requests_alone(
    programs: Programs, tmp_path: Path, echo: int
) -> None:
    gateway = Gateway(programs, tmp_path, echo, "[port_test]\nenabled = true\n")
    with ExitStack() as stack:
        # A connection with each worker, and a session of the port test there.
        at: dict[str, tuple[HTTPConnection, str]] = {}
        while len(at) < 2:
            connection = stack.enter_context(closing(HTTPConnection(LOOPBACK, gateway.port)))
            session_id = post(connection, "/port-test/open/1")[1]
            at.setdefault(session_id[:4], (connection, session_id))
        (one, session_id), (other, _) = at.values()
        assert post(other, f"/idle/{session_id}/0")[0] == 404
        assert post(other, f"/port-test/idle/{session_id}/0")[0] == 200
        ordinary = post(one, "/open/1")[1]
        assert post(other, f"/port-test/idle/{ordinary}/0")[0] == 404
        assert post(other, f"/idle/{ordinary}/0")[0] == 200


def test_a_session_of_the_port_test_survives_a_reload_between_its_connections(
    programs: Programs, tmp_path: Path, echo: int
) -> None:
    gateway = Gateway(programs, tmp_path, echo, "[port_test]\nenabled = true\n")
    session_id = post_once(gateway.port, "/port-test/open/1")[1]
    numbers = count()

    def lives_and(condition: Callable[[], bool]) -> bool:
        number = next(numbers)
        assert post_once(gateway.port, f"/port-test/idle/{session_id}/{number}")[0] == 200
        return condition()

    gateway.configure(sessions=200, more="[port_test]\nenabled = true\n")
    gateway.program.send(signal.SIGHUP)
    until(lambda: lives_and(lambda: gateway.states() == (2, 1)), "one old worker retires")
    for _ in range(3):
        assert lives_and(lambda: gateway.states() == (2, 1))
    assert post_once(gateway.port, f"/port-test/close/{session_id}/{next(numbers)}")[0] == 200
    gateway.await_workers()


def post_once(port: int, path: str) -> tuple[int, str]:
    """As ``post``, on a connection of its own."""
    with closing(HTTPConnection(LOOPBACK, port)) as connection:
        return post(connection, path)


def post(connection: HTTPConnection, path: str) -> tuple[int, str]:
    """Status and body of the answer."""
    connection.request("POST", path, b"\0")
    answer = connection.getresponse()
    return answer.status, answer.read().decode().strip()


@pytest.mark.alone
def test_reloads_cut_no_session_and_refuse_no_open(gateway: Gateway) -> None:
    sessions = [NumberedSession(gateway.port, keeps=number % 2 == 0) for number in range(12)]
    opened = gateway.total("rtmpt_gateway_sessions_opened_total")
    for _ in range(3):
        gateway.reload()
        sessions += [NumberedSession(gateway.port, keeps=number % 2 == 0) for number in range(4)]
        for session in sessions:
            session.step()
    assert max(session.opened_in_s for session in sessions) < 0.5
    assert len({session.worker for session in sessions}) >= 4
    assert gateway.states()[1] >= 2
    assert gateway.total("rtmpt_gateway_sessions_opened_total") == opened + 12
    for session in sessions:
        session.finish()
    gateway.await_workers()
    # No counter falls when workers end.
    assert gateway.total("rtmpt_gateway_sessions_opened_total") == opened + 12
    sent = sum(len(session.sent) for session in sessions)
    assert gateway.total("rtmpt_gateway_bytes_total") == 2 * sent
    assert len(gateway.worker_pids) == 2


def test_workers_survive_signals_for_the_supervisor(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    session = NumberedSession(gateway.port, keeps=True)
    pids = gateway.worker_pids
    for pid in pids:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
            os.kill(pid, number)
    session.step()
    session.finish()
    assert gateway.worker_pids == pids


def test_a_wrong_configuration_changes_nothing(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    valid = gateway.file.read_text()
    session = NumberedSession(gateway.port, keeps=False)
    pids = gateway.worker_pids
    gateway.configure(more="[tunnel]\nlatency = 17\n")
    gateway.program.send(signal.SIGHUP)
    gateway.program.says("the old configuration stays in use: ")
    assert "latency" in gateway.program.log
    session.step()
    session.finish()
    assert gateway.worker_pids == pids
    assert gateway.metrics()['rtmpt_gateway_reloads_total{outcome="failed"}'] == 1
    gateway.file.write_text(valid)


def test_the_admin_server_reloads_and_reports_errors(gateway: Gateway) -> None:
    assert gateway.post_reload() == (200, {"reloaded": ["certificates"]})
    gateway.change_configuration()
    assert gateway.post_reload() == (200, {"reloaded": ["configuration"]})
    gateway.configure(more="[tunnel]\nlatency = 17\n")
    status, problem = gateway.post_reload()
    assert status == 422
    assert "gateway.toml: line " in problem["detail"]
    # A file that only a worker can find to be wrong.
    gateway.configure()
    text = gateway.file.read_text()
    gateway.file.write_text(text.replace('servers = ["127.0.0.1', 'servers = ["no.such.invalid'))
    status, problem = gateway.post_reload()
    assert status == 422
    assert "no.such.invalid" in problem["detail"]
    gateway.await_workers()
    NumberedSession(gateway.port, keeps=True).finish()


def test_a_reload_changes_the_number_of_workers_and_the_limits(gateway: Gateway) -> None:
    gateway.file.write_text(gateway.file.read_text().replace("workers = 2", "workers = 3"))
    gateway.reload()
    gateway.await_workers(3)
    gateway.configure(sessions=7)
    gateway.reload()
    gateway.await_workers(2)
    assert gateway.metrics()["rtmpt_gateway_sessions_limit"] == 7


def test_a_file_that_becomes_invalid_during_an_upgrade_ends_nothing(gateway: Gateway) -> None:
    session = NumberedSession(gateway.port, keeps=True)
    session.step()
    valid = gateway.file.read_text()
    gateway.program.send(signal.SIGUSR2)
    # The file has been read then.
    until(lambda: len(gateway.program.children) > 2, "new workers start")
    gateway.file.write_text("nonsense")
    gateway.program.says("the supervisor continues")
    session.step()
    gateway.program.send(signal.SIGHUP)
    gateway.program.says("the old configuration stays in use: ")
    gateway.file.write_text(valid.replace("workers = 2", "workers = 3"))
    gateway.reload()
    gateway.await_workers(3, retiring=1)
    session.finish()


def test_the_supervisors_program_is_replaced_without_a_cut(gateway: Gateway) -> None:
    sessions = [NumberedSession(gateway.port, keeps=number % 2 == 0) for number in range(10)]
    opened = gateway.total("rtmpt_gateway_sessions_opened_total")
    for round_ in range(2):
        # Unused ones would end after ten seconds, which a replacement can take on a busy machine.
        for session in sessions:
            session.step()
        gateway.program.send(signal.SIGUSR2)
        until(
            lambda round_=round_: gateway.program.log.count("the supervisor continues") > round_,
            "the program has been replaced",
        )
        for session in sessions:
            session.step()
        sessions += [NumberedSession(gateway.port, keeps=False) for _ in range(3)]
    assert gateway.total("rtmpt_gateway_sessions_opened_total") == opened + 6
    assert gateway.metrics()['rtmpt_gateway_reloads_total{outcome="succeeded"}'] == 2
    for session in sessions:
        session.step()
        session.finish()
    gateway.await_workers()
    assert gateway.total("rtmpt_gateway_sessions_opened_total") == opened + 6
    # It still replaces workers, and reloads.
    os.kill(gateway.worker_pids[0], signal.SIGKILL)
    gateway.reload()
    gateway.await_workers()
    NumberedSession(gateway.port, keeps=True).finish()


def test_a_rotated_access_log_is_reopened_by_old_and_new_workers(
    gateway: Gateway, tmp_path: Path
) -> None:
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    gateway.configure(more=f'[log]\naccess = "{log}"\n')
    gateway.reload()
    gateway.await_workers()
    old = NumberedSession(gateway.port, keeps=False)
    log.rename(rotated)
    gateway.reload()
    NumberedSession(gateway.port, keeps=False).finish()
    old.finish()
    gateway.await_workers()
    events = [line.split("\t")[0] for line in log.read_text().splitlines() if line[0] != "#"]
    assert sorted(events) == ["connect", "disconnect", "disconnect"]
    assert rotated.read_text().count("\nconnect\t") == 1


def opens_in_node(gateway: Gateway, node: str) -> bool:
    """Whether a new session has this node's prefix. Old workers may still accept for a moment."""
    session = NumberedSession(gateway.port, keeps=False)
    session.finish()
    return session.worker.startswith(node)


def test_sessions_survive_a_reload_that_renames_the_node(gateway: Gateway) -> None:
    sessions = [NumberedSession(gateway.port, keeps=number % 2 == 0) for number in range(6)]
    gateway.configure(more='[node]\nid = "b2"\n')
    gateway.reload()
    gateway.await_workers(active=2, retiring=2)
    until(lambda: opens_in_node(gateway, "b2"), "new sessions have the new name")
    for session in sessions:
        session.step()
        session.finish()


def test_a_drained_server_gets_no_new_sessions_over_a_reload_and_an_upgrade(
    gateway: Gateway,
) -> None:
    old = NumberedSession(gateway.port, keeps=False)
    server = json.loads(gateway.get("/upstreams"))["upstreams"][0]["name"]
    path = f"/upstreams/{server}/drain"
    gateway.change("POST", path)
    gateway.reload()
    gateway.program.send(signal.SIGUSR2)
    gateway.program.says("the supervisor continues")
    until(lambda: gateway.states()[0] == 2, "its workers are known again")
    for _ in range(4):
        with pytest.raises(SessionEnded, match="503"):
            NumberedSession(gateway.port, keeps=False)
    assert json.loads(gateway.get("/upstreams"))["upstreams"][0]["drained"]
    old.step()
    old.finish()
    gateway.change("DELETE", path)
    NumberedSession(gateway.port, keeps=False).finish()


def test_sessions_of_workers_before_a_reload_count_against_a_servers_cap(
    gateway: Gateway, echo: int
) -> None:
    """Also if the reload puts another server in front, and the supervisor's program is replaced."""
    old = [NumberedSession(gateway.port, keeps=False) for _ in range(2)]
    for session in old:
        session.step()
    backup = '{ address = "127.0.0.1:9", backup = true }'
    capped = f'{{ address = "127.0.0.1:{echo}", max_sessions = 3 }}'
    text = gateway.file.read_text().replace(f'"127.0.0.1:{echo}"', f"{backup}, {capped}")
    gateway.file.write_text(text.replace("[admin]", "queue = 0\n[admin]"))
    gateway.reload()
    third = NumberedSession(gateway.port, keeps=False)
    third.step()
    gateway.program.send(signal.SIGUSR2)
    gateway.program.says("the supervisor continues")
    until(lambda: gateway.states()[0] == 2, "its workers are known again")
    assert opened(gateway) is None
    old[0].finish()
    fourth = until(lambda: opened(gateway), "there is a place")
    for session in (old[1], third, fourth):
        session.step()
        session.finish()


def opened(gateway: Gateway) -> NumberedSession | None:
    """A session, unless it is refused."""
    try:
        return NumberedSession(gateway.port, keeps=False)
    except SessionEnded:
        return None


def test_a_server_set_down_stays_down_over_a_reload_and_an_upgrade_until_it_is_set_up(
    gateway: Gateway,
) -> None:
    server = json.loads(gateway.get("/upstreams"))["upstreams"][0]["name"]
    gateway.change("POST", f"/upstreams/{server}/drain")
    gateway.change("POST", f"/upstreams/{server}/down")
    gateway.reload()
    gateway.program.send(signal.SIGUSR2)
    gateway.program.says("the supervisor continues")
    until(lambda: gateway.states()[0] == 2, "its workers are known again")
    # The next ones are told by the supervisor's successor.
    gateway.reload()
    gateway.await_workers()
    for _ in range(4):
        with pytest.raises(SessionEnded, match="503"):
            NumberedSession(gateway.port, keeps=False)
    assert json.loads(gateway.get("/upstreams"))["upstreams"][0]["state"] == "set_down"
    gateway.change("POST", f"/upstreams/{server}/up")
    assert json.loads(gateway.get("/upstreams"))["upstreams"][0]["state"] == "up"
    NumberedSession(gateway.port, keeps=False).finish()


def test_a_command_of_an_unknown_worker_is_404_and_counted(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    unknown = 'rtmpt_gateway_forwarded_commands_total{outcome="unknown_worker"}'
    before = gateway.metrics()[unknown]
    with closing(HTTPConnection("127.0.0.1", gateway.port, timeout=10)) as connection:
        for session_id in ("00zzunknown", "zz01unknown", "0001unknown", "none"):
            connection.request("POST", f"/send/{session_id}/1", b"data")
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (404, b"")
    assert gateway.metrics()[unknown] >= before + 3
    assert gateway.total("rtmpt_gateway_sessions") == 0


def test_workers_hold_no_socket_of_the_admin_server_after_a_replacement(gateway: Gateway) -> None:
    for number in range(2):
        gateway.program.send(signal.SIGUSR2)
        until(
            lambda number=number: gateway.program.log.count("the supervisor continues") > number,
            "the program has been replaced",
        )
    # The workers of a second reload were started by the successor.
    gateway.await_workers()
    gateway.program.kill()
    # Or a new gateway could not listen there.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", gateway.admin), timeout=5).close()


def test_a_supervisor_of_one_worker_is_replaced_too(gateway: Gateway) -> None:
    session = NumberedSession(gateway.port, keeps=False)
    gateway.file.write_text(gateway.file.read_text().replace("workers = 2", "workers = 1"))
    gateway.program.send(signal.SIGUSR2)
    gateway.program.says("the supervisor continues")
    session.step()
    session.finish()
    gateway.await_workers(1)


def test_a_drained_gateway_stays_drained_over_a_reload(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    session = NumberedSession(gateway.port, keeps=True)
    gateway.change("POST", "/drain")
    gateway.reload()
    gateway.await_workers(active=2, retiring=1)
    with pytest.raises(SessionEnded, match="503"):
        NumberedSession(gateway.port, keeps=False)
    gateway.change("DELETE", "/drain")
    NumberedSession(gateway.port, keeps=False).finish()
    session.finish()


def test_limits_hold_over_all_workers(gateway: Gateway) -> None:
    gateway.configure(sessions=10)
    gateway.reload()
    gateway.await_workers()
    sessions = [NumberedSession(gateway.port, keeps=True) for _ in range(10)]
    assert len({session.worker for session in sessions}) == 2
    for _ in range(5):
        with pytest.raises(SessionEnded, match="503"):
            NumberedSession(gateway.port, keeps=True)
    for session in sessions:
        session.finish()
    NumberedSession(gateway.port, keeps=True).finish()


def test_a_killed_worker_takes_its_own_sessions_alone_and_is_replaced(
    shared_gateway: Gateway,
) -> None:
    gateway = shared_gateway
    sessions = [NumberedSession(gateway.port, keeps=False) for _ in range(12)]
    for session in sessions:
        session.step()
    # The supervisor has heard how many sessions each worker has.
    until(lambda: len(gateway.sessions()) == 12, "all sessions are listed")
    owners = Counter(session.worker for session in sessions)
    killed = gateway.worker_pids[0]
    until(lambda: gateway.total("rtmpt_gateway_sessions") == 12, "all are counted")
    wait_for_reports()
    os.kill(killed, signal.SIGKILL)
    gateway.await_workers()
    lost = []
    for session in sessions:
        try:
            session.step()
        except SessionEnded:
            lost.append(session)
    assert {session.worker for session in lost} == {lost[0].worker}
    assert len(lost) == owners[lost[0].worker] < 12
    for session in sessions:
        if session not in lost:
            session.finish()
    NumberedSession(gateway.port, keeps=False).finish()
    ends = {
        series: value
        for series, value in gateway.metrics().items()
        if "sessions_ended_total" in series and "worker_lost" in series
    }
    assert sum(ends.values()) == len(lost)


_COUNTING = re.compile(r"\w+_(total|count|sum|bucket)(\{.*)?")


def counters(gateway: Gateway) -> dict[str, float]:
    """All series that must not fall."""
    return {
        series: value for series, value in gateway.metrics().items() if _COUNTING.fullmatch(series)
    }


def scraped_while_killed(gateway: Gateway, pid: int) -> Iterator[dict[str, float]]:
    """The counters before and after this worker is killed, which has had sessions."""
    sessions = [NumberedSession(gateway.port, keeps=number % 2 == 0) for number in range(8)]
    for session in sessions:
        session.step()
    with closing(HTTPConnection(LOOPBACK, gateway.port)) as connection:
        post(connection, "/port-test/open/1")
    yield counters(gateway)
    # What is counted from here on is lost with the worker.
    for session in sessions:
        session.step()
    os.kill(pid, signal.SIGKILL)
    until(lambda: pid not in gateway.worker_pids, "the worker has ended")
    for _ in range(10):
        yield counters(gateway)
    gateway.await_workers()
    yield counters(gateway)
    for session in sessions:
        session.drop()


def test_no_counter_falls_when_a_worker_is_killed(
    programs: Programs, tmp_path: Path, echo: int
) -> None:
    gateway = Gateway(programs, tmp_path, echo, "[port_test]\nenabled = true\n")
    scrapes = [counters(gateway)]
    for pid in gateway.worker_pids:
        scrapes += scraped_while_killed(gateway, pid)
    assert len(scrapes[0]) > 200
    for before, after in pairwise(scrapes):
        fallen = {name: (value, after.get(name)) for name, value in before.items()}
        assert not {name: pair for name, pair in fallen.items() if (pair[1] or 0) < pair[0]}
        assert before.keys() <= after.keys()


def test_no_counter_falls_when_the_supervisors_program_is_replaced(
    programs: Programs, tmp_path: Path, echo: int
) -> None:
    # With several servers, they are checked; this one does not listen.
    other = '[[upstream]]\nname = "other"\nservers = ["127.0.0.2:1"]\n'
    gateway = Gateway(programs, tmp_path, echo, other)
    NumberedSession(gateway.port, keeps=True).finish()
    hanging = gateway.worker_pids[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        until(lambda: gateway.total("rtmpt_gateway_workers_unanswered_total"), "it is left out")
    finally:
        os.kill(hanging, signal.SIGCONT)
    gateway.await_workers()
    until(lambda: gateway.total("rtmpt_gateway_upstream_check_seconds_count") >= 2, "all checked")
    before = counters(gateway)
    gateway.program.send(signal.SIGUSR2)
    gateway.program.says("the supervisor continues")
    gateway.await_workers()
    after = counters(gateway)
    assert not {
        name: (value, after.get(name, 0))
        for name, value in before.items()
        if after.get(name, 0) < value
    }


def test_a_worker_that_hangs_is_left_out_and_the_others_go_on(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    before = gateway.total("rtmpt_gateway_sessions_opened_total")
    unanswered = gateway.total("rtmpt_gateway_workers_unanswered_total")
    hanging = gateway.worker_pids[0]
    os.kill(hanging, signal.SIGSTOP)
    try:
        began = monotonic()
        assert gateway.total("rtmpt_gateway_workers_unanswered_total") >= unanswered + 1
        # A second for each question that it does not answer.
        assert monotonic() - began < 5
        for _ in range(5):
            NumberedSession(gateway.port, keeps=True).finish()
        # Its counters are still there, as they were last known.
        assert gateway.total("rtmpt_gateway_sessions_opened_total") == before + 5
    finally:
        os.kill(hanging, signal.SIGCONT)
    gateway.await_workers()


def wait_for_reports() -> None:
    sleep(1.2)


def test_sessions_go_on_when_the_supervisor_is_killed(gateway: Gateway) -> None:
    session = NumberedSession(gateway.port, keeps=True)
    session.step()
    pids = gateway.worker_pids
    gateway.program.kill()
    for _ in range(5):
        session.step()
    session.finish()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the workers end")


def test_a_stop_waits_for_sessions_and_ends_all_processes(gateway: Gateway) -> None:
    session = NumberedSession(gateway.port, keeps=False)
    session.step()
    pids = gateway.worker_pids
    gateway.program.send(signal.SIGTERM)
    gateway.program.says("sessions may end by themselves")
    session.step()
    session.finish()
    # As twistd ends after a signal.
    assert gateway.program.ends(10) == -signal.SIGTERM
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_start_that_fails_in_a_worker_is_one_line(programs: Programs, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(
        'workers = 2\n[[listener]]\naddress = "127.0.0.1:0"\n[[upstream]]\nservers = ["no.such.invalid"]\n'
    )
    gateway = run_gateway(programs, "--config", str(file))
    assert gateway.ends(30) == 1
    assert "Traceback" not in gateway.log
    lines = [line for line in gateway.log.splitlines() if "no.such.invalid" in line]
    assert lines


def test_connections_spread_evenly(shared_gateway: Gateway) -> None:
    gateway = shared_gateway
    with ExitStack() as stack:
        for _ in range(1000):
            connection = socket.create_connection(("127.0.0.1", gateway.port))
            stack.enter_context(closing(connection))
            connection.sendall(b"POST /idle/none/1 HTTP/1.1\r\nHost: a\r\n")
        shares = [Path(f"/proc/{pid}/fd") for pid in gateway.worker_pids]
        until(lambda: sum(sockets_of(each) for each in shares) >= 1000, "all are accepted")
        counts = [sockets_of(each) for each in shares]
    assert max(counts) < 1.2 * sum(counts) / len(counts)


def sockets_of(folder: Path) -> int:
    return sum(str(each.readlink()).startswith("socket:") for each in folder.iterdir())


def test_a_publisher_that_returns_to_another_worker_replaces_its_older_session(
    programs: Programs, nginx: Upstream, tmp_path: Path, stream: str, clip: Path
) -> None:
    """nginx-rtmp refuses a second publisher, so the older one must have ended before."""
    file = tmp_path / "replacing.toml"
    file.write_text(
        f'[[listener]]\naddress = "{LOOPBACK}:0"\n[[upstream]]\nservers = ["{nginx.server}"]\n'
        "[tunnel]\nreplace_publisher = true\n"
    )
    gateway, port = start_gateway(programs, "--config", str(file))
    for number, protocol in enumerate(("rtmpt", "rtmp", "rtmpt", "rtmp")):
        publish(programs, clip, url(protocol, port, stream), in_a_loop=True)
        until(lambda number=number: gateway.log.count(" publishes ") == number + 1, "it publishes")
        # Its worker retires with it, and the next publisher comes to another one.
        with file.open("a") as configuration:
            configuration.write("# changed\n")
        gateway.send(signal.SIGHUP)
        until(
            lambda number=number: gateway.log.count("reloaded configuration") == number + 1,
            "it has reloaded",
        )
        # The older session's worker has a log line of its own, which can come later.
        until(
            lambda number=number: gateway.log.count("replaced by") == number,
            "the older one has ended",
        )
    sleep(1)
    assert gateway.log.count(" ended: ") == gateway.log.count("replaced by") == 3
