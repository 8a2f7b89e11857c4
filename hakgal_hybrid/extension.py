"""HybridTransport: the public class of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

from .socketio.adoption import attach
from .socketio.running import port_of
from .socketio.socketio import SocketIO
from .web.tickets import Tickets
from .web.transport import KEY, Transport

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings.keywords import SettingsKeywords


class HybridTransport(Transport):
    """Server-Sent Events and HTTP commands for a Flask app, or for several.

    :param app_or_api: a Flask app, or a finished host (an object whose ``app`` is a Flask app) that was built with
        ``enable_websocket=False`` and now gets its adapter; it is the only one that is served. May be left out; call
        :meth:`init_app` for each app then.
    :param governor: the object ``POST /api/governor/control`` talks to, if it is not the host's own ``governor``.
    :param url_prefix: what our URLs begin with, as blueprints have it; the same as the setting ``prefix``.
    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over ``app.config`` and environment.

    Made without an app, it may be used before there is one: handlers, a function that authorizes and bridged signals
    are kept for each app that :meth:`init_app` is called for. Everything else is done for the only app there is, which
    needs no context, or of several for the one whose context is active. :meth:`of` returns the transport of one app.
    Apps are not kept alive.

    .. versionadded:: 0.1
    """

    _facade: SocketIO | None = None

    def __init__(self, app_or_api: Any = None, *, governor: Any = None, url_prefix: str | None = None,
                 **settings: Unpack[SettingsKeywords]) -> None:
        """Take the settings, and serve an app or a host if one is given.

        :param app_or_api: a Flask app, a finished host, or ``None``.
        :param governor: the object that commands go to, if it is not the host's own.
        :param url_prefix: what our URLs begin with.
        :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`.
        :raises ConfigurationError: for a setting that is not accepted, or an app that cannot be served.
        """
        if url_prefix is not None:
            settings["prefix"] = url_prefix
        super().__init__(governor=governor, **settings)
        self._for_one = app_or_api is not None
        if isinstance(app_or_api, Flask):
            self.init_app(app_or_api)
        elif app_or_api is not None:
            attach(self, app_or_api)

    def init_app(self, app: Flask) -> None:
        """Read the settings, freeze them, and answer our URLs in front of the app (in profile WEBSOCKET: none).

        :param app: the app to serve.
        :raises ConfigurationError: for a setting that is not accepted, an app that has a transport already, or one
            that owns one of our URLs; if this transport was made with an app, which is the only one it serves.
        """
        made = app.extensions.get(KEY)
        if type(made) is Transport and made.state not in self._apps.served() and not self._apps.settings:
            self._apps.add(made.state)  # made for a swapped ``SocketIO``: both objects have one state
            self._enter(made.state)
        else:
            super().init_app(app)
        if self._facade is not None:
            self._facade.represent(HybridTransport.of(app).state)

    @property
    def socketio(self) -> SocketIO:
        """The :class:`~hakgal_hybrid.socketio.SocketIO` of this app.

        May be used before :meth:`init_app`: what is registered with it is kept for each app.
        """
        state = self._apps.found()
        made: SocketIO | None = None if state is None else state.facade
        if made is not None and (self._apps.only is None or len(made.apps.served()) < 2):
            return made  # it cannot mean another app
        if self._facade is None:
            self._facade = SocketIO.over(self._apps)
            for state in self._apps.served():
                self._facade.represent(state)
        return self._facade

    @property
    def last_event_id(self) -> str:
        """The id of the newest event. A page that is made now opens its stream with ``?last_event_id=`` and this."""
        return self.log.id_of(self.log.newest)

    @property
    def tickets(self) -> Tickets:
        """Signs tickets, by which pages without the key open streams."""
        return self.services.tickets

    def run(self, host: str | None = None, port: int | None = None, **options: Any) -> None:
        """Serve the app with our own server until stopped.

        :param host: a name or address, default ``127.0.0.1``.
        :param port: default the one in ``SERVER_NAME``, else ``HAKGAL_PORT`` (5001).
        :param options: the others of :meth:`hakgal_hybrid.socketio.SocketIO.run`.
        """
        port = port_of(self.app, self.settings.port) if port is None else port
        self.socketio.run(self.app, host, port, **options)
