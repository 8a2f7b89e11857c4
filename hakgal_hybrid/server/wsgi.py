"""WSGICall: one request's way through a native thread and back to the loop.

One thread calls, iterates and closes one response, because context variables and SQLite connections are bound to
threads. What it produces comes back as messages, in order, through a bounded spool.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gevent.event import Event

from ..logs import get_logger
from .file_wrapper import FileWrapper
from .front import Front
from .pool import Job, ThreadPool
from .spool import Spool

logger = get_logger(__name__)

#: Answers up to this size (bytes) with a known length come back in one piece, which frees their thread at once.
WHOLE = 1 << 20

_OF_THE_CONNECTION = ("connection", "keep-alive", "transfer-encoding")

Headers = list[tuple[str, str]]


class Head(NamedTuple):
    """The beginning of an answer.

    :ivar status: status code and reason phrase.
    :ivar headers: pairs of name and value.
    :ivar body: the whole body, after which nothing comes; ``None`` if chunks follow.
    """

    status: str
    headers: Headers
    body: bytes | None


class End(NamedTuple):
    """The end of an answer.

    :ivar error: what the app raised; ``None`` if the answer is complete.
    """

    error: BaseException | None = None


Message = Head | bytes | End


def end_to_end(headers: Headers) -> Headers:
    """Return the headers that an application may set: it does not know how its answer is framed.

    PEP 3333 leaves those of the connection to the server. Views that pass on what another server has answered set them
    nevertheless. (One that names ``Upgrade`` belongs to the answer: it says what would do.)

    :param headers: pairs of name and value.
    :return: a new list, without those of the connection.
    """
    return [(name, value) for name, value in headers
            if name.lower() not in _OF_THE_CONNECTION or value.strip().lower() == "upgrade"]


def head_bytes(status: str, headers: Headers) -> bytes:
    """Return the head of a response as it is sent.

    :param status: status code and reason phrase.
    :param headers: pairs of name and value.
    :return: all up to the empty line, which is included.
    :raises ValueError: if one holds CR or LF, by which a client that chose its text could write headers of its own, or
        what Latin-1 does not have.
    """
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a status or header holds CR or LF")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class WaitingClock:
    """Says whether the calling thread mostly waits: what computes gains nothing by having others beside it."""

    def __init__(self) -> None:
        self._began, self._used = time.monotonic(), time.thread_time()

    def waits(self) -> bool:
        """Return whether the thread has used less than a quarter of its time to compute, of a quarter second at least.

        :return: whether it has.
        """
        took = time.monotonic() - self._began
        return took > 0.25 and time.thread_time() - self._used < took / 4


class WSGICall:
    """Runs a WSGI app in a native thread; :meth:`receive` gives its answer to a greenlet, message by message.

    :param app: the WSGI app.
    :param environ: the request.
    :param front: what all requests share: wakes the greenlet, and has room for what the client does not take yet.
    :param hang_up: ends the connection, if the client is too slow while threads are short.
    :ivar producing: whether the answer is being produced piece by piece.
    """

    def __init__(self, app: Any, environ: dict[str, Any], front: Front, hang_up: Callable[[], None]) -> None:
        self._app, self._environ, self._front, self._hang_up = app, environ, front, hang_up
        self._messages: deque[Head | End] = deque()
        self._arrived = Event()
        self._spool: Spool | None = None  # made with the first chunk; most answers have none
        self.producing = self._doubtful = self._over = False
        self._head: tuple[str, Headers] | None = None
        self._head_sent = False
        self._written: list[bytes] = []

    # -- on the loop -----------------------------------------------------------------------------------------

    def submit(self, pool: ThreadPool, size: int) -> None:
        """Have a thread make the call.

        :param pool: where the thread is.
        :param size: what the request holds in memory while it waits (bytes).
        :raises Overloaded: if too many wait already.
        """
        self._pool, self._job = pool, Job(self.run, size)
        pool.submit(self._job)

    def receive(self, seconds: float | None = None) -> Message | None:
        """Wait for the next message, in a greenlet.

        :param seconds: for how long at most; by default until it comes.
        :return: a :class:`Head`, then ``bytes``, then an :class:`End`; ``None`` if no message came in time.
        """
        while (message := self._received()) is None:
            self._arrived.clear()
            if (message := self._received()) is not None:
                break
            if seconds is None:
                self._arrived.wait()
            elif not self._front.notifier.wait(self._arrived, seconds):
                return None
        return message

    def _received(self) -> Message | None:
        ended = bool(self._messages)  # asked first: what waits in the spool was put there before the end was said
        if ended and isinstance(self._messages[0], Head):
            return self._messages.popleft()
        if self._spool is not None and self._spool.pending:
            return self._spool.take() or None
        if self._spool is not None:
            self._spool.drained()
        return self._messages.popleft() if ended else None

    def may_last(self) -> None:
        """Have another thread take the place of this call's while it waits."""
        self._pool.may_last(self._job)

    def cancel(self) -> bool:
        """Take the call back; return false if it has begun."""
        return self._pool.cancel(self._job)

    def doubt(self) -> None:
        """Have the thread learn of each piece whether the client was there to take it."""
        self._doubtful = True
        if self._spool is not None:
            self._spool.doubtful = True

    def end(self) -> None:
        """Have the thread produce nothing any more, and keep nothing for the client: it has its answer, or is gone."""
        self._over = True
        if self._spool is not None:
            self._spool.close()

    def _cut(self) -> None:
        if not self._over:  # else the connection may be at its next request
            self._hang_up()

    # -- in the thread ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Call the app, iterate its answer, close it. Never raises: an error is the last message.

        What is closed may take long, or fail: the client has its whole answer before, as with other servers.
        """
        result = None
        try:
            result = self._app(self._environ, self._start_response)
            self._iterate(result)
            self._finish()
        except BaseException as error:  # it belongs to the request, not to this thread
            self._post(End(error))
        close = getattr(result, "close", None)
        if close is not None:
            self._close(close)

    def _close(self, close: Callable[[], object]) -> None:
        if self.producing:
            self.may_last()  # nobody watches any more for how long it waits
        try:
            close()
        except BaseException:
            logger.exception("the answer to %s %s was given, and raised as it was closed",
                             self._environ["REQUEST_METHOD"], self._environ["PATH_INFO"])

    def _start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        if exc_info is not None and self._head_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._head is not None and exc_info is None:
            raise RuntimeError("start_response was called twice")
        self._head = (status, list(headers))
        return self._written.append

    def _iterate(self, result: Iterable[bytes]) -> None:
        if isinstance(result, (list, tuple)) or self._length_known():
            self._written.extend(result)
            return
        if isinstance(result, FileWrapper) and not self._written and (found := result.duplicate()) is not None:
            self._begun().put_file(*found)
            return
        self._pool.begin_answer(self._job)
        self.producing = True
        clock = WaitingClock()
        for piece in result:
            if self._over:
                return
            # What was given to the write callable of PEP 3333 comes before what is iterated.
            chunk = b"".join([*self._written, piece])
            self._written.clear()
            if chunk and not self._begun().put(chunk):
                return
            if clock.waits():
                self.may_last()

    def _length_known(self) -> bool:
        """Return true if the app has said how long its answer is, and that is short enough to hold it."""
        if self._head is None:
            return False
        for name, value in self._head[1]:
            if name.lower() == "content-length":
                return value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= WHOLE
        return False

    def _begun(self) -> Spool:
        """Return where the body goes, after its head was sent."""
        if self._spool is None:
            self._head_sent = True
            self._post(Head(*self._started(), None))
            self._spool = Spool(self._front.spools, on_data=self._notify, on_full=self.may_last, hang_up=self._cut)
            self._spool.doubtful = self._doubtful
            if self._over:
                self._spool.close()
        return self._spool

    def _finish(self) -> None:
        if self._head_sent:
            self._post(End())
        else:
            self._post(Head(*self._started(), b"".join(self._written)))

    def _started(self) -> tuple[str, Headers]:
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        return self._head

    def _post(self, message: Head | End) -> None:
        self._messages.append(message)
        self._notify()

    def _notify(self) -> None:
        self._front.notifier.set(self._arrived, later=self._pool.together)
