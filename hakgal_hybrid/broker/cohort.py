"""SubscriberGroup: streams that have everything the log had, and asked for the same: they are given the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .formats import Format


class GroupKey(NamedTuple):
    """What streams must have in common to be given the same bytes.

    :ivar namespaces: the namespaces of their clients.
    :ivar events: globs of the names that they asked for.
    :ivar format: how their events are carried.
    :ivar chunked: whether what is written comes as chunks of an HTTP/1.1 body.
    """

    namespaces: frozenset[str]
    events: tuple[str, ...]
    format: Format
    chunked: bool


class LiveEdge:
    """How far the streams that have everything have come, all together.

    :param position: number of the last event that every one of them was given.
    :ivar changed: streams whose clients have changed. Any thread may add one; the writer takes them out.
    """

    __slots__ = ("changed", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.changed: set[Any] = set()


class SubscriberGroup:
    """Members that are given the same bytes, but for events that are for some of them alone.

    :param edge: where they are.
    :param key: what they have in common.
    :param accepts: true for the names that they asked for.
    :ivar members: the writers of its streams, in the order in which they joined: those that were there before a storm
        of others get events first.
    :ivar delivered: how many events were sent to all of them.
    """

    __slots__ = ("accepts", "delivered", "edge", "key", "members")

    def __init__(self, edge: LiveEdge, key: GroupKey, accepts: Callable[[str], bool]) -> None:
        self.edge, self.key, self.accepts = edge, key, accepts
        self.members: dict[Any, None] = {}
        self.delivered = 0

    @property
    def position(self) -> int:
        """Number of the last event that every member was given."""
        return self.edge.position
