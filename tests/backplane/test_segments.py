"""Ids from outside: each entry's id, and where a reader goes on that has seen an id."""

from __future__ import annotations

import pytest

from hakgal_hybrid.broker.backplane.shared_log import START, Position
from hakgal_hybrid.broker.entry import Gap
from hakgal_hybrid.broker.segments import Segments


def made(*ids: str, oldest: int = 1) -> Segments:
    """Return segments for entries with these ids; those that end with ``!`` are losses."""
    segments = Segments()
    for seq, text in enumerate(ids, 1):
        segments.add(seq, Position.parse(text.rstrip("!")), oldest, lossy=text.endswith("!"))
    return segments


def resumed(segments: Segments, text: str, *, oldest: int = 1, newest: int) -> tuple[int, str | None]:
    """Return where a reader goes on, and the reason of its gap."""
    position, gap = segments.resume(*Position.parse(text), oldest=oldest, start=newest)
    assert gap is None or gap == Gap(position, None, gap.reason)
    return position, None if gap is None else gap.reason


IDS = ("10-3", "10-4", "10-7", "20-0!", "20-1", "20-1!", "20-2")


def test_each_entry_has_its_id() -> None:
    """Entries have the ids that they were added with; before the first is the id before it."""
    segments = made(*IDS)
    assert [segments.id_of(seq) for seq in range(8)] == ["10-2", *(text.rstrip("!") for text in IDS)]
    assert segments.newest == Position(20, 2)
    assert Segments().newest == START
    assert Segments().id_of(0) == "0-0"


def test_what_came_before_the_log_began_has_the_id_that_it_began_after() -> None:
    """Markers of a process that did not know yet where it begins do not lead clients back."""
    segments = Segments()
    segments.add(1, START, 1, lossy=True)
    segments.add(2, START, 1, lossy=True)
    assert not segments.begun
    segments.begin(Position(10, 7))
    segments.add(3, Position(10, 9), 1)
    assert segments.begun
    assert [segments.id_of(seq) for seq in range(1, 4)] == ["10-7", "10-7", "10-9"]


@pytest.mark.parametrize(("asked", "position"), [
    ("10-2", 0), ("10-3", 1), ("10-4", 2), ("10-5", 2), ("10-6", 2), ("10-7", 3), ("20-0", 4), ("20-1", 5),
    ("20-2", 7)])
def test_known_id_is_gone_on_from(asked: str, position: int) -> None:
    """A reader goes on after the entry that it names, or after the last before a number that is no event.

    After an id that a loss shares with the entry before it, it is given the loss (again).
    """
    assert resumed(made(*IDS), asked, newest=7) == (position, None)


@pytest.mark.parametrize("base", ["0-0", "7-4"])
def test_who_was_there_before_the_first_entry_gets_all_of_them(base: str) -> None:
    """Its id is that after which the log began, of an empty one also 0-0; if some are gone, it gets a gap."""
    segments = Segments()
    segments.begin(Position.parse(base))
    assert segments.id_of(0) == base
    segments.add(1, Position(20, 1), 1)
    segments.add(2, Position(20, 2), 1)
    assert resumed(segments, base, newest=2) == (0, None)
    assert resumed(segments, base, oldest=2, newest=2) == (1, "evicted")


@pytest.mark.parametrize(("asked", "position", "reason"), [
    ("20-3", 7, "future"),  # not here yet
    ("30-1", 7, "future"),
    ("10-8", 7, "restarted"),  # beyond the end of its generation
    ("9-1", 7, "restarted"),  # a generation that is not known
    ("15-1", 7, "restarted"),
    ("10-1", 0, "evicted")])
def test_unknown_id_is_a_gap(asked: str, position: int, reason: str) -> None:
    """What cannot be gone on from is a gap that says why, and nothing comes twice."""
    assert resumed(made(*IDS), asked, newest=7) == (position, reason)


def test_dropped_entries_are_a_gap_from_the_oldest() -> None:
    """Of a generation that is known, what the log has dropped is a gap; the rest follows."""
    segments = made(*IDS, oldest=5)
    assert resumed(segments, "10-4", oldest=5, newest=7) == (4, "evicted")
    assert resumed(segments, "20-0", oldest=5, newest=7) == (4, None)
    assert resumed(segments, "20-1", oldest=5, newest=7) == (5, None)


def test_ids_of_a_branch_are_not_gone_on_from() -> None:
    """Who has read again elsewhere what this process had read before, under other ids, is given a gap."""
    segments = made("10-1", "10-2")
    segments.branched(Position(20, 0))
    segments.add(3, Position(20, 0), 1, lossy=True)
    segments.repeated(Position(20, 1))
    segments.repeated(Position(20, 2))
    segments.add(4, Position(20, 3), 1)
    assert resumed(segments, "10-2", newest=4) == (2, None)
    assert resumed(segments, "20-1", newest=4) == (4, "restarted")
    assert resumed(segments, "20-2", newest=4) == (4, "restarted")
    assert resumed(segments, "20-3", newest=4) == (4, None)


def test_losses_are_found_by_place() -> None:
    """A count of what is missing is not exact where something was lost."""
    segments = made(*IDS)
    assert segments.lost_between(3, 5)
    assert not segments.lost_between(1, 3)
    assert not segments.lost_between(6, 7)


def test_many_segments_are_forgotten_with_their_entries() -> None:
    """What is kept of ids is bounded by what the log retains."""
    segments = Segments()
    for seq in range(1, 2001):
        segments.add(seq, Position(10, 2 * seq), max(1, seq - 10))
    assert segments.id_of(1995) == "10-3990"
    assert segments.id_of(1989) == "10-3978"
    assert len(segments._segments) <= 14


def test_empty_log_begins_after_an_id() -> None:
    """A process that begins without entries knows after which id it begins."""
    segments = Segments()
    assert resumed(segments, "0-0", newest=0) == (0, None)
    segments.begin(Position(10, 5))
    assert segments.id_of(0) == "10-5"
    assert resumed(segments, "10-5", newest=0) == (0, None)
    assert resumed(segments, "10-4", newest=0) == (0, "evicted")
    assert resumed(segments, "10-6", newest=0) == (0, "future")
