"""AdmissionControl: how many connections the front holds, and which one gives way when there are too many.

Idle and slow connections cost their clients nothing, and thousands of them must not keep others out. So a new
connection takes the slot of the one that has been waiting for its client longest.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable


class Slot:
    """The slot of one connection.

    :param hang_up: ends the connection, if it has to give way.
    :ivar taken: false once the slot is given up.
    """

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self.taken = True
        self.hang_up = hang_up


class AdmissionControl:
    """The slots of one server. For the loop's thread.

    :param limit: how many there are.
    :param gave_way: called when a connection has to give way to a new one.
    :ivar open: how many are taken.
    """

    def __init__(self, limit: int, gave_way: Callable[[], None]) -> None:
        self.open = 0
        self._limit, self._gave_way = limit, gave_way
        self._waited_for: OrderedDict[Slot, None] = OrderedDict()

    def enter(self, hang_up: Callable[[], None]) -> Slot | None:
        """Take a slot for a connection whose client is waited for.

        :param hang_up: ends the connection, if it has to give way.
        :return: the slot; ``None`` if every connection is being served.
        """
        if self.open >= self._limit:
            oldest = next(iter(self._waited_for), None)
            if oldest is None:
                return None
            self.leave(oldest)
            self._gave_way()
            oldest.hang_up()
        slot = Slot(hang_up)
        self.open += 1
        self._waited_for[slot] = None
        return slot

    def wait_for(self, slot: Slot) -> None:
        """Note that the client is waited for from now on.

        :param slot: the slot of its connection.
        """
        if slot.taken:
            self._waited_for[slot] = None

    def serve(self, slot: Slot) -> None:
        """Note that the client has sent a request: its connection does not give way now.

        :param slot: the slot of its connection.
        """
        self._waited_for.pop(slot, None)

    def leave(self, slot: Slot) -> None:
        """Give up the slot of a connection that has ended or was handed over. May be called repeatedly.

        :param slot: the slot.
        """
        if slot.taken:
            slot.taken = False
            self.open -= 1
            self._waited_for.pop(slot, None)
