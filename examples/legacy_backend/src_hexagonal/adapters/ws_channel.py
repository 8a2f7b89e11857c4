"""The writing half of one WebSocket client: blocking, with a time-out made of real back-pressure."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any

# Small, so that a client that stopped reading is felt after some dozen events and not after megabytes.
SEND_BUFFER_BYTES = 32 * 1024
_CHUNK_BYTES = 4096
# The reading thread blocks in recv() on the same socket, so neither its time-out nor its blocking mode may
# be changed. Where this flag does not exist (Windows), a socket that reports to be writable takes a chunk
# of this size whole.
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
# select() cannot watch descriptors above 1,023 on POSIX; Windows has no poll() and no such limit.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def text_frame(payload: bytes) -> bytes:
    """One unfragmented, unmasked text frame (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class ClientChannel:
    """Whole frames to one client, from any thread.

    :param ws: the ``simple_websocket`` server side of the connection, its handshake done.
    """

    def __init__(self, ws: Any) -> None:
        self._ws = ws
        self._sock: socket.socket = ws.sock
        self._lock = threading.Lock()
        self._pending = b""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def open(self) -> bool:
        """Whether neither side has said goodbye; after a close frame nothing may follow."""
        return bool(self._ws.connected)

    def write(self, frames: Iterable[bytes], deadline: float) -> None:
        """Write frames until the deadline; what was not begun by then is dropped.

        A frame that was begun stays in ``_pending`` and is finished first by the next call: the
        client sees whole frames only, however late.

        :param deadline: in seconds of ``time.monotonic()``.
        :raises OSError: the connection is gone.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return  # another request is still waiting for this client
        try:
            self._pending = self._send(self._pending, deadline)
            for frame in frames:
                if self._pending:
                    return
                rest = self._send(frame, deadline)
                if len(rest) == len(frame):
                    return
                self._pending = rest
        finally:
            self._lock.release()

    def _send(self, data: bytes, deadline: float) -> bytes:
        """Send what fits until the deadline and return the rest."""
        while data and self._writable(deadline - time.monotonic()):
            try:
                data = data[self._sock.send(data[:_CHUNK_BYTES], _DONT_WAIT) :]
            except BlockingIOError:  # the reading thread's pong took the room
                continue
        return data

    def _writable(self, seconds: float) -> bool:
        try:
            with _Selector() as selector:
                selector.register(self._sock, selectors.EVENT_WRITE)
                return bool(selector.select(max(0.0, seconds)))
        except ValueError as error:  # the descriptor of a socket that was closed meanwhile
            raise ConnectionAbortedError("the socket is closed") from error

    def hang_up(self) -> None:
        """End the connection in both directions, which wakes the reading thread."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # it was down already
            pass


class SharedSocket:
    """Stands in for ``ws.sock``, so that pongs and close frames never fall into a torn frame.

    :param channel: through which everything is written.
    :param sock: the real socket, for reading.
    :param patience_s: how long one write of the library may wait.
    """

    def __init__(self, channel: ClientChannel, sock: socket.socket, patience_s: float) -> None:
        self._channel = channel
        self._sock = sock
        self._patience_s = patience_s

    def recv(self, size: int) -> bytes:
        """Read, blocking, as the real socket does."""
        return self._sock.recv(size)

    def send(self, data: bytes) -> int:
        """Write through the channel; a frame that finds no room in time is dropped there."""
        self._channel.write([data], time.monotonic() + self._patience_s)
        return len(data)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._sock.fileno()

    def close(self) -> None:
        """Hang up only: the HTTP server owns the socket and closes it when the request ends."""
        self._channel.hang_up()
