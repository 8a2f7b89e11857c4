"""OpeningPool: the threads that open streams, which take turns with the loop in a storm of openings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .fanout.pacing import Precedence
from .notifier import EventNotifier
from .pool import Job, ThreadPool

#: How many connections are accepted before the loop looks at anything else, and how many openings are a storm: no
#: further connection is accepted until the first of them have been done.
AT_ONCE = 8
#: For how long connections are not accepted at most, an opening is put off while events are sent, and an answer waits
#: for those of the next openings (seconds).
TURN_S = 0.005


class OpeningPool(ThreadPool):
    """A pool whose jobs are begun, and whose answers are fetched, several at a time.

    A thread and the loop that both have something to do take the GIL from each other at every system call. In a storm
    of openings that costs half as much as the openings themselves, and makes events late. So the loop first reads all
    requests that are here, then a thread opens the streams, then the loop writes their answers and accepts further
    connections. The loop never waits for that, and no turn keeps connections out for longer than :data:`TURN_S`.

    :param loop: the loop that submits the jobs.
    :param notifier: sets the events of that loop which say that there is an answer.
    :param precedence: held while events are sent to streams. No job begins meanwhile, for :data:`TURN_S` at most.
    :param options: as for :class:`.ThreadPool`.
    :ivar storm: whether no connection is to be accepted for a moment.
    :ivar on_calm: called when connections may be accepted again.
    """

    together = True

    def __init__(self, loop: Any, notifier: EventNotifier, precedence: Precedence, **options: Any) -> None:
        super().__init__("stream", **options)
        self._loop, self._notifier, self._precedence = loop, notifier, precedence
        self._turn = loop.timer(TURN_S, TURN_S)
        self._handing_over = self._put_off = self._closed = False
        self.storm = False
        self.on_calm: list[Callable[[], object]] = []

    # -- on the loop -----------------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Run a job in a thread, once the loop has read all requests that are here. For the loop's thread.

        :param job: the job.
        :raises Overloaded: as :meth:`.ThreadPool.submit` does.
        """
        super().submit(job)
        if not self._handing_over:
            self._handing_over = True
            self._loop.run_callback(self._hand_over)

    def _wake_thread(self) -> None:
        """Do nothing: :meth:`_hand_over` does."""

    def _hand_over(self) -> None:
        self._handing_over = False
        with self._changed:
            super()._wake_thread()
            self.storm = self.storm or len(self._jobs) >= AT_ONCE
        if not self._closed and not self._turn.active:
            self._turn.again(self._end_turn, update=True)

    def keeps_out(self) -> bool:
        """Return whether no connection is to be accepted for a moment: in a storm, or after one while events are sent.

        A connection that is put off for the latter is accepted after :data:`TURN_S` at most, events or not.
        """
        if not self.storm:
            self._put_off = not self._closed and self._turn.active and self._precedence.held and not self._put_off
            self.storm = self._put_off
        return self.storm

    def answered(self) -> None:
        """Note that answers have come, or events were sent. Connections may be accepted again."""
        if self.storm:
            self.storm = False
            for call in self.on_calm:
                call()

    def _end_turn(self) -> None:
        self._notifier.deliver()
        self.answered()
        if self.at_rest:
            self._turn.stop()

    def close(self) -> None:
        """Fetch no more answers."""
        self._closed = True
        self._turn.stop()
        self._turn.close()

    # -- in a thread -----------------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        self._precedence.give(TURN_S)
        super()._run(job)

    def _await_job(self) -> None:
        if not self._jobs:
            self._notifier.notify()
        super()._await_job()
