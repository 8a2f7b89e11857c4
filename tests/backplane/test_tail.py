"""What a process makes of the entries that it reads: everything once, in order, and a hole for what is missing."""

from __future__ import annotations

from hakgal_hybrid.broker.backplane.shared_log import START, Position, Record
from hakgal_hybrid.broker.backplane.tail import Hole, Tail


class Taken:
    """A tail, and what it has given."""

    def __init__(self, keep: int = 100) -> None:
        self.got: list[bytes] = []
        self.holes: list[Hole] = []
        self.branches: list[tuple[Position, Position]] = []
        self.repeated: list[Position] = []
        self.tail = Tail(lambda record: self.got.append(record.payload), self.holes.append, keep=keep,
                         branch=lambda end, opening: self.branches.append((end, opening)),
                         repeated=self.repeated.append)

    def take(self, *records: Record) -> None:
        if self.tail.position is None:
            self.tail.begin(list(records))
        else:
            for record in records:
                self.tail.take(record)


def opening(generation: int, ends: Position) -> Record:
    return Record(Position(generation, 0), ends=ends)


def event(generation: int, number: int, sender: str = "a", q: int | None = None, lost: int = 0) -> Record:
    q = number if q is None else q
    return Record(Position(generation, number), None, sender, q, f"{sender}{q}".encode(), lost)


FIRST = (opening(10, START), event(10, 1), event(10, 2), event(10, 3))


def test_first_generation_begins_without_a_hole() -> None:
    """A log that is read from its beginning lacks nothing."""
    taken = Taken()
    taken.take(*FIRST)
    assert (taken.got, taken.holes, taken.branches) == ([b"a1", b"a2", b"a3"], [], [])
    assert taken.tail.position == Position(10, 3)


def test_next_generation_goes_on() -> None:
    """An opening that names the last entry that was read is no hole, and what the log was given again is left out."""
    taken = Taken()
    taken.take(*FIRST, opening(20, Position(10, 3)), event(20, 1, q=3), event(20, 2, q=4))
    assert taken.got == [b"a1", b"a2", b"a3", b"a4"]
    assert taken.repeated == [Position(20, 1)]
    assert not taken.holes
    assert taken.tail.after(Position(10, 2))[0] == FIRST[3]


def test_what_was_cut_off_before_it_was_read_is_a_hole() -> None:
    """An opening beyond what was read says that entries are missing, not how many; a second hole tells nothing new."""
    taken = Taken()
    taken.take(*FIRST, opening(20, Position(10, 8)), event(20, 1, q=9))
    assert taken.holes == [Hole(Position(20, 0), None, "cut")]
    assert taken.got[-1] == b"a9"
    assert taken.tail.after(START) == [opening(20, Position(10, 8)), event(20, 1, q=9)]  # nothing from before the hole


def test_branch_is_said_once_and_its_events_are_not_given_again() -> None:
    """What was read of a Redis that another one replaced is not in the log: it comes again, and is left out here."""
    taken = Taken()
    taken.take(*FIRST, event(10, 4), opening(20, Position(10, 2)), event(20, 1, q=3), event(20, 2, q=4),
               event(20, 3, q=5))
    assert taken.got == [b"a1", b"a2", b"a3", b"a4", b"a5"]
    assert taken.holes == [Hole(Position(20, 0), None, "restarted")]
    assert taken.branches == [(Position(10, 4), Position(20, 0))]
    assert taken.repeated == [Position(20, 1), Position(20, 2)]
    assert [record.at for record in taken.tail.after(Position(10, 1))][:2] == [Position(10, 2), Position(20, 0)]


def test_trimmed_entries_are_counted() -> None:
    """Numbers that are left out were dropped before they were read; without an opening nobody knows how many."""
    taken = Taken()
    taken.take(*FIRST, event(10, 8), event(30, 4, q=20))
    assert taken.holes == [Hole(Position(10, 8), 4, "trimmed"), Hole(Position(30, 4), None, "trimmed")]


def test_losses_of_a_sender_are_counted_once() -> None:
    """What a sender had to drop is a hole of its own, unless a hole of the log has swallowed it already."""
    taken = Taken()
    taken.take(*FIRST)
    taken.take(event(10, 4, q=7), event(10, 5, "b", 3, lost=2), event(10, 6, "b", 6, lost=2))
    assert [(hole.missed, hole.reason, hole.sender) for hole in taken.holes] == [
        (3, "lost", "a"), (2, "lost", "b"), (2, "lost", "b")]
    taken.take(Record(Position(10, 7), None, "b", 9, b"", 2))  # its own event is lost as well
    assert taken.holes[-1] == Hole(Position(10, 7), 3, "lost", "b")
    assert taken.tail.statistics().holes == {"cut": 0, "trimmed": 0, "lost": 10, "restarted": 0}


def test_foreign_entries_are_left_alone() -> None:
    """What is none of ours takes no place and is counted."""
    taken = Taken()
    taken.take(*FIRST, Record(Position(10, 9)), event(10, 4))
    assert taken.got[-1] == b"a4"
    assert not taken.holes
    assert taken.tail.statistics().foreign == 1


def test_what_was_trimmed_before_a_first_entry_was_read_is_a_hole() -> None:
    """A process that began with an empty log, and reads for the first time when its beginning is gone, says so."""
    taken = Taken()
    taken.tail.begin([])
    taken.take(event(10, 40), event(10, 41))
    assert taken.holes == [Hole(Position(10, 40), None, "trimmed")]
    assert taken.got == [b"a40", b"a41"]


def test_start_after_everything() -> None:
    """A process that has clients already begins after the newest entry, and says that they may have missed some."""
    taken = Taken()
    taken.tail.begin_after([event(10, 7)])
    assert taken.got == []
    taken.take(event(10, 8))
    assert (taken.got, taken.holes) == ([b"a8"], [Hole(Position(10, 8), None, "trimmed")])
