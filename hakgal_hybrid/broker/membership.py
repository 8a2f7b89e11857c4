"""Membership: who is in which room, and was when an event was emitted.

An event is for the clients that were in its room when it was emitted, whenever they read it. So a room remembers for a
while who has left it. Each room has a table of its members, by which the clients of an event are found. The module is
pure: it knows a client's ``sid`` and ``namespace``, and keeps ``joined``.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from .event import Target

#: A client is in a room after the first number, up to the second (``None``: until now).
Interval = tuple[int, "int | None"]


class Occupant(Hashable, Protocol):
    """What can be in rooms: a client.

    :ivar joined: the rooms that the table has an entry for; kept by :class:`Membership`.
    """

    sid: str
    namespace: str
    joined: tuple[Hashable, ...]


M = TypeVar("M", bound=Occupant)


def within(intervals: tuple[Interval, ...], seq: int) -> bool:
    """Say whether an event was emitted in one of several intervals.

    :param intervals: the intervals.
    :param seq: the event's number.
    :return: true if it was.
    """
    return any(joined < seq and (left is None or seq <= left) for joined, left in intervals)


class Membership(Generic[M]):
    """The rooms of all namespaces. Every client is alone in a room named by its ``sid``; that takes no entry.

    Any thread may read. Changes are made under ``EventLog.held``.
    """

    def __init__(self) -> None:
        #: For a client that joined once and never left, which most are, only the number after which it is a member.
        self._rooms: dict[tuple[str, Hashable], dict[M, int | tuple[Interval, ...]]] = {}

    def intervals(self, client: M, room: Hashable) -> tuple[Interval, ...]:
        """Return when a client is and was in a room.

        :param client: the client.
        :param room: the room.
        :return: the intervals, the oldest first.
        """
        found = self._rooms.get((client.namespace, room), {}).get(client)
        if found is None:
            return ((0, None),) if room == client.sid else ()
        return ((found, None),) if isinstance(found, int) else found

    def rooms_of(self, client: M) -> list[Hashable]:
        """Return the rooms that a client is in now.

        :param client: the client.
        :return: the rooms, the one named by its sid first.
        """
        own = () if client.sid in client.joined else (client.sid,)
        # Another thread may forget an interval between the two looks.
        return [*own, *(room for room in client.joined
                        if (found := self.intervals(client, room)) and found[-1][1] is None)]

    def was_in(self, client: M, room: Hashable, seq: int) -> bool:
        """Say whether a client was in a room when an event was emitted.

        :param client: the client.
        :param room: the room.
        :param seq: the event's number.
        :return: true if it was.
        """
        return within(self.intervals(client, room), seq)

    def members_at(self, seq: int, target: Target) -> list[M]:
        """Return the clients that were in a target's rooms when an event was emitted, but for rooms named by a ``sid``.

        A room may have thousands of members, so each costs one look into the room's own table.

        :param seq: the event's number.
        :param target: for whom it is.
        :return: the clients; one in two of the rooms is there twice.
        """
        found: list[M] = []
        for room in target.rooms or ():
            members = self._rooms.get((target.namespace, room))
            if members is not None:  # a copy, because others change it meanwhile
                found += [client for client, since in members.copy().items()
                          if (since < seq if isinstance(since, int) else within(since, seq))]
        return found

    # -- changing --------------------------------------------------------------------------------------------

    def join(self, client: M, room: Hashable, newest: int) -> None:
        """Put a client into a room.

        :param client: the client.
        :param room: the room.
        :param newest: number of the last event before that.
        """
        intervals = self.intervals(client, room)
        if not intervals or intervals[-1][1] is not None:
            self._set(client, room, (*intervals, (newest, None)))

    def moved(self, client: M, room: Hashable, newest: int) -> None:
        """Have a client be in a room only after an event; it is in it already.

        :param client: the client.
        :param room: the room.
        :param newest: the event's number.
        """
        intervals = self.intervals(client, room)
        if room in client.joined and intervals and intervals[-1][1] is None:
            self._set(client, room, (*intervals[:-1], (newest, None)))

    def leave(self, client: M, room: Hashable, newest: int, known_from: int) -> None:
        """Take a client out of a room.

        :param client: the client.
        :param room: the room.
        :param newest: number of the last event before that.
        :param known_from: the oldest event whose target is still known; see :attr:`.EventLog.known_from`.
        """
        intervals = self.intervals(client, room)
        if intervals and intervals[-1][1] is None:
            self._set(client, room, (*intervals[:-1], (intervals[-1][0], newest)))
        for name in client.joined:
            if name != client.sid:  # or it would be in its own room again
                # Forget intervals in which nothing was emitted, or only events whose targets are not known any more.
                self._set(client, name, tuple((joined, left) for joined, left in self.intervals(client, name)
                                              if left is None or (left >= known_from and left > joined)))

    def forget(self, client: M) -> None:
        """Take a client out of all rooms, and forget when it was in them.

        :param client: the client.
        """
        for room in client.joined:
            self._set(client, room, ())

    def _set(self, client: M, room: Hashable, intervals: tuple[Interval, ...]) -> None:
        key = client.namespace, room
        members = self._rooms.setdefault(key, {})
        if not intervals:
            members.pop(client, None)
            client.joined = tuple(name for name in client.joined if name != room)
        else:
            members[client] = intervals[0][0] if len(intervals) == 1 and intervals[0][1] is None else intervals
            if room not in client.joined:
                client.joined = (*client.joined, room)
        if not members:
            del self._rooms[key]
