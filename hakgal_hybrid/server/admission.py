"""Places: how many connections the front holds, and which gives way when there are too many.

A connection that asks for nothing, or takes its time to say what, costs its client nothing either: thousands of them
must not keep others out. So a new one takes the place of the one that has been waited for longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Slot:
    """One connection's place. :ivar taken: false once it is given up."""

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self.taken = True
        self.hang_up = hang_up


class AdmissionControl:
    """All places of one server; used on the loop's thread only.

    :param limit: how many there are.
    :param gave_way: called when somebody who was waited for has to give way.
    """

    def __init__(self, limit: int, gave_way: Callable[[], None]) -> None:
        self.open = 0
        self._limit, self._gave_way = limit, gave_way
        self._waited_for: OrderedDict[Slot, None] = OrderedDict()

    def enter(self, hang_up: Callable[[], None]) -> Slot | None:
        """Return a place for a connection that is waited for; ``None`` if every one is being served.

        :param hang_up: ends the connection, if it has to give way.
        """
        if self.open >= self._limit:
            oldest = next(iter(self._waited_for), None)
            if oldest is None:
                return None
            self.leave(oldest)
            self._gave_way()
            oldest.hang_up()
        place = Slot(hang_up)
        self.open += 1
        self._waited_for[place] = None
        return place

    def wait_for(self, place: Slot) -> None:
        """From now on the client is waited for."""
        if place.taken:
            self._waited_for[place] = None

    def serve(self, place: Slot) -> None:
        """The client has said what it wants, and does not give way now."""
        self._waited_for.pop(place, None)

    def leave(self, place: Slot) -> None:
        """The connection is over, or no longer the front's. May be called repeatedly."""
        if place.taken:
            place.taken = False
            self.open -= 1
            self._waited_for.pop(place, None)


class Budget:
    """Bytes of bodies that are being read, together.

    :param limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self.used = 0
        self._limit = limit

    def take(self, size: int) -> bool:
        """Add ``size`` bytes; false if there is no room for them."""
        if self.used + size > self._limit:
            return False
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        """Let go of what was taken."""
        self.used -= size
