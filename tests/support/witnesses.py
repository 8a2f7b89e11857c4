"""Thousands of clients by ``tests/faults/witnesses.c``, and what each got held against a manifest.

The program keeps of each client what :mod:`.accounting` needs, in runs of events instead of single ones: how many there
are in a run, and a sum over their names, payloads and ids. A run is right if both are those of the manifest's events
between its ends.
"""

from __future__ import annotations

import bisect
import json
import select
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from .accounting import Account, Got, Manifest, Place, Sent, _Walk, blocks
from .faults import need

SOURCE = Path(__file__).resolve().parent.parent / "faults" / "witnesses.c"


class Witnesses:
    """Clients that read the streams of several processes.

    :param folder: where the program and its accounts go.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("gcc") or shutil.which("cc")
        need(sys.platform == "linux" and compiler, "thousands of clients need Linux and a C compiler")
        program = folder / "witnesses"
        subprocess.run([str(compiler), "-O2", "-o", str(program), str(SOURCE)], check=True)
        self._accounts = folder / "accounts"
        self._process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def _order(self, text: str, seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(text.encode() + b"\n")
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN)
        assert poll.poll(seconds * 1000), f"no answer to {text!r}"
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer["done"], (text, answer)
        return answer

    def connect(self, count: int, ports: list[int], seconds: int = 120) -> None:
        """Open so many streams, spread over the ports; each client goes to another port when its stream ends."""
        self._order(f"connect {count} {','.join(map(str, ports))} {seconds}", seconds + 10)

    def wait_for(self, event_id: str, seconds: int = 120) -> dict[str, Any]:
        """Wait until every client is there; return how they stand."""
        return self._order(f"wait {event_id} {seconds}", seconds + 10)

    def calm(self) -> dict[str, Any]:
        """Return how they stand, with the longest time without an event (``silence_ms``) since the last call."""
        return self._order("calm", 30)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def account(self, manifest: Manifest, upto: str) -> Iterator[Account]:
        """Account for what each client got, up to an id.

        :raises AssertionError: if something is missing, repeated, out of order, or not what was emitted.
        """
        self._order(f"dump {self._accounts}", 60)
        sums = Sums(manifest)
        end = manifest.place(upto)
        assert end is not None
        for client in _accounts(self._accounts.read_bytes()):
            walk = Walk(sums)
            for item in client:
                walk.take(item)
            assert walk.account.place is not None, "the stream was never opened"
            if walk.account.place < end:
                walk.leave_out(end, Got(upto, "", None, 0))
            yield walk.account


class Run(tuple[str, str, int, int]):
    """The first and the last id of a run of events, how many there are, and the sum over them."""


def _accounts(raw: bytes) -> Iterator[list[Got | Run]]:
    at, client = 0, None
    while at < len(raw):
        end = raw.index(b"\n", at)
        word, *words = raw[at:end].decode().split()
        at = end + 1
        if word == "client":
            if client is not None:
                yield client
            client = []
            continue
        assert client is not None
        if word == "run":
            client.append(Run((words[0], words[1], int(words[2]), int(words[3]))))
        else:
            client += blocks(raw[at:at + int(words[0])] + b"\n\n")
            at += int(words[0]) + 1
    if client is not None:
        yield client


class Sums:
    """How many events of a manifest there are up to each, and the sums over them."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.places = [sent.place for sent in manifest.sent]
        self._sums = [0, *accumulate(map(_value, manifest.sent))]

    def between(self, first: Place, last: Place) -> tuple[int, int]:
        """Return the count and the sum from one place to another, both included."""
        start, end = bisect.bisect_left(self.places, first), bisect.bisect_right(self.places, last)
        return end - start, (self._sums[end] - self._sums[start]) % 2**64


def _value(sent: Sent) -> int:
    generation, _, number = sent.id.partition("-")
    return ((zlib.crc32(sent.name.encode()) << 32) + sent.digest) * (2 * int(number) + 1) + int(generation)


class Walk(_Walk):
    """Walks through what one client got, runs at a time; all events are for everybody in one namespace."""

    def __init__(self, sums: Sums) -> None:
        super().__init__(sums.manifest, "/", "", True, None, True)
        self._sums = sums

    def take(self, item: Got | Run) -> None:
        """Take the next thing that came."""
        if isinstance(item, Got):
            self.step(item)
            return
        ids, (count, total) = item[:2], item[2:]
        first, last = map(self.manifest.place, ids)
        assert first is not None, f"{ids[0]} was never given"
        assert last is not None, f"{ids[1]} was never given"
        assert self.account.place is not None, f"{item} comes before the stream was opened"
        assert first > self.account.place, f"{item} comes again, or too late: the client is at {self.account.place}"
        self.leave_out(first, Got(ids[0], "?", None, 0))
        due = self._sums.between(first, last)
        assert due == (count, total), f"{count} of {due[0]} events came in {ids}, or not what was emitted"
        self.account.place = last
        self.account.delivered += count
