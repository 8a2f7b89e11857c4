"""ConnectionLoop: the requests of one connection, answered one after the other."""

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from typing import Any

import gevent

from ..errors import HybridError, Overloaded, problem_response
from ..logs import get_logger, printable, redacted
from .connection import HTTPConnection
from .environ import read_request
from .front import Endpoint, Front
from .handler import RequestHandler
from .http1 import RequestHead
from .wsgi import head_bytes

logger = get_logger(__name__)


class ConnectionLoop:
    """Serves a connection until either side closes it (keep-alive, pipelining), or it leaves the front.

    :param front: what all connections share.
    :param endpoint: what the connection's listening socket serves.
    :param sock: its gevent socket.
    :param address: the client's address.
    """

    def __init__(self, front: Front, endpoint: Endpoint, sock: Any, address: Any) -> None:
        self._front, self._endpoint = front, endpoint
        self._connection = HTTPConnection(front, sock, address)

    def run(self) -> None:
        """Serve it, in the calling greenlet."""
        connection = self._connection
        try:
            if connection.slot is None:
                self._keep_out()
                return
            while self._serve_request():
                connection.await_request()
        except OSError as error:
            logger.debug("%s went away: %s", connection.address, error)
        finally:
            connection.close()

    def _serve_request(self) -> bool:
        """Serve one request; return whether there may be another one."""
        connection, front = self._connection, self._front
        try:
            data = connection.reader.read_head()
            if data is None or front.closing:
                return False
            head, head_environ = read_request(data)
        except HybridError as error:
            logger.debug("refused a request of %s: %s", connection.address, redacted(str(error.__cause__ or error)))
            self._refuse(error)
            return False
        began = time.perf_counter()
        handler = RequestHandler(front, self._endpoint, connection, head, head_environ)
        front.active += 1
        try:
            return handler.handle()
        finally:
            front.active -= 1
            if self._endpoint.log is not None:
                self._log(head, handler.response.status, handler.response.sent, time.perf_counter() - began)

    def _refuse(self, error: HybridError) -> None:
        """Answer bytes that are no valid request."""
        self._front.refusals.count(error.code)
        answer = self._problem_bytes(error)
        self._connection.send(answer)
        self._log(None, str(error.status), len(answer), 0.0)
        self._connection.linger()

    def _keep_out(self) -> None:
        """Answer that there are too many connections, and wait for the client for a second at most."""
        error = Overloaded("there are too many connections (HYBRID_MAX_CONNECTIONS)", code="too_many_connections")
        self._front.refusals.count(error.code)
        self._front.degraded(error.code)
        with gevent.Timeout(1.0, False), contextlib.suppress(OSError):
            self._connection.sock.sendall(self._problem_bytes(error))

    def _log(self, head: RequestHead | None, status: str, size: int, seconds: float) -> None:
        """Write a line of the access log, which shows no secrets. Bytes that are no request have no head."""
        if self._endpoint.log is None:
            return
        address = self._connection.address
        peer = address[0] if isinstance(address, tuple) else address or "-"
        now = datetime.now().replace(microsecond=0)
        line = f'{peer} - - [{now}] "{head.line if head else ""}" {status or "000"} {size or "-"} {seconds:.6f}'
        self._endpoint.log(printable(redacted(line)), {
            "client": printable(peer), "method": head.method if head else None,
            "path": printable(redacted(head.path)) if head else None, "status": int(status[:3] or 0), "bytes": size,
            "duration_s": round(seconds, 6)})

    def _problem_bytes(self, error: HybridError) -> bytes:
        """Return a whole answer to what is no request, or not read; after it the connection ends."""
        status, headers, body = problem_response(error)
        return head_bytes(status, [*headers, *self._front.refusal_headers({}), ("Connection", "close")]) + body
