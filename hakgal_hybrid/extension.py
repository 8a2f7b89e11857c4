"""HybridTransport: the public class of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Flask

from .settings import Profile
from .socketio.adoption import attach
from .socketio.dual import serve_both
from .socketio.running import port_of
from .socketio.socketio import SocketIO
from .web.tickets import Tickets
from .web.transport import KEY, Transport

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .settings.keywords import SettingsKeywords


class HybridTransport(Transport):
    """Server-Sent Events and HTTP commands for one Flask app.

    :param app_or_api: a Flask app, or a finished host (an object whose ``app`` is a Flask app) that was built with
        ``enable_websocket=False`` and now gets its adapter. May be left out; call :meth:`init_app` then.
    :param governor: the object ``POST /api/governor/control`` talks to, if it is not the host's own ``governor``.
    :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`; wins over ``app.config`` and environment.

    One transport serves one app, because emitting needs no app context; make one transport for each app.

    .. versionadded:: 0.1
    """

    def __init__(self, app_or_api: Any = None, *, governor: Any = None, **settings: Unpack[SettingsKeywords]) -> None:
        """Take the settings, and serve an app or a host if one is given.

        :param app_or_api: a Flask app, a finished host, or ``None``.
        :param governor: the object that commands go to, if it is not the host's own.
        :param settings: any field of :class:`~hakgal_hybrid.settings.Settings`.
        :raises ConfigurationError: for a setting that is not accepted, or an app that cannot be served.
        """
        super().__init__(governor=governor, **settings)
        if isinstance(app_or_api, Flask):
            self.init_app(app_or_api)
        elif app_or_api is not None:
            attach(self, app_or_api)

    def init_app(self, app: Flask) -> None:
        """Read the settings, freeze them, and answer our URLs in front of the app (in profile WEBSOCKET: none).

        :param app: the app to serve.
        :raises ConfigurationError: for a setting that is not accepted, an app that has a transport already, or one
            that owns one of our URLs.
        """
        made = app.extensions.get(KEY)
        if type(made) is Transport and not (made._host or self._services or self._overrides):
            self._take_over(made)
            return
        super().init_app(app)
        if self.settings.profile is Profile.DUAL:
            serve_both(self)

    def _take_over(self, made: Transport) -> None:
        """Be the transport that a swapped ``SocketIO`` has made for its app: both objects have one state."""
        governor, authorizer = self.governor, self._authorizer
        self.__dict__ = made.__dict__
        self.governor = made.governor if governor is None else governor
        self._authorizer.take(authorizer)
        self.app.extensions[KEY] = self

    @property
    def socketio(self) -> SocketIO:
        """The :class:`~hakgal_hybrid.socketio.SocketIO` of this app; the host's own in profile DUAL."""
        facade: SocketIO = SocketIO.over(self) if self.facade is None else self.facade
        return facade

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
