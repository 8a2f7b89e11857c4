"""``message_queue=``: the backplane of an app, or, without an app, a way to emit to those that have the same one."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any

from ..commands.backplane.emitter import Emitter
from ..errors import ConfigurationError, EventError
from ..settings import load_settings
from ..settings.backplane_url import backplane_name, backplane_url
from ..web.apps import Apps

#: The channel of those that name none, in Flask-SocketIO as here: an app and its scripts name none as a rule.
CHANNEL = "flask-socketio"
_ACCEPTED = "redis://HOST:PORT/DB, or another URL that HYBRID_BACKPLANE takes; or None"


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
        scheme = str(queue).partition("://")[0]  # what follows may hold a password
        raise ConfigurationError.bad_value("message_queue", f"{scheme}://…", _ACCEPTED) from None
    try:
        return {"backplane": url, "backplane_name": str(backplane_name(channel))}
    except ValueError as refused:
        raise ConfigurationError.bad_value("channel", channel, str(refused)) from None


class MessageQueue:
    """What a ``SocketIO`` has of its ``message_queue=``. It emits where no app is served in this process.

    :param apps: the apps that it serves.
    :param options: its keywords, which may yet change.
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
        if self._options.get("message_queue"):
            self._options.setdefault("client_manager", self)

    @property
    def write_only(self) -> bool:
        """True if it can only emit, because no app is served in this process."""
        return not self._apps.served()

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
        if not self._options.get("message_queue") or not self.write_only:
            return False
        if callback:
            raise EventError("a callback is called in a process that serves clients; this one only emits",
                             code="write_only")
        with self._lock:
            if self._emitter is None:
                # What the environment says counts here as it does in the app, or they would not meet.
                settings = load_settings(otherwise=queue_settings(self._options))
                self._emitter = Emitter(settings.backplane, settings.backplane_name)
        self._emitter.emit(event, *args, to=to, namespace=namespace, skip_sid=skip_sid)
        return True
