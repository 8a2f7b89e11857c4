"""Messages: what waits to be sent to single processes. Bounded, in memory; putting something in waits for nobody."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from .shared_log import SharedLog

#: How many messages wait; the oldest gives way.
MAX_MESSAGES = 1000
#: For how long after the log has come back a process may be missing there that is alive, in seconds: each says that it
#: is there as soon as it has reached the log again.
RETURN_S = 2.0


class Messages:
    """Sends each message at most once. Any thread may put one in; one thread sends.

    :param undelivered: called, in the thread that sends, with a message for a process that is gone.
    :param clock: monotonic seconds.
    """

    def __init__(self, undelivered: Callable[[bytes], object], clock: Callable[[], float] = time.monotonic) -> None:
        self._undelivered, self._clock = undelivered, clock
        self._new: deque[tuple[str, bytes]] = deque(maxlen=MAX_MESSAGES)
        self._kept: deque[tuple[str, bytes]] = deque(maxlen=MAX_MESSAGES)
        self._doubts_until = float("-inf")

    def __bool__(self) -> bool:
        return bool(self._new or self._kept)

    def put(self, process: str, message: bytes) -> None:
        """Have a message sent.

        :param process: the name of the process.
        :param message: the message.
        """
        self._new.append((process, message))

    def doubt(self) -> None:
        """Note that the log may have lost which processes there are: what is for a missing one waits for a while."""
        self._doubts_until = self._clock() + RETURN_S

    def send(self, log: SharedLog) -> bool:
        """Send what waits.

        :param log: the connection.
        :return: true if nothing waits any more; false if some process is missing, and may come back.
        :raises Away: if the log cannot be reached; what was under way may have been sent, and is not sent again.
        """
        doubtful, kept, missing = self._clock() < self._doubts_until, list[tuple[str, bytes]](), set[str]()
        try:
            while waiting := self._kept or self._new:
                process, message = waiting.popleft()
                if process not in missing and log.to(process, message):
                    continue
                if doubtful:
                    missing.add(process)
                    kept.append((process, message))
                else:
                    self._undelivered(message)
        finally:
            self._kept = deque([*kept, *self._kept], maxlen=MAX_MESSAGES)
        return not kept
