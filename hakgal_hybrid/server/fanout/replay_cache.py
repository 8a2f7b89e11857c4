"""ReplayCache: what streams that catch up have read, for others at the same place in the log."""

from __future__ import annotations

from ...broker.reading import Shared

#: A replay is kept for others if it has so many bytes, and how many such are.
LONG, LONG_KEPT = 64 * 1024, 8


class ReplayCache:
    """The bytes that were read for one stream, to be given to others that are at the same place and asked for the same.

    All is good as long as no event comes. Afterwards a few long replays are still good: they can only be too short
    then, and how old an event is does not matter to a replay. In a storm of resumes one comes after the other, and
    events come in between: without this each would read the whole log again.
    """

    def __init__(self) -> None:
        self._shared: Shared = {}
        self._position = -1

    def at(self, position: int) -> Shared:
        """Return what can be shared by those who read up to a place.

        :param position: number of the last event that they look at.
        :return: what was read; what they read is put into it.
        """
        if position != self._position:
            self.trim()
            self._position = position
        return self._shared

    def trim(self) -> None:
        """Forget everything but a few long replays."""
        long = [(key, written) for key, written in self._shared.items() if key.replaying and len(written.data) >= LONG]
        self._shared = dict(long[-LONG_KEPT:])

    def clear(self) -> None:
        """Forget everything."""
        self._shared = {}
