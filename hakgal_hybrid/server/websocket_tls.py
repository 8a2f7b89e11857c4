"""SecureWebSockets: WebSockets over TLS, each served by the greenlet of its connection.

TLS keeps its state in the socket's object, so it cannot be detached. Such a client costs a greenlet, and no thread.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event

from ..broker.broker import Broker
from ..broker.states import StreamEnd
from ..broker.websocket import Handshake, WebSocket
from .fanout.tls import RECORD
from .notifier import EventNotifier, LoopNotifier
from .websocket import clock
from .websockets import CLOSE_S, PIECE

_READ, _WRITE = 1, 2
#: The socket takes no more, or has no more, for now.
_NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class SecureWebSockets:
    """All of them. For the loop's thread.

    :param loop: the loop.
    :param broker: wakes them when there are events.
    :param notifier: wakes one of them.
    :param stall_s: how long a client may take to accept some bytes, in seconds.
    :param stopping: returns true once the server stops.
    """

    def __init__(self, loop: Any, broker: Broker, notifier: EventNotifier, stall_s: float,
                 stopping: Callable[[], bool]) -> None:
        self._loop, self._broker, self._events = loop, broker, notifier
        self._stall_s, self._stopping = stall_s, stopping
        self._news = LoopNotifier(loop, self._wake_all)
        self._remove_waker: Callable[[], None] | None = None
        self._woken: set[Event] = set()

    def __len__(self) -> int:
        return len(self._woken)

    def serve(self, sock: Any, opened: Handshake, head: bytes) -> None:
        """Serve one WebSocket in the calling greenlet, until its client or the server is gone.

        :param sock: the connection's socket.
        :param opened: the WebSocket.
        :param head: the answer to the handshake.
        """
        woken = Event()
        end = opened.begin(lambda: self._events.set(woken))
        watchers = [self._loop.io(sock.fileno(), direction) for direction in (_READ, _WRITE)]
        self._woken.add(woken)
        if self._remove_waker is None:
            self._remove_waker = self._broker.add_waker(self._news.notify)
        try:
            sock.settimeout(0.0)
            self._exchange(sock, end, head, woken, *watchers)
        except OSError:  # the client is gone
            pass
        finally:
            for watcher in watchers:
                watcher.stop()
                watcher.close()
            self._woken.discard(woken)
            if not self._woken and self._remove_waker is not None:
                self._remove_waker()
                self._remove_waker = None
            end.lost()

    def _exchange(self, sock: Any, end: WebSocket, head: bytes, woken: Event, readable: Any, writable: Any) -> None:
        left, progress_at = memoryview(head), clock()
        while True:
            woken.clear()
            if self._stopping():
                end.stop()
            while left or (left := memoryview(end.take())):
                try:
                    left = left[sock.send(left[:RECORD]):]  # what is broken off is sent again as it was
                except _NOT_NOW:
                    break
                progress_at = clock()
                gevent.sleep(0)
            if self._read(sock, end):
                continue
            wait = progress_at + (self._stall_s if left else CLOSE_S) - clock() if left or end.over else end.wait_s
            if wait is not None and wait <= 0 and (left or end.over):
                end.lost(StreamEnd.STALLED)
                return
            _watch(readable, not end.paused, woken)
            _watch(writable, bool(left), woken)
            with gevent.Timeout(wait, False):
                woken.wait()

    def _read(self, sock: Any, end: WebSocket) -> bool:
        """Read what is here; return false if there is nothing.

        :raises ConnectionError: at its end.
        """
        if end.paused:
            return False
        try:
            data = sock.recv(PIECE)
        except _NOT_NOW:
            return False
        if not data:
            raise ConnectionError("the client has closed the connection")
        if not end.over:
            end.receive(data)
        gevent.sleep(0)
        return True

    def _wake_all(self) -> None:
        for woken in self._woken:
            woken.set()

    def close(self) -> None:
        """Wake none any more."""
        self._news.close()


def _watch(watcher: Any, wanted: bool, woken: Event) -> None:
    if wanted and not watcher.active:
        watcher.start(woken.set)
    elif not wanted:
        watcher.stop()
