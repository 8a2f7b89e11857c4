"""The writer of a WebSocket: a thread of its own, so that a client that does not read holds up nothing else.

Frames of one connection are composed by two threads without a lock: by flask-sock's own, which reads (pongs, the reply
to a close), and by this one (all else). wsproto shares nothing between the two but the connection's state, as long as
no extension is negotiated; and :class:`~.channel.Channel` sends each frame as a whole.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from typing import Any

from simple_websocket import ConnectionClosed  # type: ignore[import-untyped]
from wsproto.utilities import LocalProtocolError

from ...broker.interval import BatchReader
from ...broker.sse import Decoder
from ...broker.states import StreamEnd
from ...broker.stream import SubscriberStream
from ...broker.wakeups import make_wakeup
from ...logs import get_logger
from ..services import Services
from .channel import CLOSE_TIMEOUT_S, Channel, Inbox, clock

logger = get_logger(__name__)

#: How many answers may wait to be sent before the next command is carried out.
MAX_ANSWERS = 8

#: Close codes (RFC 6455, section 7.4.1).
NORMAL, GOING_AWAY, NOT_TEXT, TOO_BIG, FAILED = 1000, 1001, 1003, 1009, 1011

#: What sending raises once the connection has ended.
_GONE = (OSError, ConnectionClosed, LocalProtocolError)


class Writer:
    """Writes the events of a stream, and the answers to commands, to one WebSocket, in a thread of its own.

    :param services: has the log, and says when the server stops.
    :param feed: the stream.
    :param ws: flask-sock's connection, over ``channel``.
    :param channel: stands in for the connection's socket.
    :param inbox: what has come and waits to be carried out.
    """

    def __init__(self, services: Services, feed: SubscriberStream, ws: Any, channel: Channel,
                 inbox: Inbox) -> None:
        self._services, self._feed, self._ws, self._channel, self._inbox = services, feed, ws, channel, inbox
        self._decoder, self._batches = Decoder(), BatchReader(feed)
        self._news = make_wakeup()
        self._answers: deque[tuple[int, str]] = deque()
        self._free_answers = threading.Semaphore(MAX_ANSWERS)
        self._over = False
        self._refusal: tuple[int, str] | None = None
        self._heartbeat_at = 0.0
        self._thread = threading.Thread(target=self._run, name="hakgal-hybrid-websocket-writer", daemon=True)

    # -- called by other threads -----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join()

    def answer(self, text: str) -> None:
        """Send the answer to a command, after every event that was emitted before.

        Waits if too many answers are waiting to be sent: a client that sends commands must also read.

        :param text: the frame.
        """
        self._free_answers.acquire()
        if self._over:
            self._free_answers.release()
        else:
            self._answers.append((self._services.node.log.newest, text))
        self._inbox.done()
        self._news.set()

    def refuse(self, code: int, reason: str) -> None:
        """End the connection because of what the client did, or what that led to.

        :param code: the close code.
        :param reason: why the stream ends, as it is counted.
        """
        self._refusal = code, reason
        self._inbox.done()
        self._news.set()

    def hung_up(self) -> None:
        """Nothing more will come from the client."""
        self._inbox.finish()
        self._news.set()

    # -- writing ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        remove_waker = self._services.node.hub.broker.add_waker(self._news.set)
        reason = "failed"
        try:
            reason = self._write()
        except _GONE:
            reason = self._channel.fault or self._why_ended()
        except Exception:
            logger.exception("a WebSocket failed and is closed")
        finally:
            remove_waker()
            self._over = True
            self._free_answers.release()
            if not self._channel.ended.is_set():  # else the client is being given time to read
                self._channel.cut()
            if reason == "gone":  # its last commands are still carried out
                self._inbox.finish()
                self._inbox.drained(CLOSE_TIMEOUT_S)
            else:
                self._inbox.close()
            self._services.node.lifecycle.stream_ended(self._feed, StreamEnd.of(reason))

    def _write(self) -> str:
        """Write until either side ends it; return why."""
        feed = self._feed
        self._send(feed.opening())
        while not self._channel.ended.is_set():
            self._news.clear()
            # Looked at before what is still to be sent is: what comes later finds the connection closed.
            ending, busy = self._ending(), self._inbox.busy
            if not feed.replaced:
                # An answer comes after every event that was emitted before: it does not wait for the interval.
                self._send(feed.take() if ending is not None or self._answers else self._batches.take())
            self._send_answers()
            if ending is not None:
                self._channel.hurry()
                if clock() > self._channel.until or not (feed.behind or busy):
                    return self._close(*ending)
            rest_s = self._batches.rest_s
            if not feed.behind or rest_s:
                self._idle(rest_s)
        return self._why_ended()

    def _ending(self) -> tuple[int, str] | None:
        """Return close code and reason if the connection shall end."""
        if self._refusal is not None:
            return self._refusal
        if self._feed.finished:
            return NORMAL, self._feed.finished
        return (GOING_AWAY, "stopped") if self._services.node.stopping else None

    def _close(self, code: int, reason: str) -> str:
        self._inbox.close()
        with contextlib.suppress(*_GONE):
            if code == GOING_AWAY:
                self._send(self._feed.bye())
            self._ws.close(code, reason)
        self._channel.ended.wait(min(CLOSE_TIMEOUT_S, max(0.0, self._channel.until - clock())))
        return reason

    def _why_ended(self) -> str:
        too_big = self._ws.incoming_message_len > self._ws.max_message_size
        return "chatter" if too_big else "gone"

    def _idle(self, rest_s: float) -> None:
        """Wait for news; if there are none for long enough, send a heartbeat.

        :param rest_s: after how long the next batch may be sent; 0 if it is not waited for (seconds).
        """
        wait_s = min(self._heartbeat_at, self._channel.until) - clock()
        wait_s = min(wait_s, rest_s or wait_s)
        if self._news.wait(max(0.0, wait_s)) or clock() < self._heartbeat_at:
            return
        self._rest()
        if not self._feed.replaced:
            self._send(self._feed.heartbeat())

    def _rest(self) -> None:
        self._heartbeat_at = clock() + self._services.node.settings.heartbeat_s

    def _send(self, data: bytes) -> None:
        """Send what a stream with envelopes would carry: each message's data is one text frame."""
        for message in self._decoder.feed(data):
            self._ws.send(message.data)
            self._rest()

    def _send_answers(self) -> None:
        while self._answers and (self._feed.replaced or self._answers[0][0] <= self._feed.position):
            self._ws.send(self._answers.popleft()[1])
            self._free_answers.release()
            self._rest()
