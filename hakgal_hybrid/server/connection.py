"""HTTPConnection: one accepted connection of the front: its socket, and how it ends."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

import gevent

from ..broker.environ import PEER
from ..broker.sse import READING_S
from .admission import Slot
from .front import Front
from .reader import RequestReader
from .timeout import Limit

_PIECE = 64 * 1024


class HTTPConnection:
    """One accepted connection.

    :param front: what all connections share.
    :param sock: its gevent socket.
    :param address: the client's address.
    :ivar sock: its gevent socket; ``None`` once it has left the front.
    :ivar peer: what the WSGI environment says of the client's address.
    :ivar slot: its place among the connections that may be open; ``None`` if there was none.
    :ivar reader: what requests are read by.
    """

    def __init__(self, front: Front, sock: Any, address: Any) -> None:
        self.sock, self.address = sock, address
        self.peer: dict[str, str] = {}
        if isinstance(address, tuple):
            self.peer = {"REMOTE_ADDR": str(address[0]), "REMOTE_PORT": str(address[1]), PEER: str(address[0])}
        self._admission, self._loop, self._stall_s = front.connections, front.loop, front.settings.stall_s
        front.sockets.add(sock)
        self.reader = RequestReader(sock, front.loop, front.settings.request_s, front.settings.max_head_bytes)
        with contextlib.suppress(OSError):  # the peer is gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.slot: Slot | None = self._admission.enter(lambda: hang_up(sock))

    def await_request(self) -> None:
        """Note that the client is waited for: from now on the connection may have to give way."""
        if self.slot is not None:
            self._admission.wait_for(self.slot)

    def serve(self) -> None:
        """Note that the client has said what it wants: the connection does not give way until it is answered."""
        if self.slot is not None:
            self._admission.serve(self.slot)

    def leave(self) -> None:
        """Give up its place. May be called repeatedly."""
        if self.slot is not None:
            self._admission.leave(self.slot)

    def cut(self) -> None:
        """End the connection under its greenlet, by a reset: what was sent so far is no whole answer."""
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            hang_up(self.sock)

    def send(self, data: bytes) -> None:
        """Send a few bytes that are no answer of the app's, within ``HYBRID_STALL_S``.

        :param data: the bytes.
        :raises OSError: if the client is gone, or does not take them in time.
        """
        try:
            with Limit(self._loop, self._stall_s):
                self.sock.sendall(data)
        except gevent.Timeout:
            raise TimeoutError("the client takes nothing") from None

    def detach(self) -> int:
        """Take the plain socket out of gevent's hands: the connection leaves the front.

        :return: the socket's number, which is the caller's now.
        """
        fileno: int = self.sock.detach()
        self.sock = None
        self.leave()
        return fileno

    def let_read(self) -> None:
        """Let a client read our answer before it is cut. Meanwhile the connection may have to give way."""
        self.await_request()
        with contextlib.suppress(OSError), gevent.Timeout(READING_S, False):
            self.sock.recv(_PIECE)

    def linger(self) -> None:
        """Let a client that is still sending read our answer: closing at once would reset the connection under it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            with gevent.Timeout(1.0, False):
                for _ in range(256):
                    if not self.sock.recv(_PIECE):
                        return

    def close(self) -> None:
        """Close it, unless it has left the front.

        What the client has sent is read first: unread, it would have the kernel throw our last answer away. And a child
        that was forked meanwhile may hold the socket, too: so it is shut down and not only closed.
        """
        self.leave()
        if self.sock is not None:
            with contextlib.suppress(OSError):
                self.sock.settimeout(0.0)
                self.sock.recv(_PIECE)
            hang_up(self.sock)
            self.sock.close()


def hang_up(sock: Any) -> None:
    """End a connection whose greenlet may be waiting for it: that reads its end then, and cleans up.

    :param sock: its gevent socket.
    """
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
