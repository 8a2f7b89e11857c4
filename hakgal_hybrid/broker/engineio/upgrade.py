"""Upgrade: how the client of a session of Engine.IO changes over from polling to a WebSocket. Pure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ..states import EngineEvent, EngineState, after
from .heartbeat import Heartbeat

#: How long a client may take from probing a WebSocket to changing over to it (seconds).
UPGRADE_S = 10.0


class UpgradedSession(Protocol):
    """The session whose client changes over."""

    lock: threading.RLock
    state: EngineState
    heartbeat: Heartbeat
    wake: Callable[[], object]

    def notify(self) -> None:
        """Have whatever carries the session look."""


class Upgrade:
    """The WebSocket that the client of one session has opened to change over to it.

    :param session: the session.
    """

    __slots__ = ("_opened", "_session")

    def __init__(self, session: UpgradedSession) -> None:
        self._session, self._opened = session, False

    def open(self) -> bool:
        """Note that the client has opened a WebSocket.

        :return: false if that must be closed: there is one already, or the session is over.
        """
        with self._session.lock:
            if self._opened or self._session.state is not EngineState.POLLING:
                return False
            self._opened = True
            return True

    def probe(self) -> bool:
        """Note that the client has probed it. No poll hangs from now on.

        :return: false if it must be closed: the session is over.
        """
        session = self._session
        with session.lock:
            if session.state is not EngineState.POLLING:
                return False
            session.state = after(session.state, EngineEvent.PROBED)
            session.heartbeat.pause(UPGRADE_S)
            session.notify()
            return True

    def complete(self, wake: Callable[[], object]) -> bool:
        """Note that the client has changed over.

        :param wake: becomes the session's attribute of that name.
        :return: false if it took too long for that.
        """
        session = self._session
        with session.lock:
            if session.state is not EngineState.UPGRADING:
                return False
            session.state, session.wake = after(session.state, EngineEvent.UPGRADED), wake
            session.heartbeat.extend()
            session.notify()
            return True

    def expire(self) -> None:
        """Have polling go on: the client has taken too long."""
        session = self._session
        with session.lock:
            if session.state is EngineState.UPGRADING:
                session.state = after(session.state, EngineEvent.UPGRADE_FAILED)
                session.heartbeat.extend()
                session.notify()

    def fail(self) -> None:
        """Note that the WebSocket is gone: polling goes on, and there may be another one."""
        with self._session.lock:
            self._opened = False
            self.expire()
