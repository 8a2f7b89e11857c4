"""Emitter: emits to the clients of an application from a process that serves none: a script, a task of Celery."""

from __future__ import annotations

import atexit
import time
from collections.abc import Hashable, Iterable
from typing import Any

from ...broker.backplane.outbox import Outbox
from ...broker.backplane.payloads import event_payload
from ...broker.backplane.sender import Sender, SenderStatistics
from ...broker.backplane.shared_log import START
from ...broker.event import Event, Target
from ...broker.forks import fork_aware
from ...broker.log import too_large
from ...errors import ConfigurationError, EventError
from ...logs import get_logger
from ...settings import Settings, load_settings
from ...settings.backplane_url import without_secret
from .building import connect_to
from .reporting import BackplaneReport

logger = get_logger(__name__)


class Emitter:
    """Emits to the streams of the processes that have the same backplane. It connects when it has the first event.

    It is thread-safe, and may be made before a fork: each process sends by a connection of its own.

    :param url: where Redis is, as ``HYBRID_BACKPLANE`` says; by default what it says in the environment.
    :param name: the name of the log, as ``HYBRID_BACKPLANE_NAME`` says; by default what it says in the environment. For
        an app that does not set it, it is the app's import name.
    :raises ConfigurationError: if one of them is missing or wrong.
    """

    def __init__(self, url: str | None = None, name: str | None = None) -> None:
        self._settings: Settings = load_settings(backplane=url, backplane_name=name)
        settings = self._settings
        if settings.backplane is None:
            raise ConfigurationError.bad_value("HYBRID_BACKPLANE", url or "",
                                               "redis://HOST:PORT/DB, also as the first argument of Emitter")
        if settings.backplane_name is None:
            raise ConfigurationError.bad_value("HYBRID_BACKPLANE_NAME", name or "",
                                               "the app's HYBRID_BACKPLANE_NAME, the channel of its message_queue, or "
                                               "else its import name, also as the second argument of Emitter")
        self._connect = connect_to(settings.backplane, settings.backplane_name, "", settings.log_events)
        self.forked()
        fork_aware(self)
        atexit.register(self.close)

    def forked(self) -> None:
        """Begin without a thread and with nothing that waits: the parent sends that."""
        settings, self._closed = self._settings, False
        self._report = BackplaneReport(str(without_secret(settings.backplane)), str(settings.backplane_name))
        self._sender = Sender(
            self._connect("emitter", 0.0, ""),
            Outbox(max_events=settings.outbox_events, max_bytes=settings.outbox_bytes, clock=time.monotonic),
            position=lambda: START, changed=self._changed)

    def _changed(self) -> None:
        now = self._sender.statistics()
        self._report.changed(now.state, now.error)

    def emit(self, event: str, *args: Any, to: Hashable | Iterable[Hashable] = None, namespace: str | None = None,
             skip_sid: Hashable | Iterable[Hashable] = None) -> None:
        """Emit an event. Waits for nobody, and not for Redis: what cannot be sent yet waits in memory.

        :param event: the event's name.
        :param args: its arguments: JSON values and ``bytes``.
        :param to: a room, a ``sid``, or several of them; ``None`` for everybody.
        :param namespace: the namespace; ``None`` for ``/``.
        :param skip_sid: a ``sid``, or several, that do not get it.
        :raises EventError: for a bad name, a payload JSON cannot hold, or one that is too large; after :meth:`close`.
        """
        if self._closed:
            raise EventError(f"event {event!r} came after the Emitter was closed; emit before, or make another one",
                             code="closed")
        made = Event.create(event, args, Target.create(namespace, to, skip_sid))
        if len(made.data) > self._settings.max_event_bytes:
            raise too_large(made, len(made.data), self._settings.max_event_bytes)
        self._sender.outbox.put(event_payload(made, int(time.time() * 1000)))
        self._sender.ring()

    def flush(self, seconds: float = 5.0) -> bool:
        """Wait until Redis has everything.

        :param seconds: for how long, at most.
        :return: true if it has.
        """
        return self._sender.flush(seconds) if self._sender.unsent else True

    def statistics(self) -> SenderStatistics:
        """Return what was sent, and what waits."""
        return self._sender.statistics()

    def close(self) -> None:
        """Send what waits, for up to ``HYBRID_FLUSH_S``, and end. Called at the end of the process as well."""
        atexit.unregister(self.close)
        self._closed = True
        if not self._sender.stop(self._settings.flush_s):
            now = self._sender.statistics()
            logger.warning("events are lost, because %s has not taken them before the Emitter was closed: %d (%s)",
                           without_secret(self._settings.backplane), now.outbox.events,
                           now.error or "the time was over")

    def __enter__(self) -> Emitter:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
