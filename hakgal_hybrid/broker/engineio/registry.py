"""EngineRegistry: the sessions of Engine.IO by their id, and their clock."""

from __future__ import annotations

from collections.abc import Callable

from ..broker import process_of
from ..states import EngineState
from ..timers import TimerQueue, TimerWheel
from .refusals import Refusal, RefusalCode
from .session import EngineSession

#: How often a session is looked after, at least (seconds): what is due may have become due sooner than it was.
ROUND_S = 5.0
#: How much later than it is due something may be done (seconds).
TICK_S = 0.02

_ELSEWHERE = ("Session ID unknown: another process has this session; have the proxy send each client to the same "
              "process (sticky sessions)")


class EngineRegistry:
    """All sessions that have not ended.

    :param timers: has them looked after.
    :param process: returns the name of this process, with which its ids begin; empty if there are no others.
    """

    def __init__(self, timers: TimerQueue, process: Callable[[], str] = str) -> None:
        self._process = process
        self._wheel: TimerWheel[EngineSession] = TimerWheel(timers, TICK_S, self._look_after)
        self._sessions: dict[str, EngineSession] = {}

    def __len__(self) -> int:
        """Return how many sessions there are, with those that have ended just now."""
        return len(self._sessions)

    def add(self, session: EngineSession) -> None:
        """Add a new session, and look after it until it has ended.

        :param session: the session.
        """
        self._sessions[session.sid] = session
        self._look_after(session)

    def find(self, sid: str) -> EngineSession:
        """Return a session by its id.

        :param sid: the id.
        :return: the session.
        :raises Refusal: if there is none; it says so if that is because another process has it.
        """
        session = self._sessions.get(sid)
        if session is None or session.tick() is None:  # its time may be over just now
            here = self._process()
            elsewhere = here and process_of(sid) not in ("", here)
            raise Refusal(RefusalCode.UNKNOWN_SID, _ELSEWHERE if elsewhere else "")
        return session

    def get(self, sid: str) -> EngineSession | None:
        """Return a session by its id, or ``None``.

        :param sid: the id.
        """
        return self._sessions.get(sid)

    def all(self) -> list[EngineSession]:
        """Return all of them."""
        return list(self._sessions.values())

    def stop(self) -> None:
        """End those that poll, because the server stops. A WebSocket is closed, with that reason, by what writes it."""
        for session in self.all():
            if session.state is not EngineState.WEBSOCKET:
                session.close("transport close")

    def _look_after(self, session: EngineSession) -> None:
        wait = session.tick()
        if wait is None:
            self._sessions.pop(session.sid, None)
        else:
            self._wheel.call_later(min(wait, ROUND_S), session)
