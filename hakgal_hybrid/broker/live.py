"""LiveGroup: the streams that have everything. All are at one place in the log, so what is new is read once for all.

An event costs what its audience costs. Streams that asked for the same form a
:class:`~hakgal_hybrid.broker.cohort.SubscriberGroup` and get the same ``bytes``. The clients of an event for rooms are
found by the hub's table of rooms, and no other stream is looked at.

Events go out in the order of the log, step by step: a step is a run of events for everybody, which are joined, or one
event for some. A stream that falls back, or whose clients change, leaves and goes on by its own cursor
(:meth:`~hakgal_hybrid.broker.stream.SubscriberStream.take`) until it has caught up again. Pure: knows no socket.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, takewhile
from typing import Any, NamedTuple, Protocol

from .client import Client, steady
from .cohort import GroupKey, LiveEdge, SubscriberGroup
from .cursor import Conflation, Cursor, lost_upto
from .entry import Entry
from .event import EVERYWHERE, is_marker
from .hub import Hub
from .log import EventLog
from .reading import MAX_TAKE
from .sse import as_chunk
from .stream import SubscriberStream

#: For how many names the groups that want them are cached.
_NAMES_REMEMBERED = 4096
#: How many events a step looks at, at most.
_LOOK = 256


class Member(Protocol):
    """Whatever writes a stream, its ``stream``."""

    stream: SubscriberStream


class Delivery(NamedTuple):
    """The same bytes for several members.

    :ivar data: the bytes.
    :ivar delivered: how many events are in them.
    :ivar conflated: for how many others these stand.
    :ivar members: the members.
    """

    data: bytes
    delivered: int
    conflated: int
    members: list[Any]


class BroadcastPlan(NamedTuple):
    """One step.

    :ivar upto: number of the last event that it is about.
    :ivar deliveries: what is to be sent; each member is in one of them at most.
    :ivar to_catch_up: the members that have left the group; each goes on by a cursor of its own.
    """

    upto: int
    deliveries: list[Delivery]
    to_catch_up: list[Any]


class LiveGroup:
    """The members that are live. Everything belongs to the one thread that writes.

    :param hub: the hub.
    :param max_backlog_s: how old an event may be that is still given, in seconds.
    """

    def __init__(self, hub: Hub, max_backlog_s: float) -> None:
        self._hub, self._max_backlog_s = hub, max_backlog_s
        self._edge = LiveEdge(hub.log.newest)
        self._groups: dict[GroupKey, SubscriberGroup] = {}
        self._audiences: dict[tuple[str, str], tuple[SubscriberGroup, ...]] = {}
        #: The members that have left in this step. An attribute, so that a step that fails loses none of them.
        self._removed: list[Any] = []

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups.values())

    @property
    def position(self) -> int:
        """Number of the last event that every member has been given."""
        return self._edge.position

    # -- coming and going ------------------------------------------------------------------------------------

    def adopt(self, member: Member) -> None:
        """Be notified when the clients of a stream change. To be called before it can join.

        :param member: its writer.
        """
        member.stream.edge = self._edge

    def join(self, member: Member) -> bool:
        """Add a member, if it has caught up. Not to be called before a step has arrived.

        :param member: the member.
        :return: false if it has to go on by its own cursor for now.
        """
        stream = member.stream
        if not _is_level(stream, self.position):
            return False
        key = GroupKey(stream.session.namespaces, stream.request.events, stream.request.format,
                       stream.content.chunked)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = SubscriberGroup(self._edge, key, stream.content.accepts)
            self._audiences.clear()
        stream.enter(group, member)
        group.members[member] = None
        return True

    def leave(self, member: Member, position: int) -> None:
        """Make a member leave, if it is in the group; it goes on by a cursor of its own.

        :param member: the member.
        :param position: number of the last event that it was given, or that was not for it.
        """
        stream, group = member.stream, member.stream.group
        if group is None:
            return
        stream.leave(position)
        group.members.pop(member, None)
        if not group.members:
            del self._groups[group.key]
            self._audiences.clear()

    # -- stepping --------------------------------------------------------------------------------------------

    def step(self) -> BroadcastPlan:
        """Return what is to be sent next. The position of the group moves on only when :meth:`arrive` is called.

        :return: the step.
        """
        log = self._hub.log
        start, entries = log.since(self.position, self.position + _LOOK)
        # After the log was read: every change of clients before one of these events has been noted by now. If a later
        # change is noted too early, that does no harm.
        self._remove_changed()
        first = entries[:1]
        if first and is_marker(first[0].event):
            return self.scatter()  # what it says is said by each stream itself
        if lost_upto(start, first, log.clock() - self._max_backlog_s)[0] > self.position:
            return self.scatter()  # each stream gets a gap of its own
        run = _run(entries) or first
        if not run:
            return BroadcastPlan(self.position, [], self._take_removed())
        deliveries = list(self._to_all(run) if run[0].event.target.rooms is None else self._to_some(run[0]))
        return BroadcastPlan(run[-1].seq, deliveries, self._take_removed())

    def scatter(self) -> BroadcastPlan:
        """Make every member leave. Those that left in a step that failed are in the result as well.

        :return: a step without anything to send.
        """
        for member in [member for group in self._groups.values() for member in group.members]:
            self._remove(member)
        return BroadcastPlan(self._hub.log.newest, [], self._take_removed())

    def arrive(self, step: BroadcastPlan) -> None:
        """Move the position of the group on: all members were sent what a step had for them.

        :param step: the step.
        """
        self._edge.position = step.upto

    def _remove_changed(self) -> None:
        while self._edge.changed:
            stream = self._edge.changed.pop()
            if stream.group is not None and stream.group.edge is self._edge:  # it may have another writer by now
                self._remove(stream.writer)

    def _remove(self, member: Any) -> None:
        """Make a member leave; it goes on by a cursor of its own, from before this step."""
        self._removed.append(member)
        self.leave(member, self.position)

    def _take_removed(self) -> list[Any]:
        removed, self._removed = self._removed, []
        return removed

    # -- for whom --------------------------------------------------------------------------------------------

    def _to_all(self, run: list[Entry]) -> Iterator[Delivery]:
        """Yield what each group gets of events for everybody; the clients that an event skips are left out."""
        todo: dict[SubscriberGroup, list[Entry]] = {}
        for entry in run:
            for group in self._audience(entry.event.target.namespace, entry.event.name):
                todo.setdefault(group, []).append(entry)
        target = run[0].event.target
        left_out: set[Any] = set()
        if target.skip:  # then the run is this one event
            skipped = [client for client in map(self._hub.audible, target.skip)
                       if client is not None and client.namespace == target.namespace]
            left_out = {member for members in self._members_of(skipped).values() for member in members}
        for group, entries in todo.items():
            members = [member for member in group.members if member not in left_out]
            delivery = _encoded(self._hub.log, group, entries, members)
            group.delivered += delivery.delivered
            for member in left_out:
                if member.stream.group is group:
                    member.stream.own_delivered -= delivery.delivered
            if delivery.members:
                yield delivery

    def _to_some(self, entry: Entry) -> Iterator[Delivery]:
        """Yield what members of each group get of an event for rooms."""
        found = self._members_of(self._hub.audience(entry.seq, entry.event.target))
        for group, members in found.items():
            if group.accepts(entry.event.name):
                for member in members:
                    member.stream.own_delivered += 1
                yield _encoded(self._hub.log, group, [entry], members)

    def _members_of(self, clients: list[Client]) -> dict[SubscriberGroup, list[Any]]:
        """Return the members whose streams carry some clients, by group.

        A stream of several clients must say for which of them an event is. So it leaves, and goes on by its own cursor.
        """
        self._remove_changed()  # again: a client may have ended or connected since ``step`` did it
        found: dict[SubscriberGroup, list[Any]] = {}
        several: list[Any] = []
        for client in clients:
            session = client.session
            stream = session.carrier if session is not None else None
            group = stream.group if type(stream) is SubscriberStream else None
            if type(stream) is not SubscriberStream or group is None or group.edge is not self._edge:
                continue  # it is not live, or its stream has another writer
            if stream.session.clients == (client,):
                found.setdefault(group, []).append(stream.writer)
            else:
                several.append(stream.writer)
        if several:
            for member in dict.fromkeys(several):
                self._remove(member)
            found = {group: left for group, members in found.items()
                     if (left := [member for member in members if member not in several])}
        return found

    def _audience(self, namespace: str, name: str) -> tuple[SubscriberGroup, ...]:
        """Return the groups that get an event for everybody of a namespace, by its name."""
        if len(self._audiences) >= _NAMES_REMEMBERED:
            self._audiences.clear()
        audience = self._audiences.get((namespace, name))
        if audience is None:
            audience = self._audiences[namespace, name] = tuple(
                group for group in self._groups.values()
                if namespace in group.key.namespaces and group.accepts(name))
        return audience


def _is_level(stream: SubscriberStream, position: int) -> bool:
    """True if a stream has got everything up to a position, and later events for everybody are for all its clients."""
    reader = stream.reader
    return (isinstance(reader, Cursor) and reader.position == position >= stream.replay_until and reader.plain
            and stream.finished is None and steady(stream.session.clients, position))


def _encoded(log: EventLog, group: SubscriberGroup, entries: list[Entry], members: list[Any]) -> Delivery:
    """Encode events for members of one group; of those of one kind that conflate, only the last."""
    conflation, conflated, delivered, parts = Conflation(), 0, 0, []
    for entry in entries:
        if 0 < entry.superseded_by <= entries[-1].seq:  # of the same kind, so it is in here
            conflation.leave_out(entry)
            continue
        stands_for = conflation.give(entry)
        conflated, delivered = conflated + stands_for, delivered + 1
        parts.append(log.blocks.block(entry, group.key.format, stands_for))
    data = b"".join(parts)
    return Delivery(as_chunk(data) if group.key.chunked else data, delivered, conflated, members)


def _run(entries: list[Entry]) -> list[Entry]:
    """Return the entries at the beginning that are for everybody, up to about ``MAX_TAKE`` bytes."""
    sizes = accumulate((len(entry.frame) for entry in entries), initial=0)
    return [entry for entry, _ in takewhile(lambda pair: _is_for_all(pair[0]) and pair[1] < MAX_TAKE,
                                            zip(entries, sizes, strict=False))]


def _is_for_all(entry: Entry) -> bool:
    target = entry.event.target
    return target.rooms is None and not target.skip and target.namespace != EVERYWHERE
