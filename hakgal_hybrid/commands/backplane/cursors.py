"""Cursor: where a process reads what processes say of themselves. Pure."""

from __future__ import annotations


def time_of(at: str) -> int:
    """Return when an entry was added to a stream whose ids are those of Redis, in milliseconds since 1970.

    :param at: the id of the entry.
    """
    return int(at.partition("-")[0])


class Cursor:
    """A place in a stream whose ids are those of Redis.

    :ivar at: the id of the last entry that was read; empty before this process has said that it is there.
    :ivar now: the time of Redis when it has said so last, in milliseconds since 1970.
    """

    def __init__(self) -> None:
        self.at, self.now = "", 0

    def moved(self, now: int, alive_ms: int) -> None:
        """Note the time of Redis when this process has said that it is there.

        :param now: the time, in milliseconds since 1970.
        :param alive_ms: for how long that counts, in milliseconds.
        """
        if not self.at or time_of(self.at) > now:  # another Redis, whose clock is late
            self.at = f"{max(0, now - alive_ms)}-0"
        self.now = now
