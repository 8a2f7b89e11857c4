"""``message_queue=``: the backplane of an app, or, without an app, a way to emit to those that have the same one."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from ..commands.backplane.emitter import Emitter
from ..errors import ConfigurationError, EventError
from ..settings import load_settings
from ..settings.backplane_url import NAMES, backplane_name, backplane_url
from ..web.apps import Apps
from ..web.state import AppState

#: The channel of those that name none, in Flask-SocketIO as here: an app and its scripts name none as a rule.
CHANNEL = "flask-socketio"
_ACCEPTED = ("redis://HOST:PORT/DB, or another URL that HYBRID_BACKPLANE takes; or None; with another queue start the "
             "app with APP_PROFILE=WEBSOCKET, in which Flask-SocketIO serves")
_WRITE_ONLY = ("this SocketIO was given a message_queue and no app, so it only emits; callbacks, rooms and clients are "
               "there in a process that serves the app: SocketIO(app, message_queue=…)")


def queue_settings(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that ``message_queue=`` and ``channel=`` stand for: nothing, where there is no queue.

    :param options: the keywords that a ``SocketIO`` was given.
    :return: the settings, by their names.
    :raises ConfigurationError: for a queue that is not served.
    """
    queue, channel = options.get("message_queue"), options.get("channel") or CHANNEL
    if not queue:
        return {}
    try:
        url = str(backplane_url(queue))
    except ValueError:
        raise ConfigurationError.bad_value("message_queue", _shown(queue), _ACCEPTED) from None
    try:
        return {"backplane": url, "backplane_name": str(backplane_name(channel))}
    except ValueError:
        raise ConfigurationError.bad_value("channel", channel, NAMES) from None


def _shown(queue: object) -> object:
    """Return a queue as an error may show it: of a URL the scheme alone, because a password may be what is wrong."""
    if not isinstance(queue, str):
        return type(queue).__name__
    scheme, separator, rest = queue.partition("://")
    return f"{scheme}{separator}…" if rest or "@" in queue else queue


class MessageQueue:
    """What a ``SocketIO`` has of its ``message_queue=``. It emits where no app is served in this process.

    :param apps: the apps that it serves.
    :param options: its keywords, which may yet change.
    :ivar wanted: true if there is a queue among them.
    """

    def __init__(self, apps: Apps, options: dict[str, Any]) -> None:
        self._apps, self._options, self._lock = apps, options, Lock()
        self._emitter: Emitter | None = None
        self.update({})

    def update(self, options: Mapping[str, Any]) -> None:
        """Take more keywords. With a queue among them, this is what programs find as ``client_manager``.

        :param options: the keywords.
        """
        self._options.update(options)
        self.wanted = bool(self._options.get("message_queue"))
        if self.wanted:
            self._options.setdefault("client_manager", self)

    @property
    def write_only(self) -> bool:
        """True if it can only emit, because no app is served in this process."""
        return not self._apps.served()

    def current(self) -> AppState:
        """Return the state of the app that is meant.

        :raises EventError: if there is none, and only emitting was asked for.
        :raises ConfigurationError: if there is none, or nothing says which of several is meant.
        """
        if self.wanted and self.write_only:
            raise EventError(_WRITE_ONLY, code="write_only")
        return self._apps.current()

    def emit(self, event: str, args: tuple[Any, ...], to: Any, skip_sid: Any, namespace: str | None, *,
             callback: bool) -> bool:
        """Emit an event, unless there is an app, or no queue.

        :param event: the event's name.
        :param args: its arguments.
        :param to: a room, a ``sid``, or several; ``None`` for everybody.
        :param skip_sid: a ``sid`` or several to leave out.
        :param namespace: the namespace.
        :param callback: true if it is to be acknowledged, which cannot be.
        :return: true if it was emitted.
        :raises EventError: for what cannot be emitted.
        """
        if not self.wanted or not self.write_only:
            return False
        if callback:
            raise EventError(_WRITE_ONLY, code="write_only")
        with self._lock:
            if self._emitter is None:
                # What the environment says counts here as it does in the app, or they would not meet.
                settings = load_settings(otherwise=queue_settings(self._options))
                self._emitter = Emitter(settings.backplane, settings.backplane_name)
        self._emitter.emit(event, *args, to=to, namespace=namespace, skip_sid=skip_sid)
        return True
