"""Apps: the apps that one object serves, what was registered for all of them, and which of them is meant."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import blinker
import flask
from flask import Flask

from ..broker.event import Target
from ..commands.authorization import Authorizer, Decision
from ..commands.handlers import Handlers
from ..commands.invocation import serving
from ..errors import ConfigurationError
from ..logs import get_logger
from ..settings import load_settings
from ..signals import connect
from .app import HybridApp
from .state import AppState

logger = get_logger(__name__)


class Apps:
    """The apps that one object serves. They are not kept alive by it.

    An app gets what was registered before, and keeps what was registered for it alone. What is registered later is for
    the app that is meant, for those that have nothing in its place, and for those to come.

    :param name: what the object is called in errors.
    :param governor: the governor of apps that have none of their own.
    :param settings: fields of :class:`~hakgal_hybrid.settings.Settings`, for each app.
    :param newest: true to take the newest app where several are served and nothing says which is meant, as
        Flask-SocketIO does; false for an error.
    :ivar handlers: what an app gets that is served from now on.
    :ivar authorizer: likewise.
    :ivar only: the one app that is served, and kept alive, if there will never be another one.
    """

    def __init__(self, name: str, *, governor: Any = None, settings: Mapping[str, Any] | None = None,
                 newest: bool = False) -> None:
        self.handlers, self.authorizer = Handlers(), Authorizer()
        self.only: AppState | None = None
        self.settings = settings or {}
        self._name, self._governor, self._newest = name, governor, newest
        self._served: list[weakref.ref[AppState]] = []
        self._collected = False
        self._lock = threading.RLock()  # a finalizer that runs in here may make an app too

    @classmethod
    def of(cls, state: AppState) -> Apps:
        """Return one that serves one app only.

        :param state: of that app.
        """
        apps = cls("HybridTransport")
        apps.serve_only(state)
        return apps

    def init_app(self, app: Flask, otherwise: Mapping[str, Any] | None = None) -> AppState:
        """Serve an app that has nothing of us.

        :param app: the app.
        :param otherwise: settings that count in place of the defaults, by name.
        :return: what it has from now on.
        :raises ConfigurationError: for a setting that is not accepted, or an app that owns one of our URLs.
        """
        otherwise = otherwise or {}
        state = AppState(app, load_settings(app.config, otherwise=otherwise, **self.settings), otherwise)
        state.handlers.manage_session = self.handlers.manage_session
        self.add(state)
        return state

    def add(self, state: AppState) -> None:
        """Serve an app that has a state.

        :param state: its state, which gets what was registered here.
        :raises ConfigurationError: if another function decides already what its clients may do.
        """
        state.authorizer.take(self.authorizer)
        state.governors.append(lambda: self._governor)
        state.handlers.update(self.handlers)
        with self._lock:
            kept = [ref for ref in self._served if (other := ref()) and other.app is not state.app]
            self._served, self._collected = [*kept, weakref.ref(state)], False

    def serve_only(self, state: AppState) -> None:
        """Serve one app and never another one.

        :param state: of that app.
        """
        if self._governor is not None:
            state.governor = self._governor
        self.only, self.handlers, self.authorizer = state, state.handlers, state.authorizer

    @property
    def governor(self) -> Any:
        """The governor of apps that have none of their own; may be set at any time."""
        return self._governor if self.only is None or self.only.governor is None else self.only.governor

    @governor.setter
    def governor(self, governor: Any) -> None:
        self._governor = governor
        if self.only is not None:
            self.only.governor = governor

    # -- which one -------------------------------------------------------------------------------------------

    def served(self) -> list[AppState]:
        """Return the states of the apps that are served and still there, the oldest first."""
        if self.only is not None:
            return [self.only]
        return [state for state in [ref() for ref in self._served] if state is not None]

    def current(self) -> AppState:
        """Return the state of the app that is meant.

        That is the only one that is served; of several, the one whose context is active, or the only one that was not
        stopped.

        :raises ConfigurationError: if there is none, or nothing says which of several is meant.
        """
        if self.only is not None:
            return self.only
        states = self.served()
        if len(states) > 1 and not self._newest and self._of_context(states) is None and not self._collected:
            self._collected = True  # apps that nobody has any more are in circles, and may not be gone yet
            del states
            gc.collect()
            states = self.served()
        if (found := self._chosen(states)) is not None:
            return found
        if not states:
            raise ConfigurationError(f"this {self._name} serves no app; call init_app(app) first")
        names = ", ".join(state.app.name for state in states)
        raise ConfigurationError(
            f"this {self._name} serves {len(states)} apps ({names}), and nothing says which of them is meant; do this "
            "inside 'with app.app_context():', or by HybridTransport.of(app)", code="several_apps")

    def of_app(self, app: object) -> AppState | None:
        """Return the state of an app, if it is served.

        :param app: the app.
        """
        return _of_app(app, self.served())

    def found(self) -> AppState | None:
        """Return the state of the app that is meant; ``None`` if there is none, or nothing says which."""
        return self._chosen(self.served())

    @property
    def current_handlers(self) -> Handlers:
        """What is registered for the app that is meant; for those to come, where there is none."""
        state = self.found()
        return self.handlers if state is None else state.handlers

    def _chosen(self, states: list[AppState]) -> AppState | None:
        if len(states) < 2:
            return states[0] if states else None
        state = self._of_context(states)
        if state is not None:
            return state
        running = [state for state in states if not state.node.stopping] or states
        return running[-1] if len(running) == 1 or self._newest else None

    @staticmethod
    def _of_context(states: list[AppState]) -> AppState | None:
        """Return the state of the app whose context is active, or whose client is being served."""
        app: Any = flask.current_app._get_current_object() if flask.has_app_context() else None  # type: ignore[attr-defined]
        state = _of_app(app.host if isinstance(app, HybridApp) else app, states)
        current = serving() if state is None else None
        return state if current is None else _of_app(current.client.environ.get("flask.app"), states)

    # -- what is registered ----------------------------------------------------------------------------------

    def register(self, handlers: Handlers) -> None:
        """Register handlers.

        :param handlers: those to add.
        """
        self.handlers.update(handlers)
        meant = self._to_register_with()
        for state in self.served():
            state.handlers.update(handlers, replace=state is meant)

    def authorize(self, decide: Decision) -> None:
        """Set the function that decides what clients may do.

        :param decide: the function.
        :raises ConfigurationError: if another function decides already.
        """
        meant = self._to_register_with()
        if meant is None:
            self.authorizer.use(decide)
            return
        meant.authorizer.use(decide)
        self.authorizer.inherit(decide, replace=True)
        for state in self.served():
            state.authorizer.inherit(decide)

    def _to_register_with(self) -> AppState | None:
        """Return the state of the app that a registration is for first: that of the context, or the newest one."""
        states = self.served()
        return self._of_context(states) or (states[-1] if states else None)

    def bridge(self, signal: blinker.Signal, event: str, target: Target) -> Callable[[], None]:
        """Send an event whenever a signal is sent: by the app that sends it, or the one that is meant.

        :param signal: the signal.
        :param event: the event's name.
        :param target: for whom it is.
        :return: a function that ends it.
        """
        def forward(sender: object, values: dict[str, Any]) -> None:
            try:
                state = self.of_app(sender) or self.current()
            except ConfigurationError as error:  # the signal's sender did not ask for an event
                logger.error("signal %r could not be bridged: %s", getattr(signal, "name", signal), error.detail)
                return
            node = state.node
            node.announcer.forward(signal, lambda values: node.publisher.send(event, (values,), target), values)

        return connect(signal, forward)


def _of_app(app: object, states: list[AppState]) -> AppState | None:
    return next((state for state in states if state.app is app), None)
