"""EngineCounters: what is counted about sessions of Engine.IO, and how many there are."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...logs import get_logger
from ..forks import fork_aware
from ..states import EngineState
from .session import EngineSession

logger = get_logger(__name__)

#: A client that may change over to a WebSocket and has not after this time (seconds) does not, or cannot.
UPGRADE_EXPECTED_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineStatistics:
    """The sessions of clients of Socket.IO, at one moment, and what was counted.

    :ivar polling: sessions that poll; ``websocket``: sessions on a WebSocket.
    :ivar polls: requests that wait for packets.
    :ivar not_upgraded: sessions that have been polling for 30 s, though they may change over to a WebSocket.
    :ivar opened: sessions that were opened.
    :ivar gaps: sessions that were closed because their client was too slow for the log.
    :ivar oversized: bodies and messages that were larger than ``max_http_buffer_size``.
    :ivar delayed: how often what a client sends had to wait, because it came too fast.
    :ivar recoveries: clients that asked to come back: as who they were (``recovered``), as new ones with what followed
        a restart (``replayed``), as new ones (``failed``).
    :ivar ended: sessions that have ended, by the reason that ``disconnect`` handlers know.
    :ivar refused: requests that were refused, by why.
    """

    polling: int
    websocket: int
    polls: int
    not_upgraded: int
    opened: int
    gaps: int
    oversized: int
    delayed: int
    recoveries: dict[str, int]
    ended: dict[str, int]
    refused: dict[str, int]


class EngineCounters:
    """Counts. Any thread may use it.

    :ivar sessions: returns the sessions that there are.
    """

    def __init__(self) -> None:
        self.sessions: Callable[[], Iterable[EngineSession]] = tuple
        self._numbers: Counter[str] = Counter()
        self._recoveries = dict.fromkeys(("recovered", "replayed", "failed"), 0)
        self._ended: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self.forked()
        fork_aware(self)

    def forked(self) -> None:
        """Begin with a lock that is free."""
        self._lock = threading.RLock()  # a finalizer may count while it is held

    def count(self, what: str) -> int:
        """Count one more.

        :param what: ``opened``, ``gaps``, ``oversized`` or ``delayed``.
        :return: how many that makes.
        """
        with self._lock:
            self._numbers[what] += 1
            return self._numbers[what]

    def recovery(self, outcome: str) -> None:
        """Count a client that asks to come back.

        :param outcome: ``recovered``, ``replayed`` or ``failed``.
        """
        with self._lock:
            self._recoveries[outcome] += 1

    def oversized(self, address: str, size: int, limit: int) -> None:
        """Count a body or message that is too large. The first one is logged: one that is sent again and again says no
        more.

        :param address: of whom it is.
        :param size: how large it is, at least, in bytes.
        :param limit: how large it may be, in bytes.
        """
        if self.count("oversized") == 1:
            logger.warning("a client of Socket.IO at %s has sent %d bytes, of %d at most (max_http_buffer_size); the "
                           "next ones are counted only", address, size, limit)

    def ended(self, reason: str) -> None:
        """Count a session that has ended.

        :param reason: why.
        """
        with self._lock:
            self._ended[reason] += 1

    def refused(self, why: str) -> None:
        """Count a request that was refused.

        :param why: the code of the problem, or the name of Engine.IO's.
        """
        with self._lock:
            self._refused[why] += 1

    def snapshot(self) -> EngineStatistics:
        """Return what was counted so far, and what there is now."""
        states: Counter[EngineState] = Counter()
        polls = not_upgraded = 0
        for session in self.sessions():
            states[session.state] += 1
            if session.state is not EngineState.WEBSOCKET:
                polls += session.polling.waiting
                not_upgraded += session.polling.upgradable_s >= UPGRADE_EXPECTED_S
        with self._lock:
            numbers = self._numbers
            return EngineStatistics(
                polling=states[EngineState.POLLING] + states[EngineState.UPGRADING],
                websocket=states[EngineState.WEBSOCKET], polls=polls, not_upgraded=not_upgraded,
                opened=numbers["opened"], gaps=numbers["gaps"], oversized=numbers["oversized"],
                delayed=numbers["delayed"], recoveries=dict(self._recoveries), ended=dict(sorted(self._ended.items())),
                refused=dict(sorted(self._refused.items())))
