"""WebSockets: ours, and those of Socket.IO's clients. Each costs a socket and its state; no thread and no greenlet.

What a socket does not take waits there, and nothing more is read from the log for it until it takes bytes again.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ..broker.engineio.packets import Framing
from ..broker.hub import Hub
from ..broker.live import Delivery
from ..broker.states import StreamEnd
from ..broker.websocket import Handshake
from ..logs import get_logger
from ..settings import Settings
from .broadcast import Broadcast
from .fanout.connection import SwitchInterval
from .fanout.disconnects import DisconnectWatcher
from .notifier import LoopNotifier
from .websocket import Connection, Numbered

logger = get_logger(__name__)

#: How much is read at once (bytes). A thousand empty frames are that much, which take the loop about 20 ms.
PIECE = 8 * 1024
#: How long the others are kept waiting (seconds) before the loop polls.
TURN_S = 0.005
#: How many are sent something before the clock is looked at.
SENDS_PER_LOOK = 16
#: How often every WebSocket is looked at (seconds).
ROUND_S = 1.0
#: How long a client may take to read our last frame, and to close (seconds).
CLOSE_S = 1.0

clock = time.monotonic


class Turn:
    """Lets the loop poll when a turn is over."""

    def __init__(self) -> None:
        self._until = clock() + TURN_S

    def end(self) -> None:
        """Let the loop poll, if it is time."""
        if clock() > self._until:
            gevent.sleep(0)
            self._until = clock() + TURN_S


def _nothing() -> None:
    pass


class WebSockets:
    """All of them. Everything but ``wake`` belongs to the loop's thread.

    :param loop: the loop.
    :param hub: where events come from.
    :param settings: the settings.
    :param stopping: returns true once the server stops.
    """

    def __init__(self, loop: Any, hub: Hub, settings: Settings, stopping: Callable[[], bool]) -> None:
        self._loop, self._stopping = loop, stopping
        self._patience_s = settings.stall_s, min(settings.stall_s, settings.drain_s)  # this while it stops
        self._broadcast = Broadcast(hub, settings.max_backlog_s, Framing.WEBSOCKET)
        self._all = Numbered(SwitchInterval(settings.switch_interval_ms / 1000).adjust)
        #: Those that read the log by themselves, and whose socket is not full.
        self._alone: dict[Connection, None] = {}
        self._woken, self._on_wake = deque[Connection](), self._wake  # one method's object for all of them
        self._news, self._look_at_all = Event(), False
        self._notifier = LoopNotifier(loop, self._news.set)
        self._readable = DisconnectWatcher(loop, self._on_readable)
        self._broker, self._remove_waker = hub.broker, _nothing
        self._greenlets: list[Any] = []

    def __len__(self) -> int:
        return self._all.count

    def start(self) -> None:
        """Begin to serve."""
        self._remove_waker = self._broker.add_waker(self._on_event)
        self._greenlets = [gevent.spawn(self._serve_for_ever), gevent.spawn(self._look_after)]

    def filenos(self) -> list[int]:
        """Return the descriptors of the sockets."""
        return [connection.fileno() for connection in self._all]

    def adopt(self, fileno: int, opened: Handshake, head: bytes) -> None:
        """Take over a detached socket.

        :param fileno: the socket's descriptor.
        :param opened: the WebSocket.
        :param head: the answer to the handshake.
        """
        connection = Connection(fileno, self._on_wake)
        connection.end = opened.begin(connection)
        try:
            connection.prepare()
            connection.read_by(self._readable, True)
        except (OSError, ValueError):  # libuv raises the latter
            connection.end.lost()
            connection.close()
            return
        self._all.add(fileno, connection)
        connection.keep(head, 0)
        self._soon(connection)

    def _wake(self, connection: Connection) -> None:
        """Have one looked at soon. Any thread may call it; it never waits."""
        self._woken.append(connection)
        self._notifier.notify()

    def _soon(self, connection: Connection) -> None:
        """Have one looked at by the writer, which alone may have it join the others: not in the middle of a step."""
        self._woken.append(connection)
        self._news.set()

    def _on_event(self) -> None:
        if self._all.count:
            self._look_at_all = True
            self._notifier.notify()

    # -- writing ---------------------------------------------------------------------------------------------

    def _serve_for_ever(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            everybody, self._look_at_all = self._look_at_all, False
            some = {self._woken.popleft(): None for _ in range(len(self._woken))}
            turn = Turn()
            if everybody or self._alone:
                for delivery, upto in self._broadcast.deliveries():
                    self._deliver(delivery, upto, turn)
                some.update(dict.fromkeys(self._all if self._stopping() else self._alone))
            for connection in some:
                self._serve(connection)
                turn.end()

    def _deliver(self, delivery: Delivery, upto: int, turn: Turn) -> None:
        """Send those that share events what is new. This is the hot loop: most of its time is spent in ``send``."""
        data, size = delivery.data, len(delivery.data)
        members: list[Connection] = delivery.members
        for start in range(0, len(members), SENDS_PER_LOOK):
            for connection in members[start:start + SENDS_PER_LOOK]:
                if connection.stream is None:
                    continue  # it has left, or is closed: the loop has polled since the step was planned
                if not data:
                    self._go_alone(connection)
                    continue
                try:
                    taken = connection.send(data)
                except (BlockingIOError, InterruptedError):
                    taken = 0
                except OSError:
                    self._close(connection)
                    continue
                if taken != size:
                    connection.keep(data, taken)
                    self._go_alone(connection, upto)
                    connection.await_room(self._loop, self._soon)
            turn.end()

    def _go_alone(self, connection: Connection, position: int | None = None) -> None:
        self._broadcast.leave(connection, position)
        self._alone[connection] = None

    def _serve(self, connection: Connection) -> None:
        """Send what there is, as long as the socket takes it; read again if that was suspended. For the writer."""
        if connection.fileno() < 0:
            return  # closed meanwhile
        self._go_alone(connection)
        try:
            self._send(connection)
            if connection.pending is None and not connection.last:
                self._broadcast.join(connection)
            if connection.shares or connection.pending is not None:
                self._alone.pop(connection, None)
        except OSError:
            self._close(connection)
        except Exception:
            logger.exception("a WebSocket failed and is closed")
            self._close(connection, StreamEnd.FAILED)

    def _send(self, connection: Connection) -> None:
        end = connection.end
        if self._stopping():
            end.stop()
        all_taken = connection.flush()
        while all_taken and not connection.last and (data := end.take()):
            all_taken = connection.offer(data)
        if not all_taken:
            connection.await_room(self._loop, self._soon)
            return
        connection.stop_waiting()
        if end.over and not connection.last:
            connection.last, connection.progress_at = True, clock()
            connection.shutdown(socket.SHUT_WR)  # the client reads the last frame, and closes
        connection.read_by(self._readable, not end.paused)
        connection.call_in(self._loop, end.wait_s, self._soon)

    # -- reading ---------------------------------------------------------------------------------------------

    def _on_readable(self, fileno: int) -> None:
        connection = self._all.find(fileno)
        if connection is None:
            return
        try:
            data = connection.recv(PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
        elif not connection.end.over:
            connection.end.receive(data)
            if not connection.end.idle:
                self._soon(connection)

    # -- life ------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Close those that take nothing, or do not close."""
        while True:
            gevent.sleep(ROUND_S)
            now, patience_s = clock(), self._patience_s[self._stopping()]
            for connection in list(self._all):
                quiet = now - connection.progress_at
                if connection.pending is not None and quiet > patience_s:
                    self._close(connection, StreamEnd.STALLED)
                elif connection.last and quiet > CLOSE_S:
                    self._close(connection)

    def _close(self, connection: Connection, end: StreamEnd = StreamEnd.GONE) -> None:
        if connection.fileno() < 0:
            return
        self._all.remove(connection.fileno())
        self._go_alone(connection)
        del self._alone[connection]
        connection.read_by(self._readable, False)
        connection.close()
        connection.end.lost(end)

    def close(self) -> None:
        """Close all of them, and serve no more."""
        self._remove_waker()
        for connection in list(self._all):
            self._close(connection)
        gevent.killall(self._greenlets)
        self._readable.close()
        self._notifier.close()
