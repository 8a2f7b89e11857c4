"""Turns: numbered calls of one client start in order and run once, however they arrive.

Posts on several connections overtake each other, and a post whose answer was lost is sent again. With numbers they
behave like messages on one socket.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable

from ..errors import HybridError, RequestError

#: How long a call waits for the ones before it (seconds), and how many may wait: both hold a thread of the host.
PATIENCE_S = 5.0
MAX_WAITING = 8
#: How many answers are kept for repetitions, and how many characters they have together.
KEPT = 64
KEPT_SIZE = 1 << 20


class _Answer:
    """What became of one number: a text, or an error, without the frames that would keep the request's body alive."""

    def __init__(self) -> None:
        self.there = threading.Event()
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


class Sequencer:
    """Hands out turns to the calls of one client; the first number is 1."""

    def __init__(self) -> None:
        self._next = 1
        self._waiting = 0
        self._answers: OrderedDict[int, _Answer] = OrderedDict()
        self._changed = threading.Condition()

    def run(self, number: int, call: Callable[[Callable[[], None]], str]) -> str:
        """Call ``call`` in its turn and return its result; for a number that had its turn, return that result.

        :param call: gets a function to call as it really begins: only then is it the next number's turn.
        :raises RequestError: 409 ``out_of_turn`` if earlier numbers do not come in time, ``repeated_too_late`` if the
            answer is not remembered any more; and whatever ``call`` raises or raised.
        """
        with self._changed:
            answer, mine = self._take(number)
        if not mine:
            self._wait_for_answer(answer, number)
            return answer.repeat()
        try:
            answer.text = call(lambda: self._begun(number))
        except BaseException as error:
            answer.fail(error)  # for whoever repeats the number
            raise
        finally:
            answer.there.set()
            self._begun(number)  # also if it failed before it began
        return answer.text

    def _wait_for_answer(self, answer: _Answer, number: int) -> None:
        """Wait, within bounds, for the answer to a number whose first call still runs."""
        with self._changed:
            self._waiting += 1
            allowed = self._waiting <= MAX_WAITING
        try:
            if not answer.there.is_set() and not (allowed and answer.there.wait(PATIENCE_S)):
                raise RequestError(f"number {number} is still being answered; ask again", status=409,
                                   code="still_running", expected=self._next)
        finally:
            with self._changed:
                self._waiting -= 1

    def _take(self, number: int) -> tuple[_Answer, bool]:
        """Return the answer that belongs to ``number``, and whether it is the caller who has to find it."""
        if number > self._next:
            self._wait_for(number)
        if number in self._answers:
            return self._answers[number], False
        if number < self._next:
            raise RequestError(f"number {number} was answered too long ago to say how", status=409,
                               code="repeated_too_late", expected=self._next)
        self._answers[number] = answer = _Answer()
        while len(self._answers) > KEPT or (
                len(self._answers) > 1 and sum(len(kept.text) for kept in self._answers.values()) > KEPT_SIZE):
            self._answers.popitem(last=False)
        return answer, True

    def _begun(self, number: int) -> None:
        with self._changed:
            if number == self._next:
                self._next += 1
                self._changed.notify_all()

    def _wait_for(self, number: int) -> None:
        self._waiting += 1
        try:
            in_time = self._waiting <= MAX_WAITING and self._changed.wait_for(lambda: number <= self._next, PATIENCE_S)
        finally:
            self._waiting -= 1
        if not in_time:
            raise RequestError(f"number {number} is out of turn: {self._next} has not come", status=409,
                               code="out_of_turn", expected=self._next)
