"""HeldAnswer: an answer that is not there yet, for a server that waits for it without a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from .packets import Packet, ProtocolError
from .polling import Poll
from .refusals import Refusal, RefusalCode
from .session import EngineSession


class Answer(NamedTuple):
    """An answer.

    :ivar status: status code and reason phrase.
    :ivar content_type: what the body is.
    :ivar body: the body.
    """

    status: str
    content_type: str
    body: bytes


#: How often a request that waits for room is looked at (seconds): its session may have ended.
_LOOK_S = 1.0
TEXT = "text/plain; charset=UTF-8"


def refusal_answer(refusal: Refusal) -> Answer:
    """Return the answer to a request that is not served.

    :param refusal: why.
    """
    return Answer("403 Forbidden" if refusal.status == 403 else "400 Bad Request", "application/json",
                  refusal.body())


class HeldAnswer(Protocol):
    """An answer that waits. One thread, or greenlet, uses it; any thread may wake it.

    :ivar on_wake: called, from any thread, when :meth:`take` is to be called.
    """

    on_wake: Callable[[], object]

    def take(self) -> Answer | None:
        """Return the answer; ``None`` while there is none."""

    @property
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""

    def abandon(self) -> None:
        """Note that the client is gone, or did not get the answer."""


class HeldPost:
    """A request that brings packets. They are taken while their client may send more, and the others wait.

    :param session: whose request it is.
    :param packets: what it brings.
    :param size: how large its body is, in bytes.
    :ivar on_wake: called, from any thread, when :meth:`take` is to be called.
    :raises ProtocolError: for one that a client must not send, or if there is no room for those that wait.
    """

    def __init__(self, session: EngineSession, packets: Iterator[Packet], size: int) -> None:
        self.on_wake: Callable[[], object] = lambda: None
        self._session, self._packets, self._room = session, packets, True
        self._done = self._receive()
        if not self._done and not self._holds(size):
            raise ProtocolError("there is no room for it")

    def _holds(self, size: int) -> bool:
        with self._session.lock:
            return self._session.over or self._session.upper.holds(size)

    def _on_room(self) -> None:
        self._room = True
        self.on_wake()

    def _receive(self) -> bool:
        """Take packets; return true once no more are to be taken."""
        session = self._session
        while self._room and not session.over:
            packet = next(self._packets, None)
            if packet is None:
                return True
            session.receive(packet)
            self._room = False
            session.upper.when_room(self._on_room)
        return session.over

    def take(self) -> Answer | None:
        """Return the answer; ``None`` while there is none."""
        answer = Answer("200 OK", TEXT, b"ok")
        try:
            self._done = self._done or self._receive()
        except ProtocolError:
            self._done, answer = True, refusal_answer(Refusal(RefusalCode.BAD_REQUEST))
            self._session.fail("transport error")
        if not self._done:
            return None
        self._holds(0)
        self._session.polling.end_post()
        return answer

    @property
    def wait_s(self) -> float:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds)."""
        return _LOOK_S

    def abandon(self) -> None:
        """Note that the client is gone, or did not get the answer."""
        self._session.polling.end_post()
        self._session.fail("transport close")


class HeldPoll:
    """A poll that waits. One thread, or greenlet, uses it; any thread may wake it.

    :param session: whose poll it is.
    :param stopping: returns true once the server stops.
    :ivar on_wake: called, from any thread, when :meth:`take` is to be called.
    :ivar session: whose poll it is.
    """

    def __init__(self, session: EngineSession, stopping: Callable[[], bool]) -> None:
        self.on_wake: Callable[[], object] = lambda: None
        self.session, self._stopping = session, stopping
        self._body: bytes | None = None
        self._poll: Poll = session.polling.begin_poll(self._wake)

    def _wake(self) -> None:
        self.on_wake()

    def take(self) -> Answer | None:
        """Return the answer; ``None`` while there is none."""
        if self._body is not None:
            return Answer("200 OK", TEXT, self._body)
        if self._stopping():
            self.session.close("transport close")
        try:
            body = self.session.polling.take(self._poll)
        except Refusal as refusal:
            return refusal_answer(refusal)
        return None if body is None else Answer("200 OK", TEXT, body)

    def give(self, blocks: bytes) -> bool:
        """Have it answered with events that were read once for many sessions.

        :param blocks: the events, in polling.
        :return: false if these cannot be its answer.
        """
        self._body = self.session.polling.give(self._poll, blocks)
        return self._body is not None

    @property
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""
        return self.session.polling.wait_s(self._poll)

    def abandon(self) -> None:
        """Note that the client is gone, or did not get the answer: packets are not asked for twice."""
        self.session.polling.abandon(self._poll)
        self.session.fail("transport close")
