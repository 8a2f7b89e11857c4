"""SubscriberGroup: streams at the same place in the log that are given the same bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .entry import Entry

if TYPE_CHECKING:
    from .live import LiveGroup, Member
    from .stream import SubscriberStream


class SubscriberGroup:
    """Members that get the same bytes, but for events that are for some of them alone.

    :ivar delivered: how many events were sent to all of them.
    """

    __slots__ = ("accepts", "chunked", "delivered", "envelope", "key", "members", "namespaces", "pack")

    def __init__(self, pack: LiveGroup, key: tuple[Any, ...], feed: SubscriberStream) -> None:
        self.pack, self.key = pack, key
        self.namespaces, _, self.envelope, self.chunked = key
        self.accepts = feed.accepts
        self.members: set[Member] = set()
        self.delivered = 0


class Divergence:
    """What makes some members' step another than their cohort's: an event more, or one less, and what came before it.

    Members of a cohort with the same trail share it: an event for many makes a few of these, and no list for each.

    :ivar before: the trail up to then; the cohort itself at its beginning.
    """

    __slots__ = ("before", "cohort", "entry")

    def __init__(self, before: SubscriberGroup | Divergence, entry: Entry) -> None:
        self.before, self.entry = before, entry
        self.cohort: SubscriberGroup = before.cohort if isinstance(before, Divergence) else before

    def entries(self) -> list[Entry]:
        """Return its events: those for rooms are more, those for everybody are less."""
        found: list[Entry] = []
        at: SubscriberGroup | Divergence = self
        while isinstance(at, Divergence):
            found.append(at.entry)
            at = at.before
        return found
