"""AddressQueues: sessions in the order in which they came, of each address, and the address that has most of them."""

from __future__ import annotations

from collections import OrderedDict

from .client import Session


class AddressQueues:
    """A queue of sessions for each address. Every method takes the same time, however many there are.

    Where one must give way, it is the oldest one of the address that has most: one that takes much cannot have it at
    the cost of those who take little.
    """

    def __init__(self) -> None:
        self._queues: dict[str, OrderedDict[Session, None]] = {}
        #: The addresses by how many sessions they have; those of the same number in the order in which they got there.
        self._by_size: dict[int, OrderedDict[str, None]] = {}
        self._largest = 0

    def __len__(self) -> int:
        """Return how many addresses have sessions."""
        return len(self._queues)

    def add(self, session: Session) -> None:
        """Append a session to the queue of its address.

        :param session: the session; nothing happens if it is there.
        """
        queue = self._queues.setdefault(session.address, OrderedDict())
        if session not in queue:
            queue[session] = None
            self._move(session.address, len(queue) - 1, len(queue))

    def discard(self, session: Session) -> None:
        """Take a session out.

        :param session: the session; nothing happens if it is not there.
        """
        queue = self._queues.get(session.address)
        if queue is not None and session in queue:
            del queue[session]
            self._move(session.address, len(queue) + 1, len(queue))
            if not queue:
                del self._queues[session.address]

    def oldest(self, address: str | None = None) -> Session | None:
        """Return the session that came first, without taking it out.

        :param address: whose session; ``None`` for the address that has most.
        :return: the session; ``None`` if there is none.
        """
        if address is None:
            address = next(iter(self._by_size.get(self._largest, ())), None)
        return None if address is None else next(iter(self._queues.get(address, ())), None)

    def _move(self, address: str, before: int, after: int) -> None:
        """Note that an address has one more or one less."""
        if before:
            addresses = self._by_size[before]
            del addresses[address]
            if not addresses:
                del self._by_size[before]
        if after:
            self._by_size.setdefault(after, OrderedDict())[address] = None
        if after > self._largest or self._largest not in self._by_size:
            self._largest = after
