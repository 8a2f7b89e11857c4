"""Spools: what a streamed answer has waiting for its client, in memory and then in a temporary file; bounded.

A thread of the host's produces an answer as fast as it can, and is free then, however slow the client is. Only what
finds no room in the spool makes it wait.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ..broker.budget import Budget
from ..errors import Overloaded
from ..logs import get_logger
from .notifier import LoopNotifier
from .pool import Job, ThreadPool

logger = get_logger(__name__)

#: How much is given to a client, or moved to or from a file, at a time (bytes).
PIECE = 64 * 1024
#: How much one answer has waiting in memory (bytes), before it uses a file.
MEMORY = 2 * PIECE
#: Of how much of all files one answer may have.
SHARE = 4
#: How long a client must have taken nothing before it may be cut for the sake of others (seconds).
PATIENCE_S = 1.0


class Spools:
    """What the spools of one server share. May be used from any thread, if nothing else is said.

    :param loop: the loop of the greenlets that write to clients.
    :param max_bytes: how large the files may be together.
    :param files: the threads that read the files.
    :param short: returns whether requests wait for a thread while none can be given to them.
    :param on_cut: called on the loop's thread when a client was cut.
    :param clock: returns the time (seconds).
    :ivar room: what the files take together.
    """

    def __init__(self, loop: Any, max_bytes: int, files: ThreadPool, *, short: Callable[[], bool],
                 on_cut: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.room = Budget(max_bytes)
        self.files, self.short, self.clock = files, short, clock
        self.one_may_have = max_bytes // SHARE
        self._on_cut = on_cut
        self._lock = threading.Lock()
        self._full: dict[Spool, None] = {}
        self._cut: deque[Callable[[], None]] = deque()
        self._notifier = LoopNotifier(loop, self._hang_up)

    def note(self, spool: Spool, *, full: bool) -> None:
        """Note whether a thread waits for room in a spool.

        :param spool: the spool.
        :param full: whether it does.
        """
        with self._lock:
            if full:
                self._full[spool] = None
            else:
                self._full.pop(spool, None)

    def cut_slowest(self) -> bool:
        """Cut the client that has taken nothing for the longest time, of those for which a thread waits.

        :return: false if none has taken nothing for so long that it may be cut.
        """
        with self._lock:
            slowest = min(self._full, key=lambda spool: spool.moved_at, default=None)
            if slowest is None or self.clock() - slowest.moved_at < PATIENCE_S:
                return False
            del self._full[slowest]
        slowest.close()
        self._cut.append(slowest.hang_up)
        self._notifier.notify()
        return True

    def relieve(self) -> None:
        """Cut the slowest client, if threads are short."""
        if self.short():
            self.cut_slowest()

    def _hang_up(self) -> None:
        while self._cut:
            self._cut.popleft()()
            self._on_cut()

    def close(self) -> None:
        """Cut nobody any more."""
        self._notifier.close()


class Spool:
    """What one answer has waiting. One thread puts, the loop's thread takes.

    :param spools: what all spools share.
    :param on_data: called when there is something to take; from any thread.
    :param on_full: called in the thread that puts, before it waits.
    :param hang_up: ends the connection of the client; called on the loop's thread.
    :ivar doubtful: whether the client may be gone: its thread then learns first what came of each piece.
    :ivar moved_at: when the client took something last.
    :ivar hang_up: the same.
    """

    def __init__(self, spools: Spools, *, on_data: Callable[[], None], on_full: Callable[[], object],
                 hang_up: Callable[[], None]) -> None:
        self._spools, self._on_data, self._on_full, self.hang_up = spools, on_data, on_full, hang_up
        self.doubtful = False
        self.moved_at = spools.clock()
        self._changed = threading.Condition()
        self._memory = bytearray()  # comes before what is in the file
        self._closed = self._broken = self._refilling = self._drained = False
        # Changed only with the lock of the file and that of the condition, in this order.
        self._file: Any = None
        self._read = self._written = self._taken = 0
        self._file_lock = threading.Lock()

    @property
    def pending(self) -> bool:
        """Whether something waits: in memory, or in the file."""
        return bool(self._memory) or self._written > self._read

    # -- in the thread ---------------------------------------------------------------------------------------

    def put(self, data: bytes) -> bool:
        """Add to what waits; wait for room, if there is none.

        :param data: the bytes.
        :return: false if nobody wants them any more.
        """
        view = memoryview(data)
        return all(self._put(view[start:start + PIECE]) for start in range(0, len(view), PIECE))

    def put_file(self, file: Any, start: int, end: int) -> None:
        """Have a file wait, after which nothing else comes. It is read as the client takes it.

        :param file: an unbuffered file, which is the spool's from now on.
        :param start: where to begin (bytes).
        :param end: where to end (bytes).
        """
        with self._file_lock, self._changed:
            self._file, self._read, self._written = file, start, end
        self._tidy()
        self._on_data()

    def _put(self, piece: memoryview) -> bool:
        self._drained = False
        if self._to_memory(piece) or self._to_file(piece):
            if self.doubtful:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._drained, PATIENCE_S)
            return not self._closed
        self._on_full()
        self._spools.note(self, full=True)
        try:
            while not self._closed and not self._to_memory(piece):
                with self._changed:
                    if not self._closed and not self._has_room():
                        self._changed.wait(PATIENCE_S)
                self._spools.relieve()
        finally:
            self._spools.note(self, full=False)
        return not self._closed

    def _has_room(self) -> bool:
        return self._written == self._read and len(self._memory) < MEMORY

    def _to_memory(self, piece: memoryview) -> bool:
        with self._changed:
            if self._closed or not self._has_room():
                return False
            news = not self._memory
            self._memory += piece
        if news:  # else the loop finds it when it comes back for more
            self._on_data()
        return True

    def _to_file(self, piece: memoryview) -> bool:
        """Append to the file; return false if that may not be, or the system has no room for it."""
        size = len(piece)
        if self._broken or self._written + size > self._spools.one_may_have or not self._spools.room.take(size):
            return False
        with self._file_lock:
            self._taken += size
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it is closed by _tidy)
                self._file.seek(self._written)
                written = 0
                while written < size:
                    written += self._file.write(piece[written:])
            except OSError as error:
                logger.warning("an answer cannot wait in a temporary file: %s", error)
                self._broken = True
            else:
                with self._changed:
                    news = not self.pending
                    self._written += size
                if news:
                    self._on_data()
        self._tidy()
        return not self._broken

    # -- on the loop -----------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Take the next bytes.

        :return: at most 64 KiB; nothing if nothing waits, or has still to be read from the file.
        """
        with self._changed:
            data = bytes(self._memory[:PIECE])
            del self._memory[:PIECE]
            refill = self._written > self._read and len(self._memory) < PIECE and not self._refilling
            if refill:
                self._refilling = True
            if self._has_room():
                self._changed.notify()
        if data:
            self.moved_at = self._spools.clock()
        if refill:
            try:
                self._spools.files.submit(Job(self._refill))
            except Overloaded:
                self._refill()
        return data

    def drained(self) -> None:
        """Note that the client has taken all that waited."""
        if self.doubtful:
            with self._changed:
                self._drained = not self.pending
                self._changed.notify()

    def close(self) -> None:
        """Let nothing wait any more, and have the thread that puts learn so. May be called from any thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._tidy()

    # -- in a thread that reads files ------------------------------------------------------------------------

    def _refill(self) -> None:
        """Move a part of the file to memory."""
        with self._file_lock:
            data = b""
            if self._file is not None:
                try:
                    self._file.seek(self._read)
                    data = self._file.read(min(MEMORY, self._written - self._read))
                except OSError:
                    logger.exception("what waits for a client cannot be read")
            with self._changed:
                self._memory += data
                self._read += len(data)
                self._refilling = False
                if not data:  # the file is shorter than it was, or closed: the client sees that the answer breaks off
                    self._read = self._written
                if self._read >= self._written:
                    self._empty_file()
                if self._has_room():
                    self._changed.notify()
        self._tidy()
        self._on_data()

    def _empty_file(self) -> None:
        if self._taken and self._file is not None:
            self._file.seek(0)
            self._file.truncate()
        self._spools.room.give_back(self._taken)
        self._read = self._written = self._taken = 0

    def _tidy(self) -> None:
        """Close the file once nothing may wait any more. A thread that holds its lock then does so afterwards."""
        if self._closed and self._file_lock.acquire(blocking=False):
            try:
                if self._file is not None:
                    self._file.close()
                    self._file = None
                self._spools.room.give_back(self._taken)
                self._taken = 0
            finally:
                self._file_lock.release()
