"""Epochs: which events earlier runs of the process have left, in their order, and the ids they had. Pure.

An epoch is one run of the process, and the first part of its ids. What is left of earlier epochs stands at the
beginning of the log, at positions 1, 2, 3 …. Such a position holds an event or a loss: events were lost there, and it
is not known how many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import EventError
from .entry import Entry, Gap, Reason
from .event import EVERYWHERE, MARKER, RESERVED_PREFIX, Event, Target

#: Stands in the log where events were lost; a reader gets a gap there. (Its ``ack`` keeps it from being conflated.)
LOSS_MARKER = Event(RESERVED_PREFIX + "gap", "null", target=Target(EVERYWHERE), ack=MARKER)
#: Says whether events of other processes come now.
LIVE_MARKER, AWAY_MARKER = (Event(RESERVED_PREFIX + "status", text, target=Target(EVERYWHERE), ack=MARKER)
                            for text in ('{"live":true}', '{"live":false}'))
#: Stands where an epoch begins before which nothing was lost. It is for nobody; its number is the first of the epoch.
EPOCH_START = Event(RESERVED_PREFIX + "epoch", "null", target=Target(rooms=frozenset()), ack=MARKER)


def loss_marker(reason: Reason) -> Event:
    """Return what stands in the log where events were lost.

    :param reason: why; readers are given it.
    """
    return LOSS_MARKER if reason == "restarted" else LOSS_MARKER._replace(data=f'"{reason}"')


class Epoch(NamedTuple):
    """One run of the process.

    :ivar serial: puts epochs in their order, which clocks do not.
    :ivar epoch: the first part of its ids.
    :ivar last: the number of its last event; ``None`` if it did not shut down cleanly.
    """

    serial: int
    epoch: int
    last: int | None


class Record(NamedTuple):
    """What was kept of one event of an earlier epoch.

    :ivar serial: the serial number of the epoch.
    :ivar number: the event's number in it.
    :ivar ts: when it was emitted, in milliseconds since 1970.
    :ivar event: the event; ``None`` for a loss.
    """

    serial: int
    number: int
    ts: int
    event: Event | None


@dataclass(slots=True)
class RestoredHistory:
    """What was before this epoch.

    :ivar epochs: the earlier epochs that are known, the oldest first.
    :ivar positions: serial number and number of what stands at each position of the log, in order.
    :ivar forgotten: serial number and number of the newest event that was deleted for its age or for the file's size;
        everything before it was deleted as well.
    :ivar losses: the positions of the log where events were lost, in order.
    """

    epochs: tuple[Epoch, ...] = ()
    positions: tuple[tuple[int, int], ...] = ()
    forgotten: tuple[int, int] = (0, 0)
    losses: list[int] = field(default_factory=list)
    _epoch_of: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._epoch_of = {epoch.serial: epoch.epoch for epoch in self.epochs}

    @property
    def unclean(self) -> bool:
        """True if the last epoch did not shut down cleanly: what it did not write is lost."""
        return bool(self.epochs) and self.epochs[-1].last is None

    def unused(self, epoch: int) -> int:
        """Return an epoch that no earlier run has had.

        :param epoch: the epoch that is wanted.
        :return: ``epoch``, or the next one that is free.
        """
        taken = self._epoch_of.values()
        while epoch in taken:
            epoch += 1
        return epoch

    def restore(self, records: Iterable[Record], append: Callable[[Event], Entry]) -> None:
        """Append what earlier epochs have left, and what marks the beginning of this one.

        A record that is too large for the log of this epoch becomes a loss.

        :param records: what was kept, in order.
        :param append: appends an event to the log.
        """
        for record in records:
            try:
                entry = append(record.event or LOSS_MARKER)
            except EventError:
                entry = append(LOSS_MARKER)
            entry.ts = record.ts
            if entry.event is LOSS_MARKER:
                self.losses.append(entry.seq)
        if self.unclean:
            self.losses.append(append(LOSS_MARKER).seq)
        else:
            append(EPOCH_START)

    def lost_between(self, position: int, upto: int) -> bool:
        """True if events were lost after a position.

        :param position: the position.
        :param upto: the last position that is asked about.
        """
        return any(position < loss <= upto for loss in self.losses)

    def id_of(self, position: int) -> str:
        """Return the id of what stands at a position.

        :param position: the position; 0 stands for what was before the first.
        :return: the id that clients of that epoch have seen.
        """
        if position:
            serial, number = self.positions[position - 1]
        elif self.forgotten[0]:
            serial, number = self.forgotten
        else:
            serial, number = self.positions[0] if self.positions else (self.epochs[0].serial, 1)
            number = max(0, number - 1)
        return f"{self._epoch_of[serial]}-{number}"

    def resume(self, epoch: int, number: int, *, oldest: int, start: int) -> tuple[int, Gap | None]:
        """Say where a reader goes on whose last event was one of an earlier epoch.

        :param epoch: the first part of the event's id.
        :param number: the second part.
        :param oldest: the oldest position that the log retains.
        :param start: the last position of earlier epochs.
        :return: the last position that the reader is past, and a gap if events before it are not there any more.
        """
        known = next((item for item in self.epochs if item.epoch == epoch), None)
        if known is None or (known.last is not None and number > known.last):
            # An id that was never given out: the reader has surely seen nothing of this epoch.
            position = max(oldest - 1, start)
            return position, Gap(position, None, "restarted")
        if (known.serial, number) < self.forgotten:
            return oldest - 1, Gap(oldest - 1, None, "evicted")
        return bisect_right(self.positions, (known.serial, number)), None
