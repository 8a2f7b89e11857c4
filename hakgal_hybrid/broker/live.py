"""Pack: the streams that keep up. All are at one place in the log, so a pass reads what is new once for all of them.

What an event costs depends on who wants it, not on who is connected: streams that asked for the same things form a
:class:`SubscriberGroup` and get the same ``bytes``; an event for rooms or single clients is brought to them through
the hub's index of rooms, and nobody else is looked at. A stream that falls back, or whose clients change, steps out of
the pack and goes on by its own cursor (:meth:`~hakgal_hybrid.broker.stream.SubscriberStream.take`) until it has caught
up again. Pure: knows no socket.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from .client import Client
from .cohort import Divergence, SubscriberGroup
from .entry import Entry
from .envelope import envelope
from .event import Target
from .hub import Hub
from .sse import as_chunk
from .stream import MAX_TAKE, SubscriberStream

#: For how many names it is remembered which cohorts want them.
_NAMES_REMEMBERED = 4096


class Member(Protocol):
    """Whatever writes a feed."""

    feed: SubscriberStream


class Delivery(NamedTuple):
    """The same bytes for several members, and how many events are in them.

    ``whole`` names the cohort if they are for every member of it that has nothing of its own in this step.
    ``instead`` is how many events the cohort got in their place.
    """

    data: bytes
    delivered: int
    conflated: int
    members: list[Any]
    whole: SubscriberGroup | None
    instead: int = 0


class BroadcastPlan(NamedTuple):
    """What one pass has to send, up to which number, and who has to go on alone."""

    upto: int
    shares: list[Delivery]
    apart: list[Any]


class LiveGroup:
    """The members that keep up. Everything but :meth:`stir` belongs to the one thread that writes.

    :ivar position: number of the last event that every member has been given.
    """

    def __init__(self, hub: Hub, max_backlog_s: float) -> None:
        self.position = hub.log.newest
        self._hub, self._max_backlog_s = hub, max_backlog_s
        self._cohorts: dict[tuple[Any, ...], SubscriberGroup] = {}
        self._audiences: dict[tuple[str, str], tuple[SubscriberGroup, ...]] = {}
        self._stirred: set[SubscriberStream] = set()
        #: Who has left in this step, to go on alone: kept here, so that a step that fails loses nobody.
        self._apart: list[Any] = []

    def __len__(self) -> int:
        return sum(len(cohort.members) for cohort in self._cohorts.values())

    # -- coming and going ------------------------------------------------------------------------------------

    def join(self, member: Member) -> bool:
        """Take a member in that has caught up; false if it has to go on alone for now."""
        feed = member.feed
        if not feed.level_with(self.position):
            return False
        key = (feed.session.riders.namespaces, feed.wish.events, feed.wish.envelope, feed.chunked)
        cohort = self._cohorts.get(key)
        if cohort is None:
            cohort = self._cohorts[key] = SubscriberGroup(self, key, feed)
            self._audiences.clear()
        feed.writer = member
        if feed.keep_up(cohort):
            cohort.members.add(member)
            return True
        self._disband(cohort)
        return False

    def leave(self, member: Member, position: int) -> None:
        """Let a member go that has been given everything up to ``position``."""
        feed, cohort = member.feed, member.feed.cohort
        if cohort is None:
            return
        feed.go_alone(position)
        feed.writer = None
        cohort.members.discard(member)
        self._disband(cohort)

    def _disband(self, cohort: SubscriberGroup) -> None:
        """Forget a cohort that nobody is in."""
        if not cohort.members:
            del self._cohorts[cohort.key]
            self._audiences.clear()

    def stir(self, feed: SubscriberStream) -> None:
        """Have a stream looked at before the next step: its clients have changed. May be called from any thread."""
        self._stirred.add(feed)

    # -- stepping --------------------------------------------------------------------------------------------

    def step(self) -> BroadcastPlan:
        """Say what is to be sent. The pack is there only when :meth:`arrive` says so."""
        log = self._hub.log
        start, entries = log.since(self.position)
        # After the log was read: whoever changes a stream's clients stirs it first and looks at the log then, so what
        # was read just now is the same for the old clients and the new ones.
        self._part_stirred()
        if entries and (start > self.position + 1 or entries[0].at < log.clock() - self._max_backlog_s):
            return self.scatter()  # each has to be told what it missed
        upto, shares = self._plan(entries)
        while self._stirred:  # just now: whom an event concerns may not have been found any more
            self._part_stirred()
            upto, shares = self._plan(entries)
        self._take_back(shares)
        return BroadcastPlan(upto, [share for share in shares if share.data], self._parted())

    @staticmethod
    def _take_back(shares: list[Delivery]) -> None:
        """Keep what their cohorts are given from those who have nothing in this step."""
        for share in shares:
            if not share.data:
                for member in share.members:
                    member.feed.own_delivered -= share.instead

    def scatter(self) -> BroadcastPlan:
        """Have every member go on alone, like those who do already since a step that failed."""
        for member in [member for cohort in self._cohorts.values() for member in cohort.members]:
            self._part(member)
        return BroadcastPlan(self._hub.log.newest, [], self._parted())

    def arrive(self, step: BroadcastPlan) -> None:
        """Everybody has been given what the step had for them."""
        self.position = step.upto

    def _part_stirred(self) -> None:
        while self._stirred:
            member = self._stirred.pop().writer
            if member is not None:
                self._part(member)

    def _part(self, member: Any) -> None:
        """Have a member go on alone, from before this step."""
        self._apart.append(member)
        self.leave(member, self.position)

    def _parted(self) -> list[Any]:
        apart, self._apart = self._apart, []
        return apart

    def _plan(self, entries: list[Entry]) -> tuple[int, list[Delivery]]:
        upto, size = self.position, 0
        todo: dict[SubscriberGroup, list[Entry]] = {}
        own: dict[Member, Divergence] = {}
        for entry in entries:
            if size >= MAX_TAKE:
                break
            upto, size = entry.seq, size + len(entry.frame)
            target = entry.event.target
            if target.rooms is None:
                for cohort in self._audience(target.namespace, entry.event.name):
                    todo.setdefault(cohort, []).append(entry)
            if target.rooms is not None or target.skip:
                self._set_apart(entry, self._concerned(entry, target), own)
        return upto, self._shares(todo, own)

    def _set_apart(self, entry: Entry, concerned: list[Client], own: dict[Member, Divergence]) -> None:
        """Note for whom of those that it concerns an event is more, or less, than for their cohorts.

        Many may be in a room: what can be said of all with the same trail is said once.
        """
        following: dict[SubscriberGroup | Divergence, SubscriberGroup | Divergence] = {}
        for client in concerned:
            session = client.session
            feed = session.carrier if session is not None else None
            if not isinstance(feed, SubscriberStream) or (cohort := feed.cohort) is None:
                continue  # it goes on alone, or its stream is somebody else's to write
            member = feed.writer
            # It must be told for which of them; also if one is going, which may be this one, and be gone in a moment.
            if len(feed.session.riders.clients) > 1 or client.ended_at is not None:
                self._part(member)
                own.pop(member, None)
                continue
            at = own.get(member, cohort)
            if isinstance(at, Divergence) and at.entry is entry:
                continue  # there were two clients on it a moment ago
            after = following.get(at)
            if after is None:
                wanted = feed.accepts(entry.event.name)  # by all of the cohort, or by none
                after = following[at] = Divergence(at, entry) if wanted else at
            if isinstance(after, Divergence):
                own[member] = after

    def _audience(self, namespace: str, name: str) -> tuple[SubscriberGroup, ...]:
        """Return the cohorts that want what has this name and is for everybody."""
        audience = self._audiences.get((namespace, name))
        if audience is None:
            if len(self._audiences) >= _NAMES_REMEMBERED:
                self._audiences.clear()
            audience = self._audiences[namespace, name] = tuple(
                cohort for cohort in self._cohorts.values()
                if namespace in cohort.namespaces and cohort.accepts(name))
        return audience

    def _concerned(self, entry: Entry, target: Target) -> list[Client]:
        """Return the clients that an event is for, or, if it is for a whole namespace, that it is not for."""
        if target.rooms is not None:
            return self._hub.in_rooms(entry.seq, target)
        found = (self._hub.carried(sid) for sid in target.skip)
        return [client for client in found if client is not None and client.namespace == target.namespace]

    def _shares(self, todo: dict[SubscriberGroup, list[Entry]], own: dict[Member, Divergence]) -> list[Delivery]:
        shares: list[Delivery] = []
        wrapped: dict[Entry, bytes] = {}
        given: dict[SubscriberGroup, int] = {}
        for cohort, entries in todo.items():
            members = [member for member in cohort.members if member not in own] if own else list(cohort.members)
            if members:
                shares.append(self._share(cohort, entries, members, wrapped)._replace(whole=cohort))
                given[cohort] = shares[-1].delivered
        for trail, members in _by_trail(own).items():
            entries = _on_trail(todo.get(trail.cohort, []), trail)
            if entries:
                share = self._share(trail.cohort, entries, members, wrapped)
                shares.append(share._replace(instead=given.get(trail.cohort, 0)))
            elif trail.cohort in given:
                shares.append(Delivery(b"", 0, 0, members, None, given[trail.cohort]))
        return shares

    def _share(self, cohort: SubscriberGroup, entries: list[Entry], members: list[Any],
               wrapped: dict[Entry, bytes]) -> Delivery:
        """Encode ``entries`` for members of one cohort; of those of one kind that conflate, only the last.

        :param wrapped: the envelopes that were made in this step.
        """
        stands_for: dict[int, int] = {}
        if any(entry.superseded_by for entry in entries):
            entries, stands_for = _conflate(entries)
        if cohort.envelope:
            frames = [self._wrap(entry, stands_for.get(entry.seq, 0), wrapped) for entry in entries]
        else:
            frames = [entry.frame for entry in entries]
        data = b"".join(frames)
        return Delivery(as_chunk(data) if cohort.chunked else data, len(entries), sum(stands_for.values()), members,
                        None)

    def _wrap(self, entry: Entry, conflated: int, wrapped: dict[Entry, bytes]) -> bytes:
        if conflated:
            return envelope(entry.event, self._hub.log.id_of(entry.seq), entry.ts, conflated)
        if entry not in wrapped:
            wrapped[entry] = envelope(entry.event, self._hub.log.id_of(entry.seq), entry.ts)
        return wrapped[entry]


def _by_trail(own: dict[Member, Divergence]) -> dict[Divergence, list[Member]]:
    """Return who is on the same trail."""
    found: dict[Divergence, list[Member]] = {trail: [] for trail in dict.fromkeys(own.values())}
    for member, trail in own.items():
        found[trail].append(member)
    return found


def _on_trail(entries: list[Entry], trail: Divergence) -> list[Entry]:
    """Return what those get who get ``entries`` but for their trail."""
    more, less = [], set()
    for entry in trail.entries():
        if entry.event.target.rooms is None:
            less.add(entry)
        else:
            more.append(entry)
    return sorted([*(entry for entry in entries if entry not in less), *more], key=lambda entry: entry.seq)


def _conflate(entries: list[Entry]) -> tuple[list[Entry], dict[int, int]]:
    """Leave out every entry that a later one here supersedes; count, by number, for how many each remaining stands."""
    here = {entry.seq for entry in entries}
    kept: list[Entry] = []
    stands_for: dict[int, int] = {}
    for entry in entries:
        if entry.superseded_by in here:
            stands_for[entry.superseded_by] = stands_for.pop(entry.seq, 0) + 1
        else:
            kept.append(entry)
    return kept, stands_for
