"""The bus: blinker signals, all in one namespace. Sender is always the real Flask app.

Receivers run in the thread that causes the signal, one after the other. A receiver that raises is logged and counted,
and the others still run. A slow receiver delays only its own emitter, and is named in a warning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import blinker

from .logs import get_logger

logger = get_logger(__name__)

namespace = blinker.Namespace()


def _named(name: str, doc: str) -> blinker.NamedSignal:
    return namespace.signal(name, doc)


event_emitted = _named("event-emitted", """An event got its id. Keywords: ``event``
(:class:`~hakgal_hybrid.broker.event.Event`), ``event_id``; with a backplane ``here``, true if this process has emitted
it.""")
command_received = _named("command-received", """A command was accepted. Keyword: ``command``.""")
command_finished = _named("command-finished", """A command ended. Keyword: ``command``.""")
client_connected = _named("client-connected", """A client has connected. Keyword: ``client``.""")
client_gone = _named("client-gone", """A client is gone for good. Keywords: ``client``, ``reason``.""")
client_lagged = _named("client-lagged", """A client got a gap. Keywords: ``client``, ``gap``.""")
transport_degraded = _named("transport-degraded", """A bound was hit and a request was turned away, or events cannot
be kept. Keyword: ``reason``, the code of the problem.""")
backplane_changed = _named("backplane-changed", """It stands otherwise with the backplane. Keywords: ``state``,
``live``, ``error`` (``None`` if nothing is wrong), as in the status.""")
events_lost = _named("events-lost", """Events of a backplane are lost. Keywords: ``count`` (``None`` if that is not
known), ``reason``, ``emitter``.""")


def connect(signal: blinker.Signal, forward: Callable[[object, dict[str, Any]], object]) -> Callable[[], None]:
    """Have a function called whenever a signal is sent, for as long as it is wanted.

    :param signal: the signal.
    :param forward: the function; it gets the sender and the signal's keywords.
    :return: a function that ends it.
    """
    def receive(sender: object, **values: Any) -> None:
        forward(sender, values)

    signal.connect(receive, weak=False)
    return lambda: signal.disconnect(receive)


class Announcer:
    """Sends signals for one app so that no receiver can break the sender.

    :param sender: the app.
    :param slow_s: a receiver that takes longer than this many seconds is named in a warning.
    :ivar errors: how many times a receiver raised.
    :ivar slow: how many times a receiver took too long.
    """

    def __init__(self, sender: object, *, slow_s: float = 0.1) -> None:
        self._slow_s = slow_s
        self.errors = 0
        self.slow = 0
        self._sender = sender
        self.forked()

    def forked(self) -> None:
        """Begin with a lock that is free: in a child, a thread that is gone may have held the one before."""
        self._lock = threading.RLock()  # a signal handler may emit while its thread is in here

    def announce(self, signal: blinker.NamedSignal, **values: Any) -> None:
        """Call every receiver of a signal; log and count those that raise or take too long.

        :param signal: the signal.
        :param values: its keywords.
        """
        if not signal.receivers or signal.is_muted:
            return
        for receiver in signal.receivers_for(self._sender):
            started = time.perf_counter()
            try:
                receiver(self._sender, **values)
            except Exception:
                self._count("errors")
                logger.exception("receiver %r of signal %r raised", receiver, signal.name)
            spent = time.perf_counter() - started
            if spent > self._slow_s:
                self._count("slow")
                logger.warning("receiver %r of signal %r took %.0f ms; its emitter waited for it",
                               receiver, signal.name, spent * 1000)

    def forward(self, signal: blinker.Signal, emit: Callable[[dict[str, Any]], object], values: dict[str, Any]) -> None:
        """Call a function with what a signal was sent with; log and count what it raises.

        The signal's sender did not ask for an event.

        :param signal: the signal.
        :param emit: the function.
        :param values: the signal's keywords.
        """
        try:
            emit(values)
        except Exception:
            self._count("errors")
            logger.exception("signal %r could not be bridged", getattr(signal, "name", signal))

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)
