"""RequestReader: the bytes that a client sends on one connection, taken as heads and bodies of requests, in time."""

from __future__ import annotations

import ssl
from typing import Any

import gevent

from ..errors import RequestError
from .http1 import MAX_LINE, bad_http, check_lines, head_too_large
from .timeout import Limit

_PIECE = 64 * 1024


class RequestReader:
    """Reads from one socket.

    :param sock: a gevent socket.
    :param loop: the loop of the greenlet that reads.
    :param request_s: how long a request line may take to come, and how long the rest of its head (seconds).
    :param max_head_bytes: how large a head may be.
    """

    def __init__(self, sock: Any, loop: Any, request_s: float, max_head_bytes: int) -> None:
        self._sock, self._loop, self._request_s, self._max_head = sock, loop, request_s, max_head_bytes
        self._data = bytearray()

    @property
    def ahead(self) -> int:
        """How many bytes are here that were not taken yet."""
        return len(self._data)

    def read_head(self) -> bytes | None:
        """Return the bytes of the next request's head, its empty line included.

        :return: ``None`` if the client closes the connection, or does not even send a request line in time.
        :raises RequestError: 400 for what is no head, 408 if it comes too slowly, 414 or 431 if it is too large.
        :raises OSError: if the connection breaks.
        """
        try:
            with Limit(self._loop, self._request_s):
                if not self._await_line():
                    return None
        except gevent.Timeout:
            return None
        ends = self._data.find(b"\r\n\r\n")
        if ends < 0:
            try:
                with Limit(self._loop, self._request_s):
                    ends = self._await_rest()
            except gevent.Timeout:
                raise RequestError("the request's head took too long", status=408, code="request_timeout") from None
        ends += 4
        if ends > self._max_head:
            raise head_too_large()
        return self._take(ends)

    def _await_line(self) -> bool:
        """Wait for the request line; return false if the client closes the connection in place of it."""
        while self._data.find(b"\n", 0, MAX_LINE) < 0:
            if len(self._data) >= MAX_LINE:
                raise RequestError("the request line is longer than 8 KiB", status=414, code="head_too_large")
            if not self._receive():
                if self._data:
                    raise bad_http("the connection ended within the request line")
                return False
        return True

    def _await_rest(self) -> int:
        """Wait for the end of the head; return where the line end before its empty line is."""
        checked = 0
        while (ends := self._data.find(b"\r\n\r\n")) < 0:
            checked = check_lines(self._data, checked)
            if len(self._data) > self._max_head:
                raise head_too_large()
            if not self._receive():
                raise bad_http("the connection ended within the head")
        return ends

    def read(self, size: int) -> bytes:
        """Return the next bytes of a body.

        :param size: how many.
        :return: that many, less only if the client closes the connection.
        :raises OSError: if the connection breaks.
        """
        while len(self._data) < size and self._receive():
            pass
        return self._take(size)

    def readline(self, limit: int) -> bytes:
        """Return the next line of a body.

        :param limit: how many bytes at most.
        :return: the line with its line end; without one if it is longer, or the client closes the connection in it.
        :raises OSError: if the connection breaks.
        """
        while (ends := self._data.find(b"\n", 0, limit) + 1) == 0 and len(self._data) < limit:
            if not self._receive():
                break
        return self._take(ends or limit)

    def look_ahead(self) -> bool:
        """Receive what is here already, without waiting; it is kept for the next request.

        :return: whether the client has closed its side of the connection.
        :raises OSError: if the connection is broken.
        """
        timeout = self._sock.gettimeout()
        self._sock.settimeout(0.0)
        try:
            return len(self._data) < _PIECE and not self._receive()
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        finally:
            self._sock.settimeout(timeout)

    def _take(self, size: int) -> bytes:
        data = bytes(self._data[:size])
        del self._data[:size]
        return data

    def _receive(self) -> bool:
        """Receive some more bytes; return false if the client has closed the connection."""
        data: bytes = self._sock.recv(_PIECE)
        self._data += data
        return bool(data)
