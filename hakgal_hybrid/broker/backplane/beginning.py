"""Beginning: how a process begins to read the shared log: with the newest entries, or after them."""

from __future__ import annotations

import threading
import time


class Beginning:
    """Says when a process knows where it begins, and with what. One thread reads; any may wait.

    :ivar seeds: true if the process begins with the newest entries.
    """

    def __init__(self) -> None:
        self.seeds, self._decided, self._deciding = True, False, threading.Lock()
        self._known, self._started_at = threading.Event(), float("inf")

    def started(self) -> None:
        """Note that the process begins to read. To be called before its thread does."""
        before, self._known, self._started_at = self._known, threading.Event(), time.monotonic()
        before.set()  # a thread that waits for the old event looks again, and waits for the new one

    @property
    def known(self) -> bool:
        """True once the process knows where it begins, and which others there are, or cannot know it now."""
        return self._known.is_set()

    def end(self) -> None:
        """Note that the process knows that, or cannot know it now."""
        self._known.set()

    def decide(self) -> bool:
        """Begin to read, so that nobody changes any more with what.

        :return: true if the process begins with the newest entries.
        """
        with self._deciding:
            self._decided = True
            self._known.clear()  # as it is also set where the log cannot be reached
            return self.seeds

    def late(self) -> bool:
        """Have the process begin without the newest entries: it has streams by then, which are not to get them.

        :return: false if it reads them already.
        """
        with self._deciding:
            if not self._decided:
                self.seeds = False
            return not self.seeds or self.known

    def wait(self, seconds: float) -> None:
        """Wait until :attr:`known` is true.

        :param seconds: until how long after the process has begun to read, at most.
        """
        until = time.monotonic() + seconds
        while (left := min(until, self._started_at + seconds) - time.monotonic()) > 0 and not self.known:
            self._known.wait(left)
