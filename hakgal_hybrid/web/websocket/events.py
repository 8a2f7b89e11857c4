"""EventsWebSocket: the WebSocket of a stream. Pure: it has no socket.

Down goes what a stream with envelopes carries, a text frame each, and the answers to what the client sends.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext

from wsproto.frame_protocol import CloseReason

from ...broker.engineio.packets import Framing
from ...broker.interval import BatchReader, interval_of
from ...broker.states import StreamEnd, StreamState
from ...broker.stream import SubscriberStream
from ...broker.timers import TimerQueue
from ...broker.websocket import Handshake, WebSocket
from ...commands.inbox import Inbox
from ...commands.node import Node

#: How many answers may wait to be sent before the next command is carried out.
MAX_ANSWERS = 8
#: How long the commands of a client that has gone may take, before its stream ends (seconds).
LAST_S = 1.0

clock = time.monotonic


class Sharing:
    """What all WebSockets have in common.

    :param node: the log, the settings, and what is told when a stream ends.
    :param submit: has a function called in a thread; false if it cannot.
    """

    def __init__(self, node: Node, submit: Callable[[Callable[[], object]], bool]) -> None:
        self.node, self.submit, self.timers = node, submit, TimerQueue()


class EventsWebSocket(WebSocket):
    """One WebSocket.

    :param sharing: what all have in common.
    :param stream: the stream that it carries.
    :param answer: carries out a command, in whatever thread; returns the text of the answer.
    :param wake: called, from any thread, when :meth:`take` is to be called.
    """

    __slots__ = ("_answer", "_answers", "_batches", "_busy", "_delivered", "_end", "_ending", "_heartbeat_at",
                 "_inbox", "_sharing", "_stream", "_until", "lock")

    def __init__(self, sharing: Sharing, stream: SubscriberStream, answer: Callable[[str], str],
                 wake: Callable[[], object]) -> None:
        settings = sharing.node.settings
        super().__init__(wake, settings.max_event_bytes)
        self.lock = nullcontext()  # what is sent is asked for by one thread
        self._sharing, self._stream, self._answer = sharing, stream, answer
        self._batches = BatchReader(stream)
        self._inbox = Inbox(sharing.submit, settings.max_event_bytes,
                            lambda: self.over or len(self._answers) < MAX_ANSWERS)
        self._answers: deque[tuple[int, str]] = deque()
        self._busy = False  # a command is being carried out
        self._ending: tuple[CloseReason, StreamEnd] | None = None
        self._end: StreamEnd | None = None
        self._until = float("inf")
        self._delivered, self._heartbeat_at = 0, 0.0
        self._out = stream.opening()

    @property
    def source(self) -> EventsWebSocket:
        """What is sent."""
        return self

    # -- down ------------------------------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return what is to be sent next; nothing if there is nothing."""
        if not self.over:
            self._fill()
        if self._out:
            self._rest(1.0)
        return self._give_out()

    def _fill(self) -> None:
        stream = self._stream
        if self._ending is None and stream.finished is not None:
            self._ending = CloseReason.NORMAL_CLOSURE, stream.finished
        # Looked at before what is still to be sent is: what comes later finds the connection closed.
        ending, busy = self._ending, self._busy
        if not stream.replaced:
            # An answer comes after every event that was emitted before: it does not wait for the interval.
            take = stream.take if ending is not None or self._answers else self._batches.take
            position = -1
            while not self._out and stream.position != position:  # much may be for others
                position, self._out = stream.position, take()
        while self._answers and (stream.replaced or self._answers[0][0] <= stream.position):
            self._out += Framing.WEBSOCKET.packet(self._answers.popleft()[1])
        self._inbox.resume()
        if ending is not None:
            self._until = min(self._until, clock() + self._sharing.node.settings.drain_s)
            if clock() >= self._until or not (self._out or stream.behind or busy or self._answers):
                self._close(ending[0], ending[1].value)
        elif not self._out and clock() >= self._heartbeat_at:
            if stream.delivered == self._delivered:
                self._out = stream.heartbeat()
            else:  # it has shared events with others meanwhile
                self._rest(0.5)

    def _rest(self, part: float) -> None:
        """Note that something was sent: the next heartbeat is due after a part of its interval."""
        self._delivered = self._stream.delivered
        self._heartbeat_at = clock() + part * self._sharing.node.settings.heartbeat_s

    def _close(self, code: CloseReason, reason: str | None = None) -> None:
        if not self.over and reason == StreamEnd.STOPPED and not self._stream.replaced:
            self._out += self._stream.bye()
        super()._close(code, reason)

    @property
    def wait_s(self) -> float | None:
        """How long :meth:`take` need not be called, if nobody wakes it (seconds); ``None`` for ever."""
        if self.over:
            return None
        wait_s = min(self._heartbeat_at, self._until) - clock()
        return max(0.0, min(wait_s, self._batches.rest_s or wait_s) if self._stream.behind else wait_s)

    def shareable(self, framing: Framing) -> SubscriberStream | None:
        """Return the stream, if its events are all that is sent next.

        :param framing: how packets are carried.
        """
        alone = self._ending is not None or self._answers or interval_of(self._stream) or self.over
        return None if alone or framing is not Framing.WEBSOCKET else self._stream

    # -- up --------------------------------------------------------------------------------------------------

    def _take_message(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._close(CloseReason.UNSUPPORTED_DATA, StreamEnd.CHATTER.value)
            self.lost(StreamEnd.CHATTER)
        else:
            self._inbox.put(lambda: self._carry_out(message), len(message))

    def _when_room(self, call: Callable[[], object]) -> None:
        self._inbox.when_room(call)

    def _carry_out(self, message: str) -> None:
        self._busy = True
        try:
            if self._ending is None and self._stream.state is not StreamState.ENDED:
                answer = self._answer(message)
                self._answers.append((self._sharing.node.hub.broker.settled(), answer))
        except BaseException:
            self._ending = CloseReason.INTERNAL_ERROR, StreamEnd.FAILED
            raise
        finally:
            self._busy = False
            self._wake()

    # -- the end ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Close, because the server stops. May be called repeatedly."""
        if self._ending is None:
            self._ending = CloseReason.GOING_AWAY, StreamEnd.STOPPED

    def lost(self, end: StreamEnd = StreamEnd.GONE) -> None:
        """Note that the connection is gone, or must not be used any more. May be called repeatedly.

        :param end: why.
        """
        self.over, self._message = True, None
        if self._end is None:
            self._end = end if self._ending is None else self._ending[1]
            if self._stream.group is None:  # else its writer has it leave the others first
                self.left()

    def left(self) -> None:
        """Note that its stream shares events with no other any more."""
        if self._end is None:
            return
        calls = [lambda: self._sharing.node.lifecycle.stream_ended(self._stream, self._end or StreamEnd.GONE)]

        def end_once() -> None:
            if calls:
                calls.pop()()

        if self._end is StreamEnd.GONE and not self._inbox.idle:  # its last commands are still carried out
            self._inbox.put(end_once)
            self._inbox.resume()
            self._sharing.timers.call_later(LAST_S, end_once)
        else:
            end_once()


class EventsHandshake(Handshake):
    """A WebSocket whose handshake is being answered.

    :param sharing: what all have in common.
    :param stream: the stream that it carries.
    :param answer: carries out a command; returns the text of the answer.
    """

    def __init__(self, sharing: Sharing, stream: SubscriberStream, answer: Callable[[str], str]) -> None:
        self._sharing, self._stream, self._answer = sharing, stream, answer

    def _begin(self, wake: Callable[[], object]) -> EventsWebSocket:
        return EventsWebSocket(self._sharing, self._stream, self._answer, wake)

    def refused(self, end: StreamEnd = StreamEnd.GONE) -> None:
        """Note that there will be no WebSocket.

        :param end: why.
        """
        self._sharing.node.lifecycle.stream_ended(self._stream, end)
