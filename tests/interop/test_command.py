"""``rtmpt-gateway run`` with real processes: signals, and the replacement of the supervisor's program."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from tests.helpers.interop.echo import echo_server
from tests.helpers.interop.numbered import NumberedSession
from tests.helpers.interop.programs import Program, Programs, until
from tests.helpers.interop.servers import LOOPBACK, ROOT, port_said


def start(programs: Programs, *words: str) -> Program:
    return programs.start(
        *(sys.executable, "-c", "from gateway.command import main; main()", "run", *words),
        environment={"PYTHONPATH": str(ROOT)},
    )


def test_the_supervisors_program_is_replaced_in_its_process(
    programs: Programs, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    with echo_server() as echo:
        file.write_text(
            f'workers = 2\n[[listener]]\naddress = "{LOOPBACK}:0"\n'
            f'[[upstream]]\nservers = ["{LOOPBACK}:{echo}"]\n'
        )
        gateway = start(programs, str(file))
        port = port_said(gateway, f"listening on {LOOPBACK}:")
        sessions = [NumberedSession(port, keeps=number % 2 == 0) for number in range(4)]
        for session in sessions:
            session.step()
        gateway.send(signal.SIGUSR2)
        gateway.says("the supervisor continues")
        for session in sessions:
            session.step()
            session.finish()
        # The process that was started is still the gateway.
        gateway.send(signal.SIGTERM)
        assert gateway.ends(20) == -signal.SIGTERM
    assert "Traceback" not in gateway.log


def test_the_program_is_replaced_after_a_change_of_the_working_directory(
    programs: Programs,
) -> None:
    folder = programs.new_folder("start")
    (folder / "run").mkdir()
    (folder / "gateway.toml").write_text(f'workers = 1\n[[listener]]\naddress = "{LOOPBACK}:0"\n')
    gateway = programs.start(
        *("env", f"--chdir={folder}"),
        *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "--nodaemon"),
        *("--rundir", "run", "rtmpt-gateway", "--config", "gateway.toml"),
        environment={"PYTHONPATH": str(ROOT)},
    )
    for number in (1, 2):
        until(lambda number=number: gateway.log.count("ready: ") == number, "it is ready")
        gateway.send(signal.SIGUSR2)
    until(lambda: gateway.log.count("ready: ") == 3, "the program has been replaced twice")
    assert (folder / "twistd.pid").exists()


def test_run_accepts_options_instead_of_a_file_and_ends_at_a_signal(
    programs: Programs, tmp_path: Path
) -> None:
    with echo_server() as echo:
        gateway = start(
            programs,
            *("--listen", f"{LOOPBACK}:0", "--upstream", f"{LOOPBACK}:{echo}"),
            *("--reactor", "poll"),
        )
        session = NumberedSession(port_said(gateway, f"listening on {LOOPBACK}:"), keeps=True)
        session.step()
        session.finish()
        assert not list(tmp_path.rglob("*.pid"))
        gateway.send(signal.SIGTERM)
        assert gateway.ends(20) == -signal.SIGTERM
