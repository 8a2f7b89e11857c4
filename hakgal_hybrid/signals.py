"""The bus: blinker signals, all in one namespace. Sender is always the real Flask app.

Receivers run in the thread that causes the signal, one after the other. One that raises is logged and counted and
stops nobody; one that is slow delays only its own emitter, and is named in a warning.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import blinker

from .logs import get_logger

logger = get_logger(__name__)

#: A receiver that takes longer than this (seconds) is warned about.
SLOW_RECEIVER_S = 0.1

namespace = blinker.Namespace()


def _named(name: str, doc: str) -> blinker.NamedSignal:
    return namespace.signal(name, doc)


event_emitted = _named("event-emitted", """An event got its id. Keywords: ``event``
(:class:`~hakgal_hybrid.broker.event.Event`), ``event_id``.""")
command_received = _named("command-received", """A command was accepted. Keyword: ``command``.""")
command_finished = _named("command-finished", """A command ended. Keyword: ``command``.""")
client_connected = _named("client-connected", """A client has connected. Keyword: ``client``.""")
client_gone = _named("client-gone", """A client is gone for good. Keywords: ``client``, ``reason``.""")
client_lagged = _named("client-lagged", """A client was told of a gap. Keywords: ``client``, ``gap``.""")
transport_degraded = _named("transport-degraded", """A bound was hit and a request was turned away, or events cannot
be kept. Keyword: ``reason``, the code of the problem.""")


class Announcer:
    """Sends signals for one app so that no receiver can break the sender.

    :ivar errors: how many times a receiver raised.
    :ivar slow: how many times one took longer than :data:`SLOW_RECEIVER_S`.
    """

    def __init__(self, sender: object) -> None:
        self.errors = 0
        self.slow = 0
        self._sender = sender
        self._lock = threading.RLock()  # a signal handler may emit while its thread is in here

    def announce(self, signal: blinker.NamedSignal, **values: Any) -> None:
        """Call every receiver of ``signal``; log and count those that raise or dawdle."""
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
            if spent > SLOW_RECEIVER_S:
                self._count("slow")
                logger.warning("receiver %r of signal %r took %.0f ms; its emitter waited for it",
                               receiver, signal.name, spent * 1000)

    def bridge(self, signal: blinker.Signal, emit: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
        """Call ``emit`` with the keywords of every sending of ``signal``; return a function that ends it.

        A payload that cannot be sent is logged and counted: the signal's sender did not ask for an event.
        """
        def forward(sender: object, **values: Any) -> None:
            try:
                emit(values)
            except Exception:
                self._count("errors")
                logger.exception("signal %r could not be bridged", getattr(signal, "name", signal))

        signal.connect(forward, weak=False)
        return lambda: signal.disconnect(forward)

    def _count(self, name: str) -> None:
        with self._lock:
            setattr(self, name, getattr(self, name) + 1)
