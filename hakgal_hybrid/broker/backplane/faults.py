"""What is wrong with a shared log: the errors of :class:`.SharedLog`, and for how long a next try waits."""

from __future__ import annotations

import enum
from collections.abc import Callable

from ..sse import RANDOM

#: Seconds before the second try, and before any later one at most. It must be well below the time of settling.
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 0.5
#: Seconds between two tries while only a person can help.
MISCONFIGURED_RETRY_S = 30.0


class Away(Exception):
    """The log cannot be reached, or does not do its work now.

    :param text: what has happened, for a person.
    :param connected: true if the connection may be used again.
    :param full: true if the log's memory is full.
    """

    def __init__(self, text: str, *, connected: bool = False, full: bool = False) -> None:
        super().__init__(text)
        self.connected, self.full = connected, full


class Misconfigured(Exception):
    """The log refuses what this process does, until a person does something: the text says what."""


class State(str, enum.Enum):
    """How it stands with the log.

    ``NEW``: no answer yet. ``LIVE``: it takes and gives. ``SETTLING``: it has lost something, and takes nothing for a
    moment. ``AWAY``: it cannot be reached. ``MISCONFIGURED``: it refuses, and a person has to help.
    """

    NEW = "new"
    LIVE = "live"
    SETTLING = "settling"
    AWAY = "away"
    MISCONFIGURED = "misconfigured"


class Retry:
    """How long each next try waits: longer each time, with jitter.

    :param jitter: returns a number between two others.
    """

    def __init__(self, jitter: Callable[[float, float], float] = RANDOM.uniform) -> None:
        self._jitter, self._pause = jitter, FIRST_RETRY_S

    def after(self, error: Exception) -> float:
        """Return how long to wait.

        :param error: why the last try failed.
        :return: seconds.
        """
        if isinstance(error, Misconfigured):
            return MISCONFIGURED_RETRY_S
        pause = self._pause
        self._pause = min(LAST_RETRY_S, pause * 2)
        return self._jitter(pause / 2, pause)

    def succeeded(self) -> None:
        """Begin again with a short wait."""
        self._pause = FIRST_RETRY_S
