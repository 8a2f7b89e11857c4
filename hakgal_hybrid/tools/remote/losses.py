"""What clients of one stream missed, by the ids that the others had."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from .results import Losses

#: Ids that are remembered, summed over clients; then losses are no longer counted, and the result says so.
MAX_IDS = 20_000_000


class ReceivedIds:
    """The ids that one client has had, by the numbers that :class:`LossCounter` gave them.

    :ivar conflated: how many older events those it had stood for.
    :ivar in_gaps: how many events were said to be missing.
    """

    def __init__(self) -> None:
        self.numbers = array("L")
        self.conflated = self.in_gaps = 0


class LossCounter:
    """The ids that any client has had."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._seen_by = array("L")
        self._ids = 0

    def note(self, client: ReceivedIds, event_id: str) -> None:
        """Count an event that is for everybody.

        :param client: the ids of the client that had it.
        :param event_id: its id.
        """
        if self._ids >= MAX_IDS:
            return
        self._ids += 1
        number = self._numbers.setdefault(event_id, len(self._numbers))
        if number == len(self._seen_by):
            self._seen_by.append(0)
        self._seen_by[number] += 1
        client.numbers.append(number)

    def losses(self, clients: Sequence[ReceivedIds]) -> Losses:
        """Compare what each client had with what the others had in the same time.

        :param clients: the ids of every client.
        """
        if not self._numbers or self._ids >= MAX_IDS:
            return Losses(False)
        # An id that one client alone has seen was for it alone: a welcome, for example.
        ranked = sorted((name for name, number in self._numbers.items() if self._seen_by[number] > 1), key=_order)
        rank = {self._numbers[name]: place for place, name in enumerate(ranked)}
        missing = repeated = behind = conflated = gaps = lost = 0
        for client in clients:
            ranks = [rank[number] for number in client.numbers if number in rank]
            if not ranks:
                continue
            absent = max(ranks) - min(ranks) + 1 - len(set(ranks))
            missing += absent
            repeated += len(ranks) - len(set(ranks))
            conflated += min(absent, client.conflated)
            gaps += min(max(absent - client.conflated, 0), client.in_gaps)
            lost += max(absent - client.conflated - client.in_gaps, 0)
            behind = max(behind, len(ranked) - 1 - max(ranks))
        return Losses(True, missing, conflated, gaps, lost, repeated, behind)


def _order(event_id: str) -> tuple[Any, ...]:
    """The order of ids: of numbers, one or several with ``-`` between them, by their values; of others as they are."""
    parts = event_id.split("-")
    return (0, *map(int, parts)) if all(part.isascii() and part.isdigit() for part in parts) else (1, event_id)
