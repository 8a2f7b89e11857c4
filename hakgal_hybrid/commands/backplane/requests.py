"""Requests of clients of another process: they are answered there, in turn with the client's other ones."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from ...errors import HybridError, Overloaded
from ...logs import get_logger
from ..worker import Worker

logger = get_logger(__name__)

#: How many requests of this process may wait for others at a time; and how many of others may wait here.
MAX_ASKED = 64
MAX_WAITING = 1000

#: Posts a message to a process.
Post = Callable[[str, list[Any]], None]


class Answer(NamedTuple):
    """What a request was answered with.

    :ivar status: the HTTP status.
    :ivar text: the body, JSON.
    """

    status: int
    text: str


class RequestForwarding:
    """Asks other processes, and answers them.

    :param post: posts a message.
    :param threads: how many requests of others are answered at a time.
    :ivar process: the name of this process; set when it is known.
    :ivar serve: answers a request, given its path, its token and its body; set once there is somebody who can.
    """

    def __init__(self, post: Post, threads: int) -> None:
        self._post = post
        self._worker = Worker("hakgal-hybrid-forwarded", limit=MAX_WAITING, threads=threads)
        self._asked: dict[str, queue.SimpleQueue[Answer | None]] = {}
        self._places = threading.Semaphore(MAX_ASKED)
        self.serve: Callable[[str, str, str], Answer] | None = None

    def ask(self, here: str, there: str, path: str, token: str, body: str, seconds: float) -> Answer:
        """Have a process answer a request, at most once.

        :param here: the name of this process.
        :param there: the name of the other one.
        :param path: the path of the request.
        :param token: the client's token.
        :param body: the body, JSON.
        :param seconds: how long to wait.
        :return: the answer.
        :raises Overloaded: if too many wait already.
        :raises HybridError: 410 if that process is gone; 504 if it does not answer in time: then it is not known
            whether the request was carried out.
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many requests wait for other processes", code="forwarding")
        number = secrets.token_hex(8)
        answers = self._asked[number] = queue.SimpleQueue()
        try:
            self._post(there, ["request", number, here, path, token, body, seconds])
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            raise HybridError("the process that has this client has not answered; it is not known whether the request "
                              "was carried out", code="unknown", status=504) from None
        finally:
            del self._asked[number]
            self._places.release()
        if answer is None:
            raise HybridError("the process that had this client is gone; connect again", code="gone", status=410)
        return answer

    def received(self, kind: str, rest: list[Any]) -> None:
        """Take what another process has sent.

        :param kind: ``request`` or ``answer``.
        :param rest: the message.
        """
        if kind == "answer":
            number, status, text = rest
            self._arrived(number, Answer(int(status), str(text)))
            return
        number, sender, path, token, body, _ = rest
        if not self._worker.submit(partial(self._answer, number, sender, path, token, body)):
            logger.error("a request of another process was dropped: too many are waiting")

    def undelivered(self, message: list[Any]) -> None:
        """Note that the process that a message was for is gone.

        :param message: the message.
        """
        if message[0] == "request":
            self._arrived(message[1], None)

    def _arrived(self, number: str, answer: Answer | None) -> None:
        answers = self._asked.get(number)
        if answers is not None:
            answers.put(answer)

    def _answer(self, number: str, sender: str, path: str, token: str, body: str) -> None:
        if self.serve is not None:
            self._post(sender, ["answer", number, *self.serve(path, token, body)])
