"""The pipe for a worker's log lines to the supervisor."""

from __future__ import annotations

import os
import socket

from gateway.telemetry.logs.pipe_output import PipeOutput


def test_lines_arrive_whole_and_lines_that_do_not_fit_are_dropped() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = PipeOutput(theirs.fileno())
        lines = [f"{number} {'x' * 1000}\n" for number in range(1000)]
        for line in lines:
            output.write(line)
        assert output.dropped > 0
        received = b""
        while len(received) < 20_000:
            received += os.read(ours.fileno(), 65536)
        # There is room again: the line that was cut is completed first.
        output.write("the last one\n")
        theirs.close()
        while data := os.read(ours.fileno(), 65536):
            received += data
    found = received.decode().splitlines(keepends=True)
    assert found[-1] == "the last one\n"
    assert found[:-1] == lines[: len(found) - 1]
    assert len(found) - 1 == len(lines) - output.take_dropped()
    assert output.take_dropped() == 0
