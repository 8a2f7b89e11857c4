"""Sequencer: numbered calls of one client start in order and run once, in whatever order they arrive.

Posts on several connections overtake each other, and a post whose reply was lost is sent again. With numbers they
behave like messages on one socket.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable

from ..errors import HybridError, RequestError


class _Reply:
    """The result of one number: a text, or an error without the frames that would keep the request's body alive."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.text = ""
        self.error: HybridError | None = None

    def fail(self, error: BaseException) -> None:
        known = isinstance(error, HybridError)
        self.error = copy.copy(error) if known else RequestError(  # type: ignore[assignment]
            f"it failed with {type(error).__name__}", status=500, code="handler_failed")

    def repeat(self) -> str:
        """Return the text or raise the error; each time a new one, because raising adds to it."""
        if self.error is not None:
            raise copy.copy(self.error)
        return self.text


class _Early:
    """A call that came before its turn.

    :param number: its number.
    :ivar number: the same.
    :ivar hopeless: true once a call before it was refused, so that its turn cannot come.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.hopeless = False


class Sequencer:
    """Runs the numbered calls of one client; the first number is 1.

    A call that waits holds a thread of the host, so waiting is bounded in time and in number: for one client here, and
    for all clients by a semaphore that they share.

    :param timeout_s: seconds that a call waits for the ones before it, or for the reply that it repeats.
    :param max_waiting: how many calls may wait.
    :param replies_cached: how many replies are kept for repetitions.
    :param cached_chars: how many characters these replies have together; the newest is kept in any case.
    """

    def __init__(self, *, timeout_s: float = 5.0, max_waiting: int = 8, replies_cached: int = 64,
                 cached_chars: int = 1 << 20) -> None:
        self._timeout_s, self._max_waiting = timeout_s, max_waiting
        self._replies_cached, self._cached_chars = replies_cached, cached_chars
        self._next = 1
        self._waiting = 0
        self._early: list[_Early] = []
        self._replies: OrderedDict[int, _Reply] = OrderedDict()
        self._changed = threading.Condition()

    def run(self, number: int, call: Callable[[Callable[[], None]], str],
            all_waiting: threading.Semaphore | None = None) -> str:
        """Call a function in its turn; for a number that had its turn, return the same result again.

        :param number: the call's number, 1 or more.
        :param call: the function; it gets a function that it calls when its work begins, which ends its turn.
        :param all_waiting: has one unit for each call that may wait, of all clients; by default nothing but
            ``max_waiting`` bounds that.
        :return: what ``call`` returned.
        :raises RequestError: 409 ``out_of_turn`` if earlier numbers do not come in time, or at once if no more calls
            may wait; ``still_running`` likewise, if the first call with this number has not ended; or
            ``repeated_too_late`` if its reply is not kept any more.
        :raises BaseException: whatever ``call`` raises; a repetition gets it as a :class:`~hakgal_hybrid.HybridError`.
        """
        with self._changed:
            reply, mine = self._take(number, all_waiting)
        if not mine:
            self._wait_for_reply(reply, number, all_waiting)
            return reply.repeat()
        try:
            reply.text = call(lambda: self._release_next(number))
        except BaseException as error:
            reply.fail(error)  # for a repetition of the number
            raise
        finally:
            reply.ready.set()
            self._release_next(number)  # also if it failed before it began
        return reply.text

    def _wait_for_reply(self, reply: _Reply, number: int, all_waiting: threading.Semaphore | None) -> None:
        """Wait, within bounds, for the reply to a number whose first call still runs."""
        if reply.ready.is_set():
            return
        with self._changed:
            allowed = self._may_wait(all_waiting)
        try:
            if not (allowed and reply.ready.wait(self._timeout_s)):
                raise RequestError(f"number {number} is still being answered; ask again", status=409,
                                   code="still_running", expected=self._next)
        finally:
            if allowed:
                with self._changed:
                    self._waits_no_more(all_waiting)

    def _take(self, number: int, all_waiting: threading.Semaphore | None) -> tuple[_Reply, bool]:
        """Return the reply of a number, and whether the caller has to produce it (else another call does, or did)."""
        if number > self._next:
            self._wait_for(number, all_waiting)
        if number in self._replies:
            return self._replies[number], False
        if number < self._next:
            raise RequestError(f"number {number} was answered too long ago to say how", status=409,
                               code="repeated_too_late", expected=self._next)
        self._replies[number] = reply = _Reply()
        while len(self._replies) > self._replies_cached or (
                len(self._replies) > 1 and sum(len(kept.text) for kept in self._replies.values()) > self._cached_chars):
            self._replies.popitem(last=False)
        return reply, True

    def _release_next(self, number: int) -> None:
        with self._changed:
            if number == self._next:
                self._next += 1
                self._changed.notify_all()

    def _wait_for(self, number: int, all_waiting: threading.Semaphore | None) -> None:
        if self._may_wait(all_waiting):
            early = _Early(number)
            self._early.append(early)
            try:
                self._changed.wait_for(lambda: number <= self._next or early.hopeless, self._timeout_s)
            finally:
                self._early.remove(early)
                self._waits_no_more(all_waiting)
        if number > self._next:
            for later in self._early:  # it would wait for this one
                later.hopeless = later.hopeless or later.number > number
            self._changed.notify_all()
            raise RequestError(f"number {number} is out of turn: {self._next} has not come", status=409,
                               code="out_of_turn", expected=self._next)

    def _may_wait(self, all_waiting: threading.Semaphore | None) -> bool:
        """Return whether one more call may wait; if so, it counts as waiting."""
        if self._waiting >= self._max_waiting or not (all_waiting is None or all_waiting.acquire(blocking=False)):
            return False
        self._waiting += 1
        return True

    def _waits_no_more(self, all_waiting: threading.Semaphore | None) -> None:
        self._waiting -= 1
        if all_waiting is not None:
            all_waiting.release()
