"""RequestHandler: one request on its way from the front into a native thread, and its answer on the way back."""

from __future__ import annotations

import contextlib
import time
from typing import Any, BinaryIO

import gevent

from ..broker.environ import HANDOFF, UNREAD
from ..broker.sse import STREAM_HEADERS, busy_body, wants_stream
from ..broker.states import StreamEnd
from ..errors import HybridError, Overloaded, RequestError, Unfinished, UnsuitableServer, problem_response
from ..logs import get_logger, redacted
from .body import UnreadBody, read_body
from .connection import HTTPConnection
from .front import Endpoint, Front
from .handoff import Handoff, Opened
from .http1 import ChunkedBody, FixedBody, RequestHead
from .response import ResponseWriter
from .upgrade import start_upgrade
from .watched import WatchedCall
from .wsgi import End, Head

logger = get_logger(__name__)

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class RequestHandler:
    """Answers one request.

    :param front: what all connections share.
    :param endpoint: what is served at the socket that the connection was accepted by.
    :param connection: the connection that it came by.
    :param head: its head.
    :param head_environ: the part of its WSGI environment that comes from the head.
    :ivar response: what writes the answer.
    """

    def __init__(self, front: Front, endpoint: Endpoint, connection: HTTPConnection, head: RequestHead,
                 head_environ: dict[str, Any]) -> None:
        self._front, self._endpoint, self._connection, self._head = front, endpoint, connection, head
        self._began = time.perf_counter()
        self.response = ResponseWriter(connection.sock, self._front.loop, self._front.settings.stall_s, head.method,
                                       head.version, keep_alive=head.keep_alive)
        self._environ = {**endpoint.environ, **head_environ, **connection.peer}

    def handle(self) -> bool:
        """Answer the request.

        :return: whether the connection can be used for another one.
        """
        if self._head.upgrade and not self._front.detaches_websocket(self._environ["PATH_INFO"]):
            self._upgrade()
            return False
        if self._is_refused_unread():
            return False
        try:
            body, length = self._read_body()
        except HybridError as error:
            self._refuse(error)
            return False
        except OSError:  # the client went away in the middle of it
            return False
        self._connection.serve()
        with body:
            return self._answer(body, length)

    def _read_body(self) -> tuple[BinaryIO, int]:
        head, reader, settings = self._head, self._connection.reader, self._front.settings
        length = None if head.chunked else head.length or 0
        source = ChunkedBody(reader) if length is None else FixedBody(reader, length)
        path = self._environ["PATH_INFO"]
        limit = self._front.body_limit(path)
        proceed = (lambda: self._connection.send(_CONTINUE)) if head.expects_continue else lambda: None
        try:
            return read_body(source, length, settings, self._front.bodies, self._front.loop, proceed=proceed,
                             limit=limit)
        except RequestError as error:
            if error.status == 413 and self._front.serves_engineio(path):
                self._front.oversized(self._environ, limit.size + 1 if length is None else length)
            raise

    def _is_refused_unread(self) -> bool:
        """Refuse a request whose body has not come yet, if it is not permitted; return whether that was done.

        The app itself decides: what the host has put in front of our URLs may permit what seems not to be permitted.
        """
        head, front, reader = self._head, self._front, self._connection.reader
        if not (head.chunked or (head.length or 0) > reader.ahead) or not front.refuses(self._environ):
            return False
        self._connection.serve()
        permitted: list[bool] = []
        environ = {**self._environ, UNREAD: permitted, "wsgi.input": UnreadBody(permitted)}
        self.response.keep_alive = False
        try:
            with WatchedCall(self._endpoint.application, environ, front, self._connection) as call:
                message = call.begin(0)
                if permitted:
                    self.response.keep_alive = head.keep_alive
                    self._connection.await_request()
                    return False
                self._relay(message, call)
        except Overloaded as error:
            self._refuse(error)
            return True
        self._connection.linger()
        return True

    def _answer(self, body: BinaryIO, length: int) -> bool:
        environ = self._environ
        environ["wsgi.input"] = body
        if length or "CONTENT_LENGTH" in environ:
            environ["CONTENT_LENGTH"] = str(length)
        opened: list[Opened] = []
        environ[HANDOFF] = opened
        try:
            with WatchedCall(self._endpoint.application, environ, self._front, self._connection) as call:
                message = call.begin(length)
                return self._hand_over(message, call, opened[0]) if opened else self._relay(message, call)
        except Overloaded as error:
            return self._turn_away(error)

    def _turn_away(self, error: Overloaded) -> bool:
        """Refuse a request because a bound was hit. A request for a stream gets ``hybrid_busy`` if it accepts that."""
        self._front.degraded(error.code)
        if self._front.is_stream(self._environ["PATH_INFO"]) and wants_stream(self._environ):
            self._front.refusals.count(error.code)
            with contextlib.suppress(OSError, gevent.Timeout):
                headers = [*STREAM_HEADERS.items(), *self._front.refusal_headers(self._environ)]
                self.response.begin(Head("200 OK", headers, None))
                self.response.write(busy_body(error))
                self._connection.let_read()
            return False  # without an end: the client has to come back
        return self._problem(error)

    # -- writing the answer ------------------------------------------------------------------------------------

    def _relay(self, message: Any, call: WatchedCall) -> bool:
        """Write an answer as it comes; return whether the connection can be used again."""
        if isinstance(message, End):
            return self._failed(message)
        head: Head = message
        try:
            if not self._begin(head):
                return False
            message = call.receive() if head.body is None else End()
            while isinstance(message, bytes):
                self.response.write(message)
                call.check()
                message = call.receive()
            if isinstance(message, End) and message.error is not None:
                return self._failed(message)
            if not self.response.end():
                logger.error("the answer to %s is not as long as its Content-Length says",
                             redacted(self._head.line))
                return False
        except ValueError as error:  # CR, LF, or what Latin-1 does not have, in a header
            return self._failed(End(error))
        except (OSError, gevent.Timeout):
            return False
        return self.response.keep_alive

    def _begin(self, head: Head) -> bool:
        """Write the head of an answer and what of its body is here; return whether the client has taken it."""
        try:
            self.response.begin(head)
        except (OSError, gevent.Timeout):
            return False
        finally:
            self._front.answers.add((time.perf_counter() - self._began) * 1000)
        return True

    def _failed(self, end: End) -> bool:
        """Log that the app raised, and answer if that is still possible. (Flask itself answers 500 for most errors.)"""
        if isinstance(end.error, Overloaded):  # it is not the app's: it did not come to produce its answer
            return self._turn_away(end.error)
        if isinstance(end.error, Unfinished):
            self._connection.let_read()
        else:
            logger.error("the application raised while answering %s", redacted(self._head.line),
                         exc_info=end.error)
        if self.response.status:
            return False  # the answer is cut off; a clean end would make it look complete
        return self._problem(HybridError("the application failed"))

    def _problem(self, error: HybridError) -> bool:
        """Answer with a problem document; return whether the connection can be used again."""
        self._front.refusals.count(error.code)
        status, headers, body = problem_response(error)
        head = Head(status, headers + self._front.refusal_headers(self._environ), body)
        return self._begin(head) and self.response.keep_alive

    def _refuse(self, error: HybridError) -> None:
        """Answer with a problem document and close, because the rest of the request is not read."""
        self.response.keep_alive = False
        self._problem(error)
        self._connection.linger()

    # -- connections that leave the front ----------------------------------------------------------------------

    def _hand_over(self, message: Any, call: WatchedCall, opened: Opened) -> bool:
        """Go on without a thread; return whether the connection can be used again."""
        handoff = Handoff(self._front, self._endpoint, self._connection, self._head, self.response)
        if not handoff.fits(opened, message):
            handoff.refuse(opened, StreamEnd.REFUSED)
            return self._relay(message, call)
        try:
            return handoff.begin(opened, message)
        except ValueError as error:
            handoff.refuse(opened, StreamEnd.FAILED)
            return self._failed(End(error))

    def _upgrade(self) -> None:
        """Run a WebSocket request in a thread of its own, on a detached blocking socket (as Werkzeug offers it)."""
        if self._endpoint.secure:
            self._refuse(UnsuitableServer("WebSockets are not served over this server's TLS; let a proxy end TLS",
                                          status=501, code="no_websocket_over_tls"))
        elif not self._front.upgrades.acquire(blocking=False):
            error = Overloaded("all WebSockets are taken (HYBRID_MAX_UPGRADES)", code="too_many_websockets")
            self._front.degraded(error.code)
            self._refuse(error)
        else:
            self._front.sockets.add(start_upgrade(self._endpoint.application, self._environ,
                                                  self._connection.detach(), self._front.upgrades.release))
