"""Rules of the shared log that are taken away one by one, from a copy of the package: some scenario must miss each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from .world import TESTS

PACKAGE = TESTS.parent / "hakgal_hybrid"
SCRIPTS, TAIL = "commands/backplane/scripts.py", "broker/backplane/tail.py"
OUTBOX, SENDER = "broker/backplane/outbox.py", "broker/backplane/sender.py"
READER, SEGMENTS = "broker/backplane/reader.py", "broker/segments.py"


class Mutant(NamedTuple):
    """A rule that is taken away.

    :ivar scenario: what must miss it. :ivar file: where it stands, in the package. :ivar old: its text, which is there
        once. :ivar new: what stands there instead.
    """

    scenario: str
    file: str
    old: str
    new: str

    def apply(self, folder: Path) -> Path:
        """Make a copy of the package without the rule.

        :param folder: where.
        :return: the folder, which holds the package.
        """
        shutil.copytree(PACKAGE, folder / PACKAGE.name)
        (folder / PACKAGE.name / self.file).write_text(self.text(), encoding="utf-8")
        return folder

    def text(self) -> str:
        """Return the file without the rule.

        :raises LookupError: if the rule is not there any more, or not once.
        """
        text = (PACKAGE / self.file).read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != 1:
            raise LookupError(f"{self.file} has {self.old!r} {found} times, not once: have the mutant fit the code")
        return text.replace(self.old, self.new)


MUTANTS: dict[str, Mutant] = {
    "no check of q and token": Mutant("replies", SCRIPTS, "if tonumber(ARGV[i]) > rq then", "if true then"),
    "no dedupe at the reader": Mutant("split_brain", TAIL, "if known and record.q <= known:", "if False:"),
    "no cut check": Mutant(
        "flushall", SCRIPTS, "if cut and (till == 0 or m[3] ~= repl) then", "if false then"),
    "no look at the replication id": Mutant(
        "lost_tail_lag", SCRIPTS, "local cut = not m[1] or m[3] ~= repl or", "local cut = not m[1] or"),
    "no look whether the log is there": Mutant(
        "delkeys", SCRIPTS, " or (not there and till == 0)\n", "\n"),
    "no settling": Mutant("flushall", SCRIPTS, "local settle = tonumber(ARGV[3])", "local settle = 0"),
    "no l": Mutant("overflow", SCRIPTS, "if ARGV[i+1] ~= '0' then fields[7], fields[8] = 'l', ARGV[i+1] end", ""),
    "nothing counted when the outbox overflows": Mutant(
        "overflow", OUTBOX, "item=first.item._replace(lost=first.item.lost + item.lost + 1))", "item=first.item)"),
    "no TWIN": Mutant(
        "twins", SCRIPTS, "if rtok ~= '' and rtok ~= prev and rtok ~= tok then return {'TWIN'} end", ""),
    "no hole check": Mutant(
        "trimmed", TAIL, "elif before != START and at.number > before.number + 1:", "elif False:"),
    "no LOST": Mutant("flush_unread", SCRIPTS, "if rq < expect then return {'LOST', int(rq), rtok} end", ""),
    "nothing held after the acknowledgement": Mutant(
        "flush_unread", OUTBOX, "self._held.extend(_Waiting(item, now) for item in batch)", "pass"),
    "no refill": Mutant("flushall", READER, "todo := self.tail.after(newest)", "todo := []"),
    "refill leaves the records": Mutant(
        "flushall", SCRIPTS, "redis.call('SET', KEYS[key], int(q) .. ' ', 'PX', ARGV[4])", ""),
    "a branch stays in the chain": Mutant(
        "split_brain", TAIL, "while self.chain and self.chain[-1].at > ends:", "while False:"),
    "a branch is not said": Mutant("split_brain", TAIL, 'self._on_hole(Hole(at, None, "restarted"))', "pass"),
    "a new token for each try": Mutant(
        "replies", SENDER, "        began = time.monotonic()\n", "        self._token = secrets.token_hex(4)\n"
        "        began = time.monotonic()\n"),
    "generations by the clock alone": Mutant(
        "clock", SCRIPTS, "math.max(now * 100 + tonumber(ARGV[4]), gen + 1, fg + 1)", "now * 100 + tonumber(ARGV[4])"),
    "no healing above what was written by hand": Mutant(
        "foreign", SCRIPTS, "if bad and string.find(bad, 'equal or smaller') then", "if false then"),
    "what was written by hand is read again": Mutant(
        "foreign", READER, "max(self.tail.position, self.tail.looked_at)", "self.tail.position"),
    "what is refused is read": Mutant("two_apps", READER, "log.look(self.tail.position or START)\n", "pass\n"),
    "claims are not exclusive": Mutant(
        "claims", SCRIPTS, "redis.call('SET', KEYS[3], owner, 'NX', 'PX', 86400000)",
        "redis.call('SET', KEYS[3], owner, 'PX', 86400000)"),
    "claims of another generation count": Mutant(
        "claims", SCRIPTS, "if m[1] ~= ARGV[2] or m[2] ~= '0' or m[3] ~= repl then return {'STALE'} end", ""),
    "another app is let in": Mutant(
        "two_apps", SCRIPTS, "if m[6] and app ~= '' and m[6] ~= app then return {'OTHER', 'app', m[6]} end", ""),
    "branches are resumed": Mutant(
        "split_brain", SEGMENTS, " or _within(self._branches, at)", ""),
    "dead generations are resumed": Mutant(
        "split_brain", SEGMENTS, "generation not in self._ends or number > self._ends[generation] or ", ""),
}
