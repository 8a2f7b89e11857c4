"""Reader: one connection of the front, as far as requests are read from it. What is no request is refused here."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import gevent
from gevent import pywsgi

from ..errors import HybridError, Overloaded, RequestError, problem_response
from ..logs import get_logger, redacted
from .admission import Slot
from .body import read_body
from .http1 import Chunks, Headers, HeadLines, TooLarge, check_first_line
from .timeout import Limit
from .wsgi import head_bytes

if TYPE_CHECKING:
    from .front import Front

logger = get_logger(__name__)


class _TooSlow(ValueError):
    """The client took too long to say what it wants."""


class Reader(pywsgi.WSGIHandler):  # type: ignore[misc]
    """One accepted connection; requests on it are read in order (keep-alive, pipelining)."""

    socket: Any  # gevent's, until the connection leaves the front: then None
    rfile: Any
    wsgi_input: Any
    place: Slot

    @property
    def front(self) -> Front:
        """What all connections share."""
        front: Front = self.server.front
        return front

    def handle(self) -> None:
        """Serve the connection until either side closes it."""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # the peer is gone already
            pass
        sock, connections = self.socket, self.front.connections
        place = connections.enter(lambda: hang_up(sock))
        if place is None:
            self._keep_out()
            return
        self.place = place
        try:
            super().handle()
        except OSError as error:  # it did not wait for the answer to what it had said wrong
            logger.debug("%s went away: %s", self.client_address, error)
        finally:
            connections.leave(place)

    def _keep_out(self) -> None:
        """Say that there are too many connections, if that can be said at once."""
        error = Overloaded("there are too many connections (HYBRID_MAX_CONNECTIONS)", code="too_many_connections")
        self.front.refusals.count(error.code)
        self.front.degraded(error.code)
        with gevent.Timeout(1.0, False), contextlib.suppress(OSError):
            self.socket.sendall(_problem_bytes(error))
        self.socket.close()

    def read_requestline(self) -> str:
        """Return the request line, or nothing if none comes in time: the connection is then closed silently."""
        self.front.connections.wait_for(self.place)
        try:
            with Limit(self.front.loop, self.front.settings.request_s):
                return str(super().read_requestline())
        except gevent.Timeout:
            return ""

    def handle_one_request(self) -> Any:
        """Serve one request; see pywsgi."""
        result = super().handle_one_request()
        if isinstance(result, tuple) and result[0] == "414":  # pywsgi's own bound, and its answer
            self._orig_status = "414"
            return result[0], self._refusal(RequestError("the request line is longer than 8 KiB", status=414,
                                                         code="head_too_large"))
        return result

    def log_request(self) -> None:
        """Write the line of the access log, if anybody reads it: pywsgi would put it together for nobody too."""
        if self.server.logs_requests():
            super().log_request()

    def format_request(self) -> str:
        """Return the line of the access log, which shows no secrets."""
        return redacted(str(super().format_request()))

    def read_request(self, raw_requestline: str) -> bool:
        """Read the head of a request within its time."""
        try:
            with Limit(self.front.loop, self.front.settings.request_s):
                return self._parse_head(raw_requestline)
        except gevent.Timeout:
            raise _TooSlow("the request's head took too long") from None

    def _parse_head(self, raw_requestline: str) -> bool:
        """Have pywsgi parse what is well-formed, and nothing else."""
        line = raw_requestline.encode("latin-1")
        check_first_line(line)
        connection, self.rfile = self.rfile, HeadLines(self.rfile, self.front.settings.max_head_bytes - len(line))
        try:
            return bool(super().read_request(raw_requestline))
        finally:
            self.rfile = connection

    def MessageClass(self, lines: HeadLines, *_: Any) -> Headers:
        """Read all headers."""
        while lines.readline() != b"\r\n":
            pass
        lines.check(self.request_version)
        return lines.headers

    def _headers(self) -> Iterator[tuple[str, str]]:
        headers: Headers = self.headers
        return headers.environ()

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes]:
        logger.debug("refused a request of %s: %s", self.client_address, redacted(str(ex)))
        if isinstance(ex, _TooSlow):
            error = RequestError("the request's head took too long", status=408, code="request_timeout")
        elif isinstance(ex, TooLarge):
            error = RequestError("the request's head is larger than HYBRID_MAX_HEAD_BYTES", status=431,
                                 code="head_too_large")
        else:
            error = RequestError("this is not a valid HTTP request", status=400, code="bad_http")
        self._orig_status = str(error.status)
        return str(error.status), self._refusal(error)

    def _refusal(self, error: HybridError) -> bytes:
        """Count a refusal of what is no request; return the whole answer to it."""
        self.front.refusals.count(error.code)
        return _problem_bytes(error)

    def get_environ(self) -> dict[str, Any]:
        """Return the WSGI environment of the current request."""
        environ: dict[str, Any] = super().get_environ()
        environ["wsgi.multithread"] = True
        return environ

    def read_body(self) -> tuple[BinaryIO, int]:
        """Read the body of the current request; see :func:`.intake.read_body`."""
        source, declared = self.wsgi_input, self.content_length or 0
        if source.chunked_input:
            source._send_100_continue()
            source, declared = Chunks(self.rfile), None
            self.wsgi_input = pywsgi.Input(io.BytesIO(), 0)  # nothing is left for pywsgi to skip
        return read_body(source, declared, self.front.settings, self.front.bodies)


def hang_up(sock: Any) -> None:
    """End a connection whose greenlet is waiting for it: that reads its end then, and cleans up."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _problem_bytes(error: HybridError) -> bytes:
    """Return a whole answer, after which the connection ends."""
    status, headers, body = problem_response(error)
    return head_bytes(status, [*headers, ("Connection", "close")]) + body
