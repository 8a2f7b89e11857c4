"""WSGICall: one request's way through a native thread and back to the loop.

One thread calls, iterates and closes one response, because context variables and SQLite connections are bound to
threads. What it produces comes back as messages, in order, through a bounded buffer.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from gevent.event import Event

from ..errors import Overloaded
from .notifier import EventNotifier
from .pool import Job, ThreadPool

#: Answers up to this size (bytes) with a known length come back in one piece, which frees their thread at once.
WHOLE = 1 << 20
#: How many chunks of a streamed answer may wait for the client.
CHUNKS_AHEAD = 8

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


class WSGICall:
    """Runs a WSGI app in a native thread; :meth:`receive` gives its answer to a greenlet, message by message.

    :param app: the WSGI app.
    :param environ: the request.
    :param notifier: wakes the greenlet.
    """

    def __init__(self, app: Any, environ: dict[str, Any], notifier: EventNotifier) -> None:
        self._app, self._environ, self._notifier = app, environ, notifier
        self._messages: deque[Message] = deque()
        self._arrived = Event()
        self._room: threading.Semaphore | None = None  # made with the first chunk; most answers have none
        self._abandoned = False
        self._head: tuple[str, Headers] | None = None
        self._head_sent = False
        self._written: list[bytes] = []

    # -- on the loop -----------------------------------------------------------------------------------------

    def begin(self, pool: ThreadPool, size: int, seconds: float) -> Message | None:
        """Have a thread make the call, and wait for the first message, in a greenlet.

        :param pool: where the thread is.
        :param size: what the request holds in memory while it waits (bytes).
        :param seconds: how long it may wait for a thread.
        :return: as that of :meth:`receive`.
        :raises Overloaded: if too many wait already, or no thread became free in time.
        """
        job = Job(self.run, size)
        pool.submit(job)
        message = self.receive(seconds)
        if message is None:
            if pool.cancel(job):
                raise Overloaded(f"no thread became free within {seconds:g} s (HYBRID_QUEUE_S)",
                                 code="queued_too_long", retry_after=2)
            message = self.receive()
        return message

    def receive(self, seconds: float | None = None) -> Message | None:
        """Wait for the next message, in a greenlet.

        :param seconds: for how long at most; by default until it comes.
        :return: a :class:`Head`, then ``bytes``, then an :class:`End`; ``None`` if no message came in time.
        """
        while not self._messages:
            self._arrived.clear()
            if self._messages:
                break
            if seconds is None:
                self._arrived.wait()
            elif not self._notifier.wait(self._arrived, seconds):
                return None
        message = self._messages.popleft()
        if isinstance(message, bytes):
            self._give_room()
        return message

    def abandon(self) -> None:
        """Have the thread stop producing, because the client is gone."""
        self._abandoned = True
        self._give_room()

    def _give_room(self) -> None:
        if self._room is not None:
            self._room.release()

    # -- in the thread ---------------------------------------------------------------------------------------

    def run(self) -> None:
        """Call the app, iterate its answer, close it. Never raises: an error is the last message."""
        try:
            result = self._app(self._environ, self._start_response)
            try:
                self._iterate(result)
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
            self._finish()
        except BaseException as error:  # it belongs to the request, not to this thread
            self._post(End(error))

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
        for piece in result:
            if self._abandoned:
                return
            # What was given to the write callable of PEP 3333 comes before what is iterated.
            chunk = b"".join([*self._written, piece])
            self._written.clear()
            if chunk:
                self._send_head()
                if self._room is None:
                    self._room = threading.Semaphore(CHUNKS_AHEAD)
                self._room.acquire()
                if self._abandoned:
                    return
                self._post(chunk)

    def _length_known(self) -> bool:
        """Return true if the app has said how long its answer is, and that is short enough to hold it."""
        if self._head is None:
            return False
        for name, value in self._head[1]:
            if name.lower() == "content-length":
                return value.isascii() and value.isdigit() and len(value) < 20 and int(value) <= WHOLE
        return False

    def _send_head(self) -> None:
        if not self._head_sent:
            self._head_sent = True
            self._post(Head(*self._started(), None))

    def _finish(self) -> None:
        if self._head_sent:
            self._post(End())
        else:
            self._post(Head(*self._started(), b"".join(self._written)))

    def _started(self) -> tuple[str, Headers]:
        if self._head is None:
            raise RuntimeError("the application did not call start_response")
        return self._head

    def _post(self, message: Message) -> None:
        self._messages.append(message)
        self._notifier.set(self._arrived)
