"""BackReader: reads what the shared log still has of what a process' own log has dropped, for one client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .faults import Away, Misconfigured
from .shared_log import Position, Record, SharedLog

#: How many entries one call returns; how many are read for one client at most; and for how many clients at a time.
PAGE, MAX_ENTRIES, AT_ONCE = 512, 10_000, 2
#: After so many seconds no further call is made; one takes three seconds at most.
LATEST_S = 2.0


class BackReader:
    """Reads entries of the past, by a connection of its own for each client.

    :param connect: connects to the shared log.
    :param clock: returns seconds.
    """

    def __init__(self, connect: Callable[[], SharedLog], clock: Callable[[], float] = time.monotonic) -> None:
        self._connect, self._clock = connect, clock
        self._places = threading.Semaphore(AT_ONCE)

    def read(self, after: Position, upto: Position) -> list[Record] | None:
        """Return all entries between two ids, the last one included, each that was sent twice once.

        :param after: the id after which they begin.
        :param upto: the id of the last one.
        :return: the entries, in order; ``None`` if not all of them are there, or they are too many, or the log cannot
            be read now.
        """
        if not self._places.acquire(blocking=False):
            return None
        try:
            return self._read(after, upto, self._clock() + LATEST_S)
        finally:
            self._places.release()

    def _read(self, after: Position, upto: Position, latest: float) -> list[Record] | None:
        log: SharedLog | None = None
        found: list[Record] = []
        try:
            log = self._connect()
            while after < upto:
                if len(found) >= MAX_ENTRIES or self._clock() >= latest:
                    return None
                count = min(PAGE, MAX_ENTRIES - len(found))
                page = log.between(Position(after.generation, after.number + 1), upto, count)
                for record in page:
                    if not _follows(record, after):
                        return None
                    after = record.at
                found += page
                if not page:
                    return None
        except (Away, Misconfigured):
            return None
        finally:
            if log is not None:
                log.close()
        return _once(found)


def _follows(record: Record, before: Position) -> bool:
    if record.ends is not None:
        return record.ends == before
    return record.q > 0 and record.at == (before.generation, before.number + 1)


def _once(records: list[Record]) -> list[Record]:
    last: dict[str, int] = {}
    found = []
    for record in records:
        if record.q > last.get(record.sender, 0):
            last[record.sender] = record.q
            found.append(record)
    return found
