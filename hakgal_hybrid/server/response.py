"""ResponseWriter: one response, written to a client within the time that it may take."""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from .timeout import Limit
from .wsgi import Head, end_to_end, head_bytes

_PIECE = 64 * 1024
_NO_BODY = ("1", "204", "304")


class ResponseWriter:
    """Frames one response: by its length, by chunks, or by the end of the connection.

    :param sock: a gevent socket.
    :param loop: the loop of the greenlet that writes.
    :param stall_s: how long a client may take to accept some bytes of it (seconds).
    :param method: the method of the request.
    :param version: the HTTP version of the request.
    :param keep_alive: whether the client may send another request on this connection.
    :ivar keep_alive: whether the connection can be used for another request after this response.
    :ivar status: the three digits of the status, empty before :meth:`begin`.
    :ivar sent: how many bytes were written.
    """

    def __init__(self, sock: Any, loop: Any, stall_s: float, method: str, version: str, *, keep_alive: bool) -> None:
        self._sock, self._loop, self._stall_s, self._method, self._version = sock, loop, stall_s, method, version
        self.keep_alive = keep_alive
        self.status = ""
        self.sent = 0
        self._chunked = self._silent = False
        self._left: int | None = None

    def begin(self, head: Head) -> None:
        """Write status and headers, and the body if it is here already.

        :param head: what the application says.
        :raises ValueError: if a header holds what no header may; nothing is written then.
        :raises OSError: if the client is gone.
        :raises gevent.Timeout: if the client accepts nothing.
        """
        status, headers = head.status, end_to_end(head.headers)
        names = {name.lower(): value for name, value in head.headers}
        if "close" in names.get("connection", "").lower():
            self.keep_alive = False
        body = head.body or b""
        self._silent = self._method == "HEAD" or status.startswith(_NO_BODY)
        if self._silent:
            body = b""
        elif "content-length" in names:
            length = names["content-length"]
            self._left = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
            body = body[:self._left]  # what is more could pass for another response
        elif head.body is not None:
            headers.append(("Content-Length", str(len(body))))
        elif self._version == "HTTP/1.1":
            headers.append(("Transfer-Encoding", "chunked"))
            self._chunked = True
        else:
            self.keep_alive = False
        if names.get("content-type", "").startswith("text/event-stream"):
            self.keep_alive = False  # a stream that was refused for now ends with its connection
        if "date" not in names:
            headers.append(("Date", _http_date(int(time.time()))))
        if not self.keep_alive:
            headers.append(("Connection", "close"))
        elif self._version == "HTTP/1.0":
            headers.append(("Connection", "keep-alive"))
        data = head_bytes(status, headers) + body
        self.status = status[:3]
        if self._left is not None:
            self._left -= len(head.body or b"")
        self._send(data)

    def write(self, data: bytes) -> None:
        """Write some more of the body.

        :param data: what comes next.
        :raises OSError: if the client is gone.
        :raises gevent.Timeout: if the client accepts nothing.
        """
        if self._silent:
            return
        if self._left is not None:
            data, self._left = data[:max(self._left, 0)], self._left - len(data)
        self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> bool:
        """Say that the body is complete.

        :return: false if it is not as long as its Content-Length says: the connection is of no use then.
        :raises OSError: if the client is gone.
        :raises gevent.Timeout: if the client accepts nothing.
        """
        if self._chunked:
            self._send(b"0\r\n\r\n")
        return not self._left

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            with Limit(self._loop, self._stall_s):
                self._sock.sendall(view[start:start + _PIECE])
        self.sent += len(data)


@lru_cache(maxsize=1)
def _http_date(now: int) -> str:
    return formatdate(now, usegmt=True)
