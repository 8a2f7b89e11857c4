"""Heartbeats: in rounds over all streams, sends the heartbeats that are due, and closes stalled clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import gevent

from ...broker.sse import RANDOM
from ...broker.states import StreamEnd, StreamState
from ...settings import Settings
from .connection import Connection
from .connections import Connections
from .pacing import Pace

#: How many parts a round over all streams has at most, and how many seconds one takes at least: the loop's timers are
#: no finer.
PARTS = 32
LEAST_S = 0.002
#: The last part of the heartbeat's interval, in which a heartbeat may be sent: 0.5 is its second half.
SPREAD = 0.5

clock = time.monotonic


class Rounds:
    """Goes through all streams again and again, little by little, so that not all heartbeats go out at once.

    :param settings: the settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._heartbeat_s = settings.heartbeat_s
        self._planned = min(settings.heartbeat_s / 8, settings.stall_s / 4, 1.0)
        self._parts = max(1, min(PARTS, int(self._planned / LEAST_S)))
        self._took = self._planned

    def parts(self) -> Iterator[slice]:
        """Go once through all streams: yield, at its time, each of the slices of a list of them."""
        began = clock()
        for part in range(self._parts):
            gevent.sleep(max(LEAST_S / 2, began + self._planned * (part + 1) / self._parts - clock()))
            yield slice(part, None, self._parts)
        self._took = max(self._planned, clock() - began)

    def is_quiet(self, quiet_s: float) -> bool:
        """Say whether a stream may get a heartbeat.

        :param quiet_s: for how many seconds it was sent nothing.
        :return: true in the last part of the interval.
        """
        return quiet_s > self._heartbeat_s * (1 - SPREAD)

    def heartbeat_is_due(self, quiet_s: float) -> bool:
        """Say whether a stream is to get its heartbeat in this round.

        Streams that got the same last event must not get their heartbeats together. So each round gives a heartbeat to
        a part of them by chance: one of as many as there are rounds left. (Fixed moments for each stream would fall
        together again after some heartbeats.)

        :param quiet_s: for how many seconds it was sent nothing.
        :return: true if it is.
        """
        left = self._heartbeat_s - quiet_s
        return self.is_quiet(quiet_s) and RANDOM.random() * (left - self._took) < self._took


class Caretaker:
    """Looks after every stream, round by round: finds those whose heartbeat is due, and closes those that take nothing.

    :param connections: the streams.
    :param settings: the settings.
    :param pace: the turns of the writer.
    :param wake: has the writer make a pass, after which heartbeats are sent.
    """

    def __init__(self, connections: Connections, settings: Settings, pace: Pace, wake: Callable[[], object]) -> None:
        self._connections, self._pace, self._wake = connections, pace, wake
        self._stall_s = settings.stall_s
        self._rounds = Rounds(settings)
        self._due: list[Connection] = []

    def run(self, round_begins: Callable[[], object]) -> None:
        """Make rounds without end.

        :param round_begins: called at the beginning of each.
        """
        while True:
            connections = self._connections.all()
            round_begins()
            for part in self._rounds.parts():
                now = clock()
                for connection in connections[part]:
                    self._connections.guarded(self._look_after, connection, now)

    def _look_after(self, connection: Connection, now: float) -> None:
        state = connection.stream.state
        if state in (StreamState.BLOCKED, StreamState.CLOSING):
            if connection.stream.replaced:  # or a client could have many sockets wait, in one place
                self._connections.close(connection, StreamEnd.REPLACED)
                return
            # Linux reports room only when a third of the buffer is free, long after a slow client has taken a byte.
            self._connections.flush(connection)
            if connection.pending is not None and now - connection.progress_at > self._stall_s:
                self._connections.close(connection, StreamEnd.STALLED)
        elif state is not StreamState.ENDED and self._rounds.heartbeat_is_due(now - connection.progress_at):
            self._due.append(connection)
            self._wake()

    def send_heartbeats(self) -> None:
        """Send the heartbeats that are due. The writer calls this after a pass, when the positions are up to date."""
        due, self._due = self._due, []
        for connection in due:
            self._connections.guarded(self._send_heartbeat, connection)
            self._pace.sent(1)

    def _send_heartbeat(self, connection: Connection) -> None:
        if (connection.stream.state in (StreamState.LIVE, StreamState.CATCHING_UP)
                and self._rounds.is_quiet(clock() - connection.progress_at)):
            self._connections.send(connection, connection.stream.heartbeat())
