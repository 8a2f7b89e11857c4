"""NameIndex: which retained event is the newest of its name, and which stands for older ones of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .entry import Entry, Wants
from .event import Target, is_marker


class NameIndex:
    """The newest event of each name and of each kind. Changed only by the log, under its lock.

    Events of one namespace and name are chained by :attr:`.Entry.previous`. Events of one kind (name and target) are
    chained by :attr:`.Entry.superseded_by` if their name is conflated.

    :param entries: the retained entries by number.
    :param conflates: true for names of which a reader that is behind gets only the newest event.
    """

    def __init__(self, entries: Mapping[int, Entry], conflates: Callable[[str], bool]) -> None:
        self._entries, self._conflates = entries, conflates
        self._newest: dict[tuple[str, str], int] = {}
        self._newest_of_kind: dict[tuple[str, Target], int] = {}

    def add(self, entry: Entry) -> None:
        """Add the newest entry by its name; set its ``previous``. What is no event is not to be found.

        :param entry: the entry, which no reader can see yet.
        """
        if is_marker(entry.event):
            return
        name = entry.event.target.namespace, entry.event.name
        entry.previous = self._newest.get(name, 0)
        self._newest[name] = entry.seq

    def revoke(self, entry: Entry) -> None:
        """Undo :meth:`add` for an entry that did not come into the log: another event gets its number.

        :param entry: the entry.
        """
        name = entry.event.target.namespace, entry.event.name
        if self._newest.get(name) == entry.seq:
            self._newest[name] = entry.previous

    def supersede(self, entry: Entry) -> None:
        """Set ``superseded_by`` of the entry that the newest one stands for, if there is one.

        :param entry: the newest entry.
        """
        event = entry.event
        if event.ack is None and self._conflates(event.name):
            kind = event.name, event.target
            older = self._entries.get(self._newest_of_kind.get(kind, 0))
            if older is not None:
                older.superseded_by = entry.seq
            self._newest_of_kind[kind] = entry.seq

    def remove(self, entry: Entry) -> None:
        """Remove an entry that the log has dropped.

        :param entry: the entry.
        """
        event = entry.event
        name = event.target.namespace, event.name
        if self._newest.get(name) == entry.seq:
            del self._newest[name]
        if self._newest_of_kind:
            kind = event.name, event.target
            if self._newest_of_kind.get(kind) == entry.seq:
                del self._newest_of_kind[kind]

    def newest(self, upto: int, wants: Wants) -> list[Entry]:
        """Return the newest retained event of each name.

        :param upto: the last number that is looked at.
        :param wants: true for events that are for the reader.
        :return: the entries, in order.
        """
        found = []
        for seq in list(self._newest.values()):
            entry = self._entries.get(seq)
            while entry is not None:
                if entry.seq <= upto and wants(entry.seq, entry.event.name, entry.event.target):
                    found.append(entry)
                    break
                entry = self._entries.get(entry.previous)
        return sorted(found, key=lambda entry: entry.seq)
