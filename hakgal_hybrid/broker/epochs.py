"""Past: which events earlier lives of the process have left, in their order, and the ids they had. Pure.

A life is one run of the process: the first part of its ids. What is left of earlier lives stands at the beginning of
the log, in places 1, 2, 3 …; a place may also be a *tear*: something was lost there, and nobody knows how much.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

from .event import EVERYWHERE, RESERVED_PREFIX, Event, Target

#: Stands in the log where something was lost. Readers are told of a gap there
#: (:class:`~hakgal_hybrid.broker.stream.SubscriberStream`). (With an ``ack`` it is never conflated, whatever names
#: are.)
LOSS_MARKER = Event(RESERVED_PREFIX + "gap", "null", target=Target(EVERYWHERE), ack="")
#: Stands where a life begins that has lost nothing: for nobody, but its number is the first of the new life.
EPOCH_START = Event(RESERVED_PREFIX + "birth", "null", target=Target(rooms=frozenset()), ack="")


class Epoch(NamedTuple):
    """One run of the process.

    ``serial`` puts lives in order (clocks do not); ``last`` is the number of its last event, if it ended well.
    """

    serial: int
    epoch: int
    last: int | None


class Record(NamedTuple):
    """One event of an earlier life, or, without an event, a tear; ``ts`` in milliseconds since 1970."""

    serial: int
    number: int
    ts: int
    event: Event | None


@dataclass(slots=True)
class RestoredHistory:
    """What was before this life.

    :ivar lives: the earlier lives that are known, the oldest first.
    :ivar places: life and number of what stands in each place of the log, in order.
    :ivar forgotten: life and number of the newest event that was deleted for age or size; everything before it was too.
    """

    lives: tuple[Epoch, ...] = ()
    places: tuple[tuple[int, int], ...] = ()
    forgotten: tuple[int, int] = (0, 0)
    _epochs: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._epochs = {life.serial: life.epoch for life in self.lives}

    @property
    def torn(self) -> bool:
        """True if the last life did not end well: what it did not write is lost."""
        return bool(self.lives) and self.lives[-1].last is None

    def fresh(self, epoch: int) -> int:
        """Return ``epoch``, or the next one that no earlier life has had."""
        taken = self._epochs.values()
        while epoch in taken:
            epoch += 1
        return epoch

    def id_of(self, place: int) -> str:
        """Return the id of what stands in a place; for place 0, of what was before the first."""
        if place:
            serial, number = self.places[place - 1]
        elif self.forgotten[0]:
            serial, number = self.forgotten
        else:
            serial, number = self.places[0] if self.places else (self.lives[0].serial, 1)
            number = max(0, number - 1)
        return f"{self._epochs[serial]}-{number}"

    def find(self, epoch: int, number: int) -> int | None:
        """Return the place that a reader is past which has seen number ``number`` of an earlier life.

        :return: ``None`` for a life that is not known, or a number that it cannot have given; -1 if events that came
            after that one have been deleted.
        """
        life = next((life for life in self.lives if life.epoch == epoch), None)
        if life is None or (life.last is not None and number > life.last):
            return None
        if (life.serial, number) < self.forgotten:
            return -1
        return bisect_right(self.places, (life.serial, number))
