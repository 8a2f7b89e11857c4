"""Handler: one connection of the front. Parses requests, has them answered in native threads, writes the answers.

Parsing is gevent's pywsgi; everything after it is here, because pywsgi runs the app on the loop, waits for slow
clients without a limit and answers ``HEAD`` with a body.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import gevent
from gevent import pywsgi

from ..broker.environ import HANDOFF
from ..broker.sse import STREAM_HEADERS, busy_body, stream_headers, wants_stream
from ..broker.stream import SubscriberStream
from ..errors import HybridError, Overloaded, UnsuitableServer, problem_response
from ..logs import get_logger, redacted
from .pool import Job
from .reader import Reader
from .timeout import Limit
from .upgrade import UpgradeSocket
from .wsgi import End, Head, WSGICall, head_bytes

logger = get_logger(__name__)

_PIECE = 64 * 1024
_NO_BODY = ("1", "204", "304")


class Handler(Reader):
    """One accepted connection, whose requests are answered."""

    # -- answering -------------------------------------------------------------------------------------------

    def run_application(self) -> None:
        """Have one request answered."""
        self.front.active += 1
        try:
            if self._wants_websocket():
                self._upgrade()
                return
            try:
                body, length = self.read_body()
            except HybridError as error:
                self._refuse(error)
                return
            except OSError:  # the client went away in the middle of it
                self._hang_up()
                return
            self.front.connections.serve(self.place)
            with body:
                self._answer(body, length)
        finally:
            self.front.active -= 1

    def _wants_websocket(self) -> bool:
        """True for a WebSocket handshake (RFC 6455, section 4.1); anything less is an ordinary request."""
        if self.command != "GET" or self.environ.get("HTTP_UPGRADE", "").lower() != "websocket":
            return False
        tokens = [item.strip().lower() for item in self.environ.get("HTTP_CONNECTION", "").split(",")]
        return "upgrade" in tokens and not self.content_length and not self.wsgi_input.chunked_input

    def _answer(self, body: BinaryIO, length: int) -> None:
        environ = self.environ
        environ["wsgi.input"] = body
        environ["wsgi.input_terminated"] = True
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        if length or "CONTENT_LENGTH" in environ:
            environ["CONTENT_LENGTH"] = str(length)
        handoff: list[SubscriberStream] = []
        environ[HANDOFF] = handoff
        exchange = WSGICall(self.application, environ, self.front.mailroom)
        job = Job(exchange.run, length)
        lane = self.front.pool_of(environ["PATH_INFO"])
        try:
            lane.submit(job)
            message = exchange.receive(self.front.settings.queue_s)
            if message is None:
                if lane.cancel(job):
                    raise Overloaded(f"no thread became free within {self.front.settings.queue_s:g} s (HYBRID_QUEUE_S)",
                                     code="queued_too_long", retry_after=2)
                message = exchange.receive()
        except Overloaded as error:
            self._turn_away(error)
            return
        if handoff:
            self._begin_stream(message, exchange, handoff[0])
        else:
            self._relay(message, exchange)

    def _turn_away(self, error: Overloaded) -> None:
        """Refuse a request because a bound was hit; a stream's client so that it comes back later."""
        self.front.degraded(error.code)
        if self.front.is_stream(self.environ["PATH_INFO"]) and wants_stream(self.environ):
            self.front.refusals.count(error.code)
            self._write_head(Head("200 OK", list(STREAM_HEADERS.items()), busy_body(error)))
        else:
            self._refuse(error, close=False)

    def _relay(self, message: Any, exchange: WSGICall) -> None:
        """Write an answer as it comes."""
        if isinstance(message, End):
            self._failed(message)
            return
        head: Head = message
        try:
            send = self._write_head(head)
        except ValueError as error:  # CR, LF, or what Latin-1 does not have, in a header
            exchange.abandon()
            self._failed(End(error))
            return
        written = len(head.body or b"")
        try:
            message = exchange.receive() if head.body is None else End()
            while not isinstance(message, End):
                if isinstance(message, bytes):
                    send(message)
                    written += len(message)
                message = exchange.receive()
            if message.error is not None:
                self._failed(message)
            elif send == self._send_chunk:
                self._send(b"0\r\n\r\n")
            elif send == self._send and written != _declared(head, written):
                logger.error("the answer to %s is not as long as its Content-Length says", redacted(self.requestline))
                self._hang_up()
        except (OSError, gevent.Timeout):
            exchange.abandon()
            self._hang_up()

    def _write_head(self, head: Head) -> Callable[[bytes], None]:
        """Write status and headers, and the body if it is here already; return what writes further chunks."""
        self.status, self._orig_status, self.code = head.status.encode("latin-1"), head.status, int(head.status[:3])
        headers = list(head.headers)
        names = {name.lower() for name, _ in headers}
        body = head.body or b""
        silent = self.command == "HEAD" or head.status.startswith(_NO_BODY)
        send = self._send
        if silent:
            send, body = _discard, b""
        elif head.body is not None and "content-length" not in names:
            headers.append(("Content-Length", str(len(body))))
        elif head.body is None and "content-length" not in names:
            if self.request_version == "HTTP/1.1":
                headers.append(("Transfer-Encoding", "chunked"))
                send = self._send_chunk
            else:
                self.close_connection = True
        if any(value.startswith("text/event-stream") for _, value in headers):
            self.close_connection = True  # a stream that was refused for now ends with its connection
        if "date" not in names:
            headers.append(("Date", pywsgi.format_date_time(self.time_start).decode("ascii")))
        if self.close_connection:
            headers.append(("Connection", "close"))
        elif self.request_version == "HTTP/1.0":
            headers.append(("Connection", "keep-alive"))
        head_and_body = head_bytes(head.status, headers) + body
        self.headers_sent = True
        try:
            self._send(head_and_body)
        except (OSError, gevent.Timeout):
            self._hang_up()
        self.front.answers.add((time.time() - self.time_start) * 1000)  # pywsgi's own note of when the head was read
        return send

    def _send(self, data: bytes) -> None:
        """Write ``data`` piece by piece; a client that takes none of a piece in time is given up."""
        if self.socket is None:
            raise BrokenPipeError
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            with Limit(self.front.loop, self.front.settings.stall_s):
                self.socket.sendall(view[start:start + _PIECE])
        self.response_length += len(data)

    def _send_chunk(self, data: bytes) -> None:
        self._send(b"%x\r\n%b\r\n" % (len(data), data))

    def _failed(self, end: End) -> None:
        """Report an app that raised (its own 500 page is the host's; this is for what even that could not hold)."""
        logger.error("the application raised while answering %s", redacted(self.requestline), exc_info=end.error)
        if self.headers_sent:
            self._hang_up()  # the answer is cut off; a clean end would make it look complete
        else:
            self._refuse(HybridError("the application failed"), close=False)

    def _refuse(self, error: HybridError, *, close: bool = True) -> None:
        """Answer with a problem document; where the rest of the request was not read, also end the connection."""
        self.front.refusals.count(error.code)
        self.close_connection = self.close_connection or close
        status, headers, body = problem_response(error)
        self._write_head(Head(status, headers, body))
        if close and self.socket is not None:
            _drain(self.socket)
            self._hang_up()

    def _hang_up(self) -> None:
        """Close the connection now."""
        self.close_connection = True
        # Nothing of the request is read any more: pywsgi would otherwise discard the rest of the body first.
        self.wsgi_input = pywsgi.Input(io.BytesIO(), 0)
        if self.socket is not None:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # -- connections that leave the front ----------------------------------------------------------------------

    def _begin_stream(self, message: Any, exchange: WSGICall, feed: SubscriberStream) -> None:
        """Write a stream's headers and hand its socket to the fan-out writer."""
        if not isinstance(message, Head) or not message.status.startswith("200"):
            self.front.left(feed, "refused")  # the host's after_request or middleware decided otherwise
            self._relay(message, exchange)
            return
        self.close_connection = True
        self.status, self._orig_status = message.status.encode("latin-1"), message.status
        self.code, self.headers_sent = 200, True
        headers = stream_headers(message.headers)
        try:
            head = head_bytes(message.status, [*headers, ("Connection", "close")])
        except ValueError as error:
            self.front.left(feed, "failed")
            self.headers_sent = False
            self._failed(End(error))
            return
        if self.server.ssl_enabled:
            self.front.connections.leave(self.place)
            self.front.attached.serve(self.socket, feed, head)
        else:
            self.front.fanout.adopt(self._detach(), feed, head)

    def _detach(self) -> int:
        """Take the plain socket out of gevent's hands; this connection is then over for the front."""
        fileno: int = self.socket.detach()
        self.socket = None
        self.close_connection = True
        self.front.connections.leave(self.place)
        return fileno

    def _upgrade(self) -> None:
        """Run a WebSocket request in a thread of its own, on a detached blocking socket (as Werkzeug offers it)."""
        if self.server.ssl_enabled:
            self._refuse(UnsuitableServer("WebSockets are not served over this server's TLS; let a proxy end TLS",
                                          status=501, code="no_websocket_over_tls"))
            return
        if not self.front.upgrades.acquire(blocking=False):
            error = Overloaded("all WebSockets are taken (HYBRID_MAX_UPGRADES)", code="too_many_websockets")
            self.front.degraded(error.code)
            self._refuse(error)
            return
        environ, application = self.environ, self.application
        sock = UpgradeSocket(fileno=self._detach())
        sock.setblocking(True)
        environ["werkzeug.socket"] = sock
        environ["wsgi.input"] = io.BytesIO()
        self.wsgi_input = pywsgi.Input(io.BytesIO(), 0)
        threading.Thread(target=self.front.run_upgrade, args=(application, environ, sock),
                         name="hakgal-hybrid-websocket", daemon=True).start()


def _discard(data: bytes) -> None:
    """Take the place of sending where an answer must have no body."""


def _declared(head: Head, default: int) -> int:
    return next((int(value) for name, value in head.headers if name.lower() == "content-length"), default)


def _drain(sock: Any) -> None:
    """Let a client that is still sending read our refusal: closing at once would reset the connection under it."""
    try:
        sock.shutdown(socket.SHUT_WR)
        with gevent.Timeout(1.0, False):
            for _ in range(256):
                if not sock.recv(_PIECE):
                    return
    except OSError:
        pass
