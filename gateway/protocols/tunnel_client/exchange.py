"""The commands of a session under way, and their answers in order, over its connections.

- A server that agreed on nothing gets one command at a time, on one connection. If that is lost before the
  answer is complete, the session has failed: whether the command took effect is not known.
- A server that resumes (``tunnel_options``) gets as many commands as it keeps answers for. What was not
  answered on a lost connection is sent again on a new one, by the same numbers, and what had arrived of the
  answer is skipped.
- Without a proxy between, all commands are pipelined on one connection. A proxy may forward a request only
  when the one before it is answered, or close the connection after an answer: then each connection has
  one command under way. They are opened when they are needed, and the next one in advance if they do not
  persist.

Deadlines: for the progress of the oldest answer, for connections that may be dead (``lane``), and for
recovery from lost ones. Which commands are sent is decided in ``client``, and the order of their answers
kept in ``ordered_answers``.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

from gateway.errors import BadResponse
from gateway.protocols.commands import Kind
from gateway.protocols.limits import Limits, is_slow
from gateway.protocols.responses import Response
from gateway.protocols.tunnel_client.interfaces import End, Links
from gateway.protocols.tunnel_client.lane import Command, Lane
from gateway.protocols.tunnel_client.ordered_answers import OK, OrderedAnswers, Owner
from gateway.protocols.tunnel_client.requests import Requests
from gateway.protocols.tunnel_options import MOST_LANES, Options

# From a proxy that could not reach the server: whether the command took effect is not known.
_OF_PROXY: Final = frozenset((502, 503, 504))
# Looking a member up in its Enum costs as much as a call.
_OPEN, _SEND = Kind.OPEN, Kind.SEND
# The pause before the second attempt to connect again, in seconds; it doubles up to the longest.
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0
_MOST_FAILURES: Final = 32
# How long nothing may arrive on a connection, beyond the time for which the server holds an answer.
# Segments that are lost three times in a row take less; a person notices a longer pause. It doubles up to
# the longest while it leads to no answer: the server may be slow.
_QUIET_S: Final = 2.0
_LONGEST_QUIET_S: Final = 15.0


class Exchange:
    """``in_flight``: all commands whose answers have not been delivered, oldest first."""

    def __init__(self, limits: Limits, requests: Requests, links: Links, owner: Owner) -> None:
        self._limits = limits
        self._requests = requests
        self._links = links
        self._owner = owner
        self._answers = OrderedAnswers(limits.down_buffer_bytes, owner)
        self._lanes = [Lane(index, limits) for index in range(MOST_LANES)]
        self._last = self._lanes[0]
        self._options = Options()
        # Whether connections persist, as far as is known.
        self._persist = True
        # The commands of ``in_flight`` that are not under way.
        self._waiting: deque[Command] = deque()
        # Losses since the last complete answer, and the last one; when to connect again, and until when.
        self._failures = 0
        self._last_end = End.LOST
        self._retry_at = self._recover_by = inf
        self._is_paused = False
        # When to look for dead connections next, and how long one may be quiet.
        self._check_at = inf
        self._quiet_s = _QUIET_S
        self.session_id = b""
        self.in_flight = self._answers.in_flight

    @property
    def has_room(self) -> bool:
        """Whether another command can be sent now."""
        return len(self.in_flight) < max(1, self._options.commands) and not self._waiting

    @property
    def in_flight_bytes(self) -> int:
        """The data of the sends under way."""
        return self._answers.in_flight_bytes

    @property
    def deadline(self) -> float:
        """When ``expire`` must be called."""
        due_at = self.in_flight[0].due_at if self.in_flight else inf
        if self._waiting:
            due_at = min(due_at, self._retry_at, self._recover_by)
        return min(due_at, self._check_at)

    @property
    def resumes(self) -> bool:
        """Whether the server keeps answers to commands that are repeated."""
        return self._options.commands > 0

    def agree(self, options: Options) -> None:
        """From now on, exchange commands as agreed with the server."""
        self._options = options
        self._quiet_s = self._least_quiet_s

    def send(self, kind: Kind, number: int, body: bytes, now: float) -> None:
        """Send a command. Must be called only if there is room."""
        command = Command(kind, number, body, now, now + self._limits.silent_session_s)
        self._answers.put(command)
        self._waiting.append(command)
        self._send_waiting(now)

    def pause(self, is_paused: bool, now: float) -> None:
        """The connections are not read, or are read again. Answers are not late while they are not read."""
        self._is_paused = is_paused
        for command in self.in_flight:
            command.due_at = now + self._limits.silent_session_s
        for lane in self._lanes:
            lane.heard_at = now
        if not self._waiting:
            # Otherwise the time for recovery would have passed already if a connection is lost after a long
            # pause.
            self._failures, self._recover_by = 0, inf

    def stop(self, last: bytes) -> None:
        """Close the connections, after ``last`` on one of them. Nothing follows."""
        for lane in self._lanes:
            if lane.is_connected and last:
                self._links.write_link(lane.index, last, b"")
                last = b""
            if lane.is_connected or lane.is_connecting:
                self._links.close_link(lane.index)
            lane.reset()
        self._answers.clear()
        self._waiting.clear()
        self._recover_by = self._check_at = inf

    # From the connections

    def connected(self, index: int, now: float) -> None:
        """A connection has been established."""
        lane = self._lanes[index]
        lane.is_connecting, lane.is_connected = False, True
        self._send_waiting(now)

    def lost(self, index: int, now: float, end: End = End.LOST, cause: str = "") -> None:
        """A connection was lost, or could not be established."""
        lane = self._lanes[index]
        was_connected = lane.is_connected
        unanswered = lane.reset()
        if (unanswered and not self._options.commands) or not self.session_id:
            self._owner.failed(
                end, cause or "the connection was lost before the answer was complete"
            )
        elif unanswered or not was_connected:
            self._wait_again(unanswered)
            self._note_failure(end, cause, now)

    def receive(self, index: int, data: bytes, now: float) -> None:
        """Bytes from a connection."""
        lane = self._lanes[index]
        if not lane.is_connected:
            return
        lane.heard_at = now
        lane.reader.receive(data)
        try:
            while lane.commands and self._read_answer(lane, now):
                pass
        except BadResponse as error:
            self._owner.failed(End.LOST, f"its answer is not one of HTTP: {error}")
            return
        if not lane.commands and lane.is_connected and lane.reader.buffer:
            # Such as a 408 before the server closes a connection that was not used.
            self._drop(lane)
        self._send_waiting(now)

    def expire(self, now: float) -> None:
        """``deadline`` has passed."""
        if self._waiting and now >= self._recover_by:
            self._owner.failed(self._last_end, "no connection could be established again in time")
        elif self._waiting and now >= self._retry_at:
            self._send_waiting(now)
        if self.in_flight and now >= self.in_flight[0].due_at:
            self._expire_oldest(self.in_flight[0], now)
        if now >= self._check_at:
            self._check_lanes(now)

    # Sending

    def _send_waiting(self, now: float) -> None:
        while self._waiting:
            lane = self._lane_for_next(now)
            if lane is None:
                return
            command = self._waiting.popleft()
            # ``due_at`` stays: a server that never answers would be sent the command again without end.
            command.sent_at = now
            lane.put(command, now)
            self._last = lane
            if self._check_at == inf and self.resumes:
                self._check_at = now + self._quiet_s / 2
            if command.kind is _OPEN:
                self._links.write_link(lane.index, self._requests.open(), b"")
            else:
                head = self._requests.head(
                    command.kind, self.session_id, command.number, len(command.body)
                )
                self._links.write_link(lane.index, head, command.body)

    def _lane_for_next(self, now: float) -> Lane | None:
        """The connection for the next command; None if there is none yet."""
        lane = self._last
        if self._is_direct or not self.resumes:
            if lane.is_closed:
                self._connect(lane, now)
            return lane if lane.is_free or (lane.is_connected and self._is_direct) else None
        free = [each for each in self._lanes if each.is_free]
        is_spare_needed = not self._persist and self._waiting[0].kind is _SEND
        if len(free) <= is_spare_needed:
            self._connect_another(now)
        if lane.is_free:
            return lane
        return free[0] if free else None

    @property
    def _is_direct(self) -> bool:
        return self._options.direct and self._persist

    def _connect_another(self, now: float) -> None:
        """Open another connection, unless one is being opened already or there are as many as permitted."""
        if not any(lane.is_connecting for lane in self._lanes):
            closed = next((lane for lane in self._lanes if lane.is_closed), None)
            if closed is not None:
                self._connect(closed, now)

    def _connect(self, lane: Lane, now: float) -> None:
        if not lane.is_connecting and (now >= self._retry_at or self._retry_at == inf):
            lane.is_connecting = True
            self._retry_at = inf
            self._links.connect_link(lane.index)

    # Answers

    def _read_answer(self, lane: Lane, now: float) -> bool:
        """Read on in the answer to the first command of ``lane``. Returns whether it was completed."""
        command, reader = lane.commands[0], lane.reader
        if lane.response is None:
            response = reader.next_head()
            if response is None or response.interim:
                return response is not None
            if not self._accept(lane, command, response, now):
                return False
            lane.response = response
        if piece := reader.next_piece():
            if not command.begun_at:
                command.begun_at = now
                command.was_last = command is self.in_flight[-1]
            self._answers.take(command, piece)
        if lane.response is None or reader.in_body:
            return False
        persists, lane.response = lane.response.persistent, None
        lane.commands.popleft()
        command.is_answered = True
        self._failures, self._recover_by = 0, inf
        self._quiet_s = self._least_quiet_s
        if not persists:
            self._persist = False
            self._drop(lane)
        self._answers.complete(now)
        if self.in_flight:
            self.in_flight[0].due_at = now + self._limits.silent_session_s
        return True

    def _accept(self, lane: Lane, command: Command, response: Response, now: float) -> bool:
        """Whether to read the body of the response."""
        if response.status in _OF_PROXY and self._options.commands:
            self._wait_again(self._close(lane))
            self._note_failure(End.LOST, f"a proxy answers with status {response.status}", now)
            return False
        command.status = response.status
        command.skip = command.received
        if command.kind is _OPEN and response.status == OK:
            self._owner.agreed(response)
        return True

    # Losses

    def _drop(self, lane: Lane) -> None:
        """Close a connection that cannot be used any longer."""
        self._wait_again(self._close(lane))

    def _close(self, lane: Lane) -> list[Command]:
        self._links.close_link(lane.index)
        return lane.reset()

    @property
    def _least_quiet_s(self) -> float:
        return self._options.hold_s + _QUIET_S

    def _check_lanes(self, now: float) -> None:
        """Send the commands on connections that seem to be dead again on others."""
        self._check_at = now + self._quiet_s / 2 if self.in_flight else inf
        for lane in self._lanes:
            if lane.is_connected and not self._is_paused:
                unacknowledged = self._links.unacknowledged_on(lane.index)
                if lane.is_dead(now, self._quiet_s, unacknowledged):
                    self._quiet_s = min(2 * self._quiet_s, _LONGEST_QUIET_S)
                    self._drop(lane)
        self._send_waiting(now)

    def _wait_again(self, unanswered: list[Command]) -> None:
        self._waiting = deque(sorted((*unanswered, *self._waiting), key=lambda each: each.number))

    def _note_failure(self, end: End, cause: str, now: float) -> None:
        """Try again: the first time at once, and later after pauses."""
        self._failures += 1
        self._last_end = end
        if self._failures > _MOST_FAILURES:
            self._owner.failed(end, cause or "connections are lost again and again")
            return
        self._recover_by = min(self._recover_by, now + self._limits.vanished_s)
        pause_s = min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        self._retry_at = now if self._failures == 1 else now + pause_s
        self._send_waiting(now)

    def _expire_oldest(self, command: Command, now: float) -> None:
        """The oldest answer has not been complete in time."""
        received = command.received - command.received_before
        if self._is_paused or not is_slow(received, self._limits.silent_session_s):
            command.received_before = command.received
            command.due_at = now + self._limits.silent_session_s
        else:
            self._owner.failed(End.LOST, "it does not answer in time")
