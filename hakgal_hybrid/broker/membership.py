"""Rooms: who is in which room, and was when an event was emitted.

An event is for those who were in its room when it was emitted, whenever they read it: so a room remembers for a while
who has left it. A membership is one entry in the room's own table, which is also the index by which an event finds
whom it is for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from .event import Target

if TYPE_CHECKING:
    from .client import Client

#: From which number somebody is in a room, and up to which (``None``: still).
Interval = tuple[int, "int | None"]


def within(spells: tuple[Interval, ...], seq: int) -> bool:
    """True if event number ``seq`` was emitted in one of these."""
    return any(joined < seq and (left is None or seq <= left) for joined, left in spells)


class Membership:
    """The rooms of all namespaces. Every client is alone in a room named by its ``sid``; that takes no entry.

    Reading is for any thread, changing for one at a time.
    """

    def __init__(self) -> None:
        #: Who came and never left has only the number from which on it is there: most have.
        self._rooms: dict[tuple[str, Hashable], dict[Client, int | tuple[Interval, ...]]] = {}

    def spells(self, client: Client, room: Hashable) -> tuple[Interval, ...]:
        """Return when a client is and was in a room."""
        spells = self._rooms.get((client.namespace, room), {}).get(client)
        if spells is None:
            return ((0, None),) if room == client.sid else ()
        return ((spells, None),) if isinstance(spells, int) else spells

    def there(self, seq: int, target: Target) -> list[Client]:
        """Return who was in a target's rooms at event number ``seq``, maybe twice; but for rooms named by a sid.

        That is the work of an event for a room, so each is looked at once, in the room's own table.
        """
        found: list[Client] = []
        for room in target.rooms or ():
            there = self._rooms.get((target.namespace, room))
            if there is not None:  # a copy, because others change it meanwhile
                found += [client for client, spells in there.copy().items()
                          if (spells < seq if isinstance(spells, int) else within(spells, seq))]
        return found

    # -- changing --------------------------------------------------------------------------------------------

    def join(self, client: Client, room: Hashable, now: Callable[[], int]) -> None:
        """Have a client be in a room from now on: from the event on that comes after the number ``now`` gives.

        It is asked when the client can be found here; so nobody looks for whom such an event is and does not find it.
        """
        spells = self.spells(client, room)
        if not spells or spells[-1][1] is not None:
            self._set(client, room, (*spells, (sys.maxsize, None)))
            self._set(client, room, (*spells, (now(), None)))

    def leave(self, client: Client, room: Hashable, now: int, known_from: int) -> None:
        """Have a client be in a room no more after event number ``now``.

        :param known_from: the oldest number that anybody could still ask about.
        """
        spells = self.spells(client, room)
        if spells and spells[-1][1] is None:
            self._set(client, room, (*spells[:-1], (spells[-1][0], now)))
        for name in client.joined:
            if name != client.sid:  # or it would be in its own room again
                # Forget spells in which nothing was emitted, or nothing that the log could still ask about.
                self._set(client, name, tuple((joined, left) for joined, left in self.spells(client, name)
                                              if left is None or (left >= known_from and left > joined)))

    def leave_all(self, client: Client) -> None:
        """Forget a client."""
        for room in client.joined:
            self._set(client, room, ())

    def _set(self, client: Client, room: Hashable, spells: tuple[Interval, ...]) -> None:
        key = client.namespace, room
        there = self._rooms.setdefault(key, {})
        if not spells:
            there.pop(client, None)
            client.joined = tuple(name for name in client.joined if name != room)
        else:
            there[client] = spells[0][0] if len(spells) == 1 and spells[0][1] is None else spells
            if room not in client.joined:
                client.joined = (*client.joined, room)
        if not there:
            del self._rooms[key]


#: For clients that are in no hub.
NO_ROOMS = Membership()
