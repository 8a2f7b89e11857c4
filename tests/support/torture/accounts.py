"""The accounts of a run: every event once at each process, or a gap that covers it; in order; ids never backwards."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

#: The log waits for 2 s until what it has lost is put back. A process that gets no processor for so long may be late.
HELD_UP_S = 0.5


class Promise(NamedTuple):
    """What a scenario promises beyond what always holds.

    :ivar whole: nothing is lost, so that there is no gap, if the machine is not too busy for that.
    :ivar once: the log holds nothing twice, so that readers leave nothing out; except for those on a branch.
    :ivar exact: the gaps have counts, which add up to what is missing.
    :ivar acknowledged: what an emitter that was killed had sent has come.
    :ivar branch: some process has read what is not in the log any more.
    """

    whole: bool = False
    once: bool = True
    exact: bool = False
    acknowledged: bool = False
    branch: bool = False


class Line(NamedTuple):
    """Something that a process has read.

    :ivar uid: the event, ``EMITTER:NUMBER``; empty for a gap.
    :ivar at: its id.
    :ivar reason: of a gap; or that something is to be done, and is no event. :ivar missed: the count of a gap; -1 if
        that is not known.
    """

    uid: str
    at: tuple[int, int]
    reason: str = ""
    missed: int = 0


@dataclass
class Run:
    """What is known of a run when it is over.

    :ivar folder: where its processes have written down what they did.
    :ivar killed: those that were killed.
    :ivar left: those that have ended of themselves, and have read no more, but sent all.
    :ivar late: those that have begun when others had emitted already.
    :ivar excused: those that were on a branch, and have gaps of it.
    :ivar held_up_s: for how long the machine has held up what wanted to run, in seconds.
    """

    folder: Path
    killed: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    held_up_s: float = 0.0

    @property
    def in_time(self) -> bool:
        """True if the machine let everybody do in time what has to be done while the log waits for it."""
        return self.held_up_s < HELD_UP_S


@dataclass
class Accounts:
    """What the accounts of a run have found.

    :ivar bad: what must not be.
    :ivar counts: how many of what.
    :ivar ends: what each process says of itself at the end.
    """

    bad: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)

    def wrong(self, who: str, what: str) -> None:
        self.bad.append(f"{who}: {what}")


def account(run: Run, promise: Promise) -> Accounts:
    """Hold what each process has read against what was emitted.

    :param run: the run.
    :param promise: what its scenario promises.
    """
    found = Accounts()
    emitted = {path.stem: len(path.read_bytes().splitlines()) for path in sorted(run.folder.glob("*.emitted"))}
    found.counts["emitted"] = sum(emitted.values())
    found.counts["held_up_ms"] = round(run.held_up_s * 1000)
    promise = promise._replace(whole=promise.whole and run.in_time)
    found.ends = {path.stem: json.loads(path.read_text()) for path in sorted(run.folder.glob("*.end"))}
    reads = {path.stem: [_line(text) for text in path.read_text().splitlines()]
             for path in sorted(run.folder.glob("*.read"))}
    for who, lines in reads.items():
        _one_process(found, run, promise, who, lines, emitted)
    _between_processes(found, reads)
    _ends(found, run, promise, reads)
    for path in sorted(run.folder.glob("*.resumed")):
        _moved_clients(found, run, path, reads)
    _commands(found, run)
    return found


def _line(text: str) -> Line:
    kind, at, *rest = text.split(" ")
    generation, number = map(int, at.split("-"))
    if kind != "gap":
        return Line(rest[0], (generation, number), kind)
    return Line("", (generation, number), rest[0], int(rest[1]))


def _one_process(found: Accounts, run: Run, promise: Promise, who: str, lines: list[Line],
                 emitted: dict[str, int]) -> None:
    gaps = [line for line in lines if not line.uid]
    found.counts["delivered"] += len(lines) - len(gaps)
    found.counts["gaps"] += len(gaps)
    if promise.whole and gaps and who not in run.excused:
        found.wrong(who, f"has gaps, although nothing is lost: {gaps[:3]}")
    for before, after in itertools.pairwise(lines):
        if after.at < before.at or (after.at == before.at and after.uid and before.uid):
            found.wrong(who, f"ids go back: {before} {after}")
    missing = 0
    for emitter, holes in _holes(found, who, lines).items():
        total = emitted.get(emitter, 0)
        last = holes.pop()
        first = holes[0] if holes else last
        if who in run.late and who != emitter and first[0] == 0:  # it began to read later
            holes = holes[1:]
        for i, j, covered in holes:
            missing += j - i - 1
            if not covered:
                found.wrong(who, f"{emitter}:{i + 1}…{j - 1} missing, and nothing says so")
        if last[0] < total and who not in run.killed | run.left and not (who in run.late and last[0] == 0):
            missing += total - last[0]
            if last[2]:
                continue
            if emitter not in run.killed:
                found.wrong(who, f"{emitter}:{last[0] + 1}…{total} missing at the end, and nothing says so")
            else:
                found.counts["unsent"] += total - last[0]
                sent = _sent(run.folder, emitter)
                if promise.acknowledged and sent > last[0]:
                    found.wrong(who, f"{emitter}:{last[0] + 1}…{sent} were acknowledged, and have not come")
    for emitter in emitted.keys() - {line.uid.partition(":")[0] for line in lines}:
        if who not in run.killed | run.left | run.late and emitter not in run.killed and emitted[emitter] and not gaps:
            found.wrong(who, f"has nothing of {emitter}")
    counted = sum(gap.missed for gap in gaps)
    if promise.exact and who not in run.killed | run.left | run.late and (
            counted != missing or any(gap.missed < 0 for gap in gaps)):
        found.wrong(who, f"its gaps count {counted}, and {missing} are missing")
    found.counts["missing"] += missing


def _holes(found: Accounts, who: str, lines: Iterable[Line],
           again: bool = False) -> dict[str, list[tuple[int, int, bool]]]:
    """Return, for each emitter, what is missing: after which number, before which one, and whether a gap covers it.

    The last of each is what comes after the last event. Says what comes twice or in another order, unless it may be.
    """
    gaps, seen = 0, set[str]()
    last: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    holes: dict[str, list[tuple[int, int, bool]]] = defaultdict(list)
    for line in lines:
        if not line.uid:
            gaps += 1
            continue
        if line.uid in seen:
            if not again:
                found.wrong(who, f"{line.uid} came twice ({line.at})")
            continue
        seen.add(line.uid)
        emitter, _, text = line.uid.partition(":")
        number, (before, gaps_before) = int(text), last[emitter]
        if number < before and not again:
            found.wrong(who, f"{line.uid} came after {emitter}:{before}")
        if number > before + 1:
            holes[emitter].append((before, number, gaps > gaps_before))
        last[emitter] = number, gaps
    for emitter, (number, gaps_before) in last.items():
        holes[emitter].append((number, -1, gaps > gaps_before))
    return holes


def _sent(folder: Path, emitter: str) -> int:
    path = folder / f"{emitter}.sent"
    return max(map(int, path.read_text().split()), default=0) if path.exists() else 0


def _between_processes(found: Accounts, reads: dict[str, list[Line]]) -> None:
    """An id means the same event everywhere; and so two processes have the same order."""
    events: dict[tuple[int, int], tuple[str, str]] = {}
    for who, lines in reads.items():
        for line in lines:
            if line.uid:
                uid, other = events.setdefault(line.at, (line.uid, who))
                if uid != line.uid:
                    found.wrong(who, f"{line.at} is {line.uid}, but {uid} at {other}")


def _ends(found: Accounts, run: Run, promise: Promise, reads: dict[str, list[Line]]) -> None:
    for who in reads.keys() - found.ends.keys() - run.killed - run.left:
        found.wrong(who, "has not ended")
    for who, end in found.ends.items():
        for key in ("refilled", "resent", "dropped", "twins", "cuts", "branches", "duplicates", "foreign"):
            found.counts[key] += end.get(key, 0)
        found.counts["worst_emit_ms"] = max(found.counts["worst_emit_ms"], round(end.get("worst_emit_ms", 0)))
        if promise.once and end.get("duplicates") and not end["branches"]:
            found.wrong(who, f"the log has given {end['duplicates']} events twice")
        if promise.whole and end.get("branches") and who not in run.excused:
            found.wrong(who, f"was on a branch {end['branches']} times")
    if promise.branch and not found.counts["branches"]:
        found.wrong("all", "nobody was on a branch: the scenario has not done its work")


def _moved_clients(found: Accounts, run: Run, path: Path, reads: dict[str, list[Line]]) -> None:
    """A client that moves from one process to another with its last id gets the rest once, or a gap."""
    here, log = path.stem, list[tuple[int, Line]]()
    done = {line.uid for lines in reads.values() for line in lines if line.reason == "control"}
    for text in path.read_text().splitlines():
        kind, *rest = text.split(" ")
        if kind == "entry":
            generation, number = map(int, rest[1].split("-"))
            log.append((int(rest[0]), Line("" if rest[2] == "gap" else rest[2], (generation, number))))
        elif kind != "resume":
            if rest[0] == "-":
                found.wrong(here, f"goes on at a {kind} id as if nothing were missing")
        else:
            there, index, place, reason = rest
            if there in run.late or here in run.late:
                continue
            found.counts["moved"] += 1
            lines = [line for line in reads[there][:int(index) + 1] if line.reason != "control"]
            if reason != "-":
                found.counts["moved_gap"] += 1
                lines.append(Line("", lines[-1].at))
            # After a gap that says so, what a deposed server had taken may come again.
            again = reason != "-" or any(line.reason == "restarted" for line in lines)
            after = [line for seq, line in log if seq > int(place)]
            quiet = Accounts()
            for emitter, holes in _holes(quiet, f"a client of {there} at {here}", [*lines, *after], again).items():
                for i, j, covered in holes[:-1]:
                    if not covered and any(f"{emitter}:{number}" not in done for number in range(i + 1, j)):
                        quiet.wrong(f"a client of {there} at {here} from {lines[-1].at} on",
                                    f"{emitter}:{i + 1}…{j - 1} missing, and nothing says so")
            found.bad += quiet.bad[:1]


def _commands(found: Accounts, run: Run) -> None:
    """No command is carried out twice; one that is said to be done was, and each has an outcome."""
    ran = Counter(line.split(" ")[0] for path in sorted(run.folder.glob("*.ran"))
                  for line in path.read_text().splitlines())
    found.counts["commands"] = sum(ran.values())
    for uid, count in ran.items():
        if count > 1:
            found.wrong(uid, f"was carried out {count} times")
    for path in sorted(run.folder.glob("*.outcomes")):
        for uid, outcome in (line.split(" ") for line in path.read_text().splitlines()):
            found.counts[outcome] += 1
            if outcome not in ("done", "unknown") or (outcome == "done" and not ran[uid]):
                found.wrong(uid, f"is {outcome}, and was carried out {ran[uid]} times")
