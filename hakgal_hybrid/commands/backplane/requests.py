"""Requests of clients of another process: they are answered there, in turn with the client's other ones."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from ...broker.wakeups import make_wakeup
from ...errors import HybridError, Overloaded, problem_response
from ...logs import get_logger
from ..worker import Worker

logger = get_logger(__name__)

#: How many requests of this process may wait for others at a time; and how many of others may wait here.
MAX_ASKED = 1000
MAX_WAITING = 1000
#: How many threads may wait for others at a time, where a request that waits takes one.
MAX_THREADS = 16

#: The path of requests that an edge makes for a client of its own; and of requests to let a client in, which a host
#: confirms at once when it takes them, so that the edge may ask another host instead.
GUEST, ADMIT = "guest", "admit"
#: The kind of message by which a host finds out whether an edge is still there.
LOOK = "look"

#: Posts a message to a process.
Post = Callable[[str, list[Any]], None]


class Request(NamedTuple):
    """A request of a client.

    :ivar sender: the name of the process that it has reached.
    :ivar path: its path.
    :ivar token: the client's token.
    :ivar body: its body, JSON.
    :ivar seconds: how long it may take, in seconds.
    :ivar environ: what its handlers see of the WSGI environment, besides what is the same for all.
    """

    sender: str
    path: str
    token: str
    body: str
    seconds: float
    environ: dict[str, str]


class Answer(NamedTuple):
    """What a request was answered with.

    :ivar status: the HTTP status.
    :ivar text: the body, JSON.
    """

    status: int
    text: str

    @classmethod
    def of(cls, error: HybridError) -> Answer:
        """Return the answer that is the problem document of an error.

        :param error: the error.
        """
        return cls(error.status, problem_response(error)[2].decode())


class ForwardedRequest:
    """A request that another process answers. One thread, or greenlet, waits for it.

    :param seconds: how long the other process may take, in seconds.
    :param end: called once nobody waits any more.
    :param clock: monotonic seconds.
    :ivar on_wake: called, from any thread, when :meth:`take` is to be called.
    :ivar taken: true once the other process has said that it has the request; it says so only of some.
    """

    def __init__(self, seconds: float, end: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> None:
        self.on_wake: Callable[[], object] = lambda: None
        self.taken = False
        self._answer: Answer | HybridError | None = None
        self._until, self._end, self._clock = clock() + seconds, end, clock

    def arrived(self, answer: Answer | HybridError) -> None:
        """Note the answer, or why there will be none.

        :param answer: the answer.
        """
        self._answer = answer
        self.on_wake()

    @property
    def wait_s(self) -> float:
        """How long :meth:`take` need not be called, if nobody wakes it, in seconds."""
        return max(0.0, self._until - self._clock())

    def take(self) -> Answer | None:
        """Return the answer; ``None`` while there is none.

        :raises HybridError: 410 if that process is gone; 504 if it has not answered in time: then it is not known
            whether the request was carried out.
        """
        answer = self._answer
        if answer is None and not self.wait_s:
            answer = HybridError("the process that has this client has not answered; it is not known whether the "
                                 "request was carried out", code="unknown", status=504)
        if answer is not None:
            self.abandon()
        if isinstance(answer, HybridError):
            raise answer
        return answer

    def wait(self, taken_s: float = float("inf")) -> Answer:
        """Wait for the answer in this thread.

        :param taken_s: after how long it is over if the other process has not taken the request by then, in seconds.
        :return: the answer.
        :raises HybridError: as :meth:`take` does.
        """
        woken, until = make_wakeup(), self._clock() + taken_s
        self.on_wake = woken.set
        try:
            while (answer := self.take()) is None:
                left = self.wait_s if self.taken else min(self.wait_s, until - self._clock())
                if left <= 0 and not self.taken:
                    self._until = self._clock()
                    continue
                woken.wait(left)
                woken.clear()
            return answer
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Wait no longer. What the other process does with the request stays done."""
        self._end()


def _overloaded() -> Overloaded:
    return Overloaded("too many requests wait for other processes", code="forwarding")


class RequestForwarding:
    """Asks other processes, and answers them.

    :param post: posts a message.
    :param threads: how many requests of others are answered at a time.
    :ivar post: posts a message.
    :ivar serve: answers a request; set once there is somebody who can.
    :ivar guests: answers a request that an edge makes for a client of its own, given its body, how many seconds it
        may take, and what is to be called with the answer; ``None`` in a process that is no host.
    :ivar heard: by their kind, what takes other messages; each is called with what the message has.
    :ivar unheard: the same for those whose process is gone.
    """

    def __init__(self, post: Post, threads: int) -> None:
        self.post = post
        self._worker = Worker("hakgal-hybrid-forwarded", limit=MAX_WAITING, threads=threads)
        self._asked: dict[str, ForwardedRequest] = {}
        self._threads = threading.Semaphore(MAX_THREADS)
        self.serve: Callable[[Request], Answer] | None = None
        self.guests: Callable[[str, float, Callable[[Answer], object]], object] | None = None
        self.heard: dict[str, Callable[..., object]] = {}
        self.unheard: dict[str, Callable[..., object]] = {}

    @contextmanager
    def thread(self) -> Iterator[None]:
        """Have this thread wait for another process in this context.

        :raises Overloaded: if too many do already.
        """
        if not self._threads.acquire(blocking=False):
            raise _overloaded()
        try:
            yield
        finally:
            self._threads.release()

    def tell(self, there: str, request: Request) -> None:
        """Have a process answer a request whose answer nobody waits for.

        :param there: the name of the process.
        :param request: the request.
        """
        self.post(there, ["request", "", *request])

    def ask(self, there: str, request: Request) -> ForwardedRequest:
        """Have a process answer a request, at most once.

        :param there: the name of the process.
        :param request: the request.
        :return: what has the answer in the end.
        :raises Overloaded: if too many wait already.
        """
        if len(self._asked) >= MAX_ASKED:
            raise _overloaded()
        number = secrets.token_hex(8)
        asked = self._asked[number] = ForwardedRequest(request.seconds, lambda: self._asked.pop(number, None))
        try:
            self.post(there, ["request", number, *request])
        except BaseException:
            asked.abandon()
            raise
        return asked

    def received(self, kind: str, rest: list[Any]) -> None:
        """Take what another process has sent.

        :param kind: ``request``, ``answer``, or what somebody takes by :attr:`heard`.
        :param rest: the message.
        """
        if kind in self.heard:
            self.heard[kind](*rest)
            return
        if kind == "taken":
            self._taken(*rest)
            return
        if kind == "answer":
            number, status, text = rest
            self._arrived(number, Answer(int(status), str(text)))
            return
        number, *passed = rest
        request = Request(*passed)
        if request.path == ADMIT:
            self.post(request.sender, ["taken", number])
        if request.path in (GUEST, ADMIT) and self.guests is not None:
            self.guests(request.body, float(request.seconds),
                        lambda answer: self.post(request.sender, ["answer", number, *answer]))
            return
        if not self._worker.submit(partial(self._answer, number, request)):
            logger.error("a request of another process was dropped: too many are waiting")

    def undelivered(self, message: list[Any]) -> None:
        """Note that the process that a message was for is gone.

        :param message: the message.
        """
        kind, *rest = message
        if kind == "request":
            self._arrived(rest[0], HybridError("the process that had this client is gone; connect again", code="gone",
                                               status=410))
        elif kind in self.unheard:
            self.unheard[kind](*rest)

    def _taken(self, number: str) -> None:
        asked = self._asked.get(number)
        if asked is not None:
            asked.taken = True
            asked.on_wake()

    def _arrived(self, number: str, answer: Answer | HybridError) -> None:
        asked = self._asked.get(number)
        if asked is not None:
            asked.arrived(answer)

    def _answer(self, number: str, request: Request) -> None:
        if self.serve is not None:
            answer = self.serve(request)
            if number:
                self.post(request.sender, ["answer", number, *answer])
