"""Polling: the requests of a session of Engine.IO. One may wait for packets while another one brings some. Pure."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from ..states import EngineState
from .heartbeat import Heartbeat
from .packets import Framing, PacketType, body_of
from .refusals import Refusal, RefusalCode

#: How long a poll that comes while the client changes over to a WebSocket waits for packets (seconds), before it is
#: answered with nothing.
UPGRADING_S = 0.1
#: The same for the first of these polls, if the client had polled before the change.
SOON_S = 0.005
#: The states in which packets go out with the answers to polls. Until the client has changed over, only these do.
_POLLED = (EngineState.POLLING, EngineState.UPGRADING)


class PolledSession(Protocol):
    """The session that the requests are for, as they know it."""

    lock: threading.RLock
    state: EngineState
    heartbeat: Heartbeat

    @property
    def over(self) -> bool:
        """True once nothing more is taken from the client."""

    def blocks(self, framing: Framing) -> bytes:
        """Return what is to be sent next.

        :param framing: how packets are carried.
        """

    def fail(self, reason: str) -> None:
        """End the session for the client's fault.

        :param reason: why.
        """

    def end(self) -> None:
        """Note that the last packet was fetched."""


class Poll:
    """One request that waits for packets.

    :param wake: called, from any thread, when :meth:`Polling.take` is to be called.
    :param until: the clock's reading until which it waits for packets while the client changes over.
    """

    __slots__ = ("until", "wake")

    def __init__(self, wake: Callable[[], object], until: float) -> None:
        self.wake, self.until = wake, until


class Polling:
    """What belongs to the requests of one session.

    :param session: the session.
    :param clock: monotonic seconds.
    :ivar farewell: the last packet, for a poll that is or will be waiting. A client that is to connect again is sent no
        close packet, after which python-socketio never does: its next poll is refused.
    :ivar posting: true while a request that brings packets has not been answered.
    :ivar offered: true if the client may change over to a WebSocket.
    """

    __slots__ = ("_began_at", "_clock", "_poll", "_session", "_upgrading_s", "farewell", "offered", "posting")

    def __init__(self, session: PolledSession, clock: Callable[[], float]) -> None:
        self._session, self._clock = session, clock
        self._poll: Poll | None = None
        self.posting = self.offered = False
        self._began_at, self.farewell = clock(), PacketType.CLOSE
        self._upgrading_s = UPGRADING_S

    @property
    def upgradable_s(self) -> float:
        """For how long the client could have changed over to a WebSocket, and has not (seconds)."""
        return self._clock() - self._began_at if self.offered and self._session.state is EngineState.POLLING else 0.0

    @property
    def waiting(self) -> bool:
        """True while a request waits for packets."""
        return self._poll is not None

    def wake(self) -> None:
        """Wake the request that waits for packets."""
        poll = self._poll
        if poll is not None:
            poll.wake()

    def begin_poll(self, wake: Callable[[], object]) -> Poll:
        """Begin to wait for packets in a request.

        :param wake: called, from any thread, when :meth:`take` is to be called.
        :return: the poll, which is over when :meth:`take` has returned something or raised.
        :raises Refusal: if the session is over or on a WebSocket; and for a second poll, which ends the session.
        """
        session = self._session
        with session.lock:
            self._check()
            if self._poll is not None:
                session.fail("transport error")
                raise Refusal(RefusalCode.BAD_REQUEST)
            self._poll = Poll(wake, self._until())
            return self._poll

    def _until(self) -> float:
        """Return until when a poll that comes now waits for packets while the client changes over.

        A client that polls all the time does not change over before its poll is answered: that is done soon. It polls
        again if it has not seen the answer to its probe by then: that is done later each time. Another client may have
        changed over already.
        """
        now = self._clock()
        if self._session.state is not EngineState.UPGRADING:
            self._upgrading_s = SOON_S
            return now
        until = now + self._upgrading_s
        self._upgrading_s = min(2 * self._upgrading_s, UPGRADING_S)
        return until

    def take(self, poll: Poll) -> bytes | None:
        """Return the body of the answer to a poll.

        :param poll: the poll.
        :return: the body; ``None`` while there is nothing.
        :raises Refusal: if there will be nothing: the session is over, or has changed over to its WebSocket.
        """
        with self._session.lock:
            try:
                body = self._body(poll)
            except BaseException:
                self._poll = None
                raise
            if body:
                self._poll = None
            return body or None

    def give(self, poll: Poll, blocks: bytes) -> bytes | None:
        """Answer a poll with events that were read once for many sessions.

        :param poll: the poll.
        :param blocks: the events, in polling.
        :return: the body of the answer; ``None`` if these cannot be its answer.
        """
        session = self._session
        with session.lock:
            if self._poll is not poll or session.state is not EngineState.POLLING:
                return None
            self._poll = None
            return body_of(blocks)

    def _body(self, poll: Poll) -> bytes:
        session = self._session
        blocks = session.blocks(Framing.POLLING) if session.state in _POLLED else b""
        if session.state is EngineState.CLOSING:  # perhaps just now, because events were lost
            session.end()
            return self.farewell.value.encode()
        if session.state not in _POLLED:
            raise Refusal(RefusalCode.UNKNOWN_SID if session.over else RefusalCode.BAD_REQUEST)
        if not blocks and session.state is EngineState.UPGRADING and self._clock() >= poll.until:
            return PacketType.NOOP.value.encode()
        return body_of(blocks)

    def wait_s(self, poll: Poll) -> float | None:
        """Return how long a poll may wait to be woken, in seconds; ``None`` for as long as it takes.

        :param poll: the poll.
        """
        upgrading = self._session.state is EngineState.UPGRADING
        return max(0.0, poll.until - self._clock()) if upgrading else None

    def abandon(self, poll: Poll) -> None:
        """Give up a poll whose client is gone: packets are not asked for twice, so the session is over.

        :param poll: the poll; nothing happens if it was answered.
        """
        with self._session.lock:
            if self._poll is poll:
                self._poll = None
                self._session.fail("transport close")

    def begin_post(self) -> None:
        """Begin to take packets from a request's body.

        :raises Refusal: if the session is over or on a WebSocket; and for a second request at once, which ends it.
        """
        session = self._session
        with session.lock:
            self._check()
            if session.over:
                raise Refusal(RefusalCode.UNKNOWN_SID)
            if self.posting:
                session.fail("transport error")
                raise Refusal(RefusalCode.BAD_REQUEST)
            self.posting = True

    def end_post(self) -> None:
        """Note that a request that brought packets was answered. Its client is alive."""
        session = self._session
        with session.lock:
            self.posting = False
            if session.state is EngineState.POLLING:
                session.heartbeat.alive()

    def _check(self) -> None:
        """Refuse a request that cannot be served.

        :raises Refusal: if the session has ended, or has changed over to its WebSocket; that goes on.
        """
        if self._session.state is EngineState.ENDED:
            raise Refusal(RefusalCode.UNKNOWN_SID)
        if self._session.state is EngineState.WEBSOCKET:
            raise Refusal(RefusalCode.BAD_REQUEST)
