"""Inbox: has each message for this process taken once, by whatever connection it comes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from .cursors import Cursor

#: Of how many messages the ids are remembered: more than Redis keeps.
MAX_IDS = 4000


class Inbox:
    """Which messages were taken. A new connection reads all that Redis keeps, as it may have lost some and have others.

    It belongs to the one thread that reads.

    :ivar said: where it reads what processes say of themselves.
    """

    def __init__(self) -> None:
        self._taken: OrderedDict[bytes, None] = OrderedDict()
        self.said = Cursor()

    def take(self, entries: Iterable[tuple[bytes, Mapping[bytes, bytes] | None]]) -> list[bytes]:
        """Return the messages that were not taken before.

        :param entries: ids and fields of what the stream of this process has.
        :return: the messages, in order.
        """
        messages = []
        for at, fields in entries:
            if at not in self._taken and fields and b"p" in fields:
                self._taken[at] = None
                messages.append(fields[b"p"])
        while len(self._taken) > MAX_IDS:
            self._taken.popitem(last=False)
        return messages
