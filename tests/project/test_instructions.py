"""The performance guard: what an emit, the log, the decoder and the writer cost, in instructions (``tests/guard``)."""

from __future__ import annotations

import pytest
from guard import counting
from support.needs import missing

#: Counting takes 40 s on an idle machine.
pytestmark = [pytest.mark.once, pytest.mark.timeout(1900)]

HOW = "record it on this very machine: python -m tests.guard --record"


@pytest.fixture(scope="module")
def expected() -> dict[str, int]:
    """The baseline of this Python."""
    known = counting.baseline().get(counting.key())
    if known is None:
        missing(f"there is no baseline for {counting.key()}; {HOW}")
    return dict(known["instructions"])


def counted(*options: str) -> dict[str, int]:
    try:
        return counting.counted(*options, seconds=900)
    except counting.Unavailable as error:
        missing(str(error))
        raise


def test_nothing_takes_more_instructions_than_it_may(expected: dict[str, int]) -> None:
    """No workload takes 10 % more instructions than when its baseline was taken."""
    then = counting.baseline()[counting.key()]["packages"]
    assert counting.judged(counted(), expected) == [], (
        f"what was counted with {then} is now counted with {counting.packages()}; if the work is worth it, {HOW}")


def test_more_work_is_seen(expected: dict[str, int]) -> None:
    """A workload that is made to do about twice as much is counted so, and judged to be a regression."""
    slowed = counted("--only", "wire decode, 50 events", "--slower-by", "4")
    assert list(slowed) == ["wire decode, 50 events"]
    (line,) = counting.judged(slowed, {name: expected[name] for name in slowed})
    assert line.startswith("wire decode, 50 events: ")
    more = slowed["wire decode, 50 events"] - expected["wire decode, 50 events"]
    assert more == pytest.approx(4 * expected["calibration"], rel=0.1), "it counts what was added, and that alone"


def test_the_limit_is_ten_percent() -> None:
    """At 10 % more all is well, above it is not; neither is a workload that only one side knows."""
    assert counting.judged({"a": 1100, "b": 1}, {"a": 1000, "b": 9}) == []
    (line,) = counting.judged({"a": 1101}, {"a": 1000})
    assert "+10.1%" in line
    assert len(counting.judged({"new": 1}, {"old": 1})) == 2
