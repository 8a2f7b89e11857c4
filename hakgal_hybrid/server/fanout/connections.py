"""Connections: the sockets of all streams of one server. Takes them over, writes without blocking, and closes them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from ...broker.live import LiveGroup
from ...broker.states import StreamEnd, StreamEvent, StreamState
from ...broker.stream import SubscriberStream
from ...logs import get_logger
from ...settings import Settings
from .connection import Connection, SwitchInterval, why_lost
from .disconnects import DisconnectWatcher
from .farewells import Farewells
from .intervals import Intervals

logger = get_logger(__name__)

#: A client has nothing to send on its stream. One that sends more bytes than this is closed.
MAX_CHATTER = 64 * 1024


class Connections:
    """All connections, and the callbacks of their sockets. For the loop's thread.

    :param loop: the loop that watches the sockets.
    :param settings: the settings.
    :param live: the streams that are live; one whose socket is full, or closed, leaves them.
    :param intervals: the streams that have an interval; one that is closed leaves them.
    :param on_end: called when a stream has ended, with the stream and the reason.
    :param wake: called when one may go on.
    :ivar catching_up: those that are catching up, in the order of their turns.
    """

    def __init__(self, loop: Any, settings: Settings, live: LiveGroup, intervals: Intervals,
                 on_end: Callable[[SubscriberStream, StreamEnd], None], wake: Callable[[], object]) -> None:
        self._loop, self._settings, self._live, self._on_end, self._wake = loop, settings, live, on_end, wake
        self._intervals = intervals
        self.catching_up: dict[Connection, None] = {}
        self._all: dict[int, Connection] = {}
        #: How many bytes each client has sent on its stream.
        self._chatter: dict[Connection, int] = {}
        self._disconnects = DisconnectWatcher(loop, self._on_readable)
        self._farewells = Farewells(loop, self.close)
        self._switching = SwitchInterval(settings.switch_interval_ms / 1000)

    def __len__(self) -> int:
        return len(self._all)

    def all(self) -> list[Connection]:
        """Return the connections. Any thread may call it."""
        return list(self._all.values())

    def forked(self) -> list[int]:
        """Put back, in a child, what open streams change in a process.

        :return: the descriptors of the sockets.
        """
        self._switching.adjust(0)
        return [connection.fileno() for connection in self.all()]

    def adopt(self, fileno: int, stream: SubscriberStream, head: bytes, *, between_steps: bool = False) -> None:
        """Take over a detached socket, and write the beginning of its stream.

        :param fileno: the socket's descriptor.
        :param stream: the stream.
        :param head: what is written before it.
        :param between_steps: whether no step is being sent, so that a stream that nothing is behind is live at once.
        """
        connection = None
        try:
            connection = Connection(fileno, stream)
            connection.prepare(self._settings)
            self._disconnects.watch(fileno)
        except (OSError, ValueError):  # libuv raises the latter
            if connection is not None:
                connection.detach()
            self._on_end(stream, StreamEnd.GONE)
            socket.close(fileno)
            return
        self._all[fileno] = connection
        self._switching.adjust(len(self._all))
        self._live.adopt(connection)
        self.catching_up[connection] = None
        self.send(connection, head + stream.opening())
        if (between_steps and stream.state is StreamState.CATCHING_UP and self._intervals.group_of(stream) is None
                and self._live.join(connection)):
            del self.catching_up[connection]
        else:
            self._wake()

    def close(self, connection: Connection, reason: StreamEnd) -> None:
        """Close a connection, unless it is closed already.

        :param connection: the connection.
        :param reason: why its stream ends.
        """
        stream = connection.stream
        if stream.state is StreamState.ENDED:
            return
        if connection.end is not None and connection.pending is None:
            reason = connection.end  # its client has got everything
        fileno = connection.fileno()
        del self._all[fileno]
        self.catching_up.pop(connection, None)
        self._chatter.pop(connection, None)
        self._live.leave(connection, stream.position)
        self._intervals.forget(connection)
        self._disconnects.forget(fileno)
        connection.close()
        self._switching.adjust(len(self._all))
        self._on_end(stream, reason)

    def close_all(self, reason: StreamEnd) -> None:
        """Close every connection, and stop watching.

        :param reason: why their streams end.
        """
        for connection in self.all():
            self.close(connection, reason)
        self._disconnects.close()
        self._farewells.stop()

    def send(self, connection: Connection, data: bytes) -> None:
        """Send bytes. If the socket is full, they stay pending and the stream is blocked until it takes more.

        :param connection: the connection.
        :param data: the bytes.
        """
        if not data:
            return
        try:
            all_taken = connection.write(data)
        except OSError as error:
            self.close(connection, why_lost(error))
            return
        if not all_taken:
            self.block(connection, connection.stream.position)

    def block(self, connection: Connection, position: int) -> None:
        """Have the stream of a socket that is full keep its place until the socket takes more.

        :param connection: the connection; what its socket did not take is pending.
        :param position: number of the last event that it was given, or that was not for it.
        """
        self._live.leave(connection, position)
        if connection.stream.state is StreamState.CATCHING_UP:
            connection.stream.happened(StreamEvent.SOCKET_FULL)
            self.catching_up.pop(connection, None)
        connection.await_room(self._loop, self.flush, self._settings)

    def flush(self, connection: Connection) -> None:
        """Send the pending bytes. When all are sent, the stream goes on, or ends.

        :param connection: the connection.
        """
        try:
            if not connection.flush():
                return
        except OSError as error:
            self.close(connection, why_lost(error))
            return
        connection.stop_waiting()
        if connection.stream.state is StreamState.BLOCKED:
            connection.stream.happened(StreamEvent.SOCKET_DRAINED)
            self.catching_up[connection] = None
            self._wake()
        elif connection.stream.state is StreamState.CLOSING and connection.end is not None:
            self._farewells.close(connection, connection.end)

    def finish(self, connection: Connection, last: bytes, reason: StreamEnd) -> None:
        """Send what the client can take at once, then the last bytes, and close when these are out.

        :param connection: the connection.
        :param last: the last bytes.
        :param reason: why its stream ends.
        """
        stream = connection.stream
        self._live.leave(connection, stream.position)
        while stream.state is StreamState.CATCHING_UP and stream.behind:
            self.send(connection, stream.take())
        if stream.state not in (StreamState.CATCHING_UP, StreamState.BLOCKED):
            return  # its last bytes are on their way already, or it is lost
        stream.happened(StreamEvent.LAST_BYTES)
        self.catching_up.pop(connection, None)
        self.send(connection, last + stream.end(reason))
        connection.end = reason
        if connection.pending is None:
            self._farewells.close(connection, reason)

    def guarded(self, act: Callable[..., None], connection: Connection, *more: Any) -> None:
        """Do something for one stream; if that fails, close this one: the writer of all the others goes on.

        :param act: does it; it is called with the connection and what follows.
        :param connection: the connection.
        :param more: what follows.
        """
        try:
            act(connection, *more)
        except Exception:
            logger.exception("a stream failed and is closed")
            self.close(connection, StreamEnd.FAILED)

    def _on_readable(self, fileno: int) -> None:
        """Read from a socket: the client has sent something or, far more likely, closed it."""
        connection = self._all.get(fileno)
        if connection is None:
            return  # closed meanwhile
        try:
            data = connection.recv(4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(connection, why_lost(error))
            return
        chatter = self._chatter[connection] = self._chatter.get(connection, 0) + len(data)
        if not data:
            self.close(connection, StreamEnd.GONE)
        elif chatter > MAX_CHATTER:
            self.close(connection, StreamEnd.CHATTER)
