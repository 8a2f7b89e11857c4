"""Reception: how clients come, stay away, come back and go, and what of the host runs then."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Literal

import blinker
from flask import Flask

from .. import signals
from ..broker.client import Client, Session
from ..broker.counters import Refusals
from ..broker.entry import Gap
from ..broker.hub import Hub
from ..broker.stream import SubscriberStream
from ..errors import AccessDenied, Overloaded
from ..logs import get_logger
from ..settings import Settings
from . import Handlers
from .acks import Acks
from .authorization import Authorizer, Decision
from .invocation import CONNECTION_KEYS
from .worker import Worker

logger = get_logger(__name__)


class ClientLifecycle:
    """The part of :class:`~hakgal_hybrid.HybridTransport` that clients meet."""

    authority: Authorizer
    refusals: Refusals
    handlers: Handlers
    acks: Acks
    hub: Hub
    settings: Settings
    namespaces: frozenset[str] | Literal["*"]
    _announcer: signals.Announcer
    _background: Worker
    _goodbyes: Worker

    @property
    def app(self) -> Flask:
        """The app whose clients they are."""
        raise NotImplementedError

    def open_client(self, environ: dict[str, Any], namespace: str, auth: Any = None, *,
                    session: Session | None = None) -> Client:
        """Admit a client and run the host's ``connect`` handler for it.

        :param link: the stream that shall carry it; by default one is made, which waits to be opened.
        :raises AccessDenied: if the handler refused it, or nobody may connect to this namespace. No client remains.
        :raises Overloaded: if there is no place.
        """
        if self.namespaces != "*" and namespace not in self.namespaces and not self.handlers.serves(namespace):
            raise AccessDenied("Unable to connect", code="unknown_namespace")
        self.authority.check("connect", namespace, data=auth)
        own = session is None
        session = self.hub.new_session(environ) if session is None else session
        environ = {**environ, "flask.app": self.app}
        for key in CONNECTION_KEYS:
            environ.pop(key, None)
        try:
            client = self.hub.admit(session, environ, namespace)
            try:
                self.handlers.connect(self.app, client, auth)
            except BaseException:
                self.hub.forget(client)
                raise
        except BaseException:
            if own:
                self.hub.sessions.drop(session)
            raise
        self.hub.sessions.expect(session)  # from now on: the handler may have taken its time
        self._later(signals.client_connected, client=client)
        return client

    def end_client(self, client: Client, reason: str, *, wait: bool = False) -> None:
        """End a client now. May be called repeatedly.

        :param reason: what its ``disconnect`` handler is told; see ``SocketIO.reason``.
        :param wait: true to run that handler in the calling thread, false in the background.
        """
        if not self.hub.end(client, reason):
            return
        if client.session is not None:
            self.hub.sessions.drop(client.session, even_if_ridden=False)
        run = partial(self._say_goodbye, client, reason)
        if wait:
            run()
        elif not self._goodbyes.submit(run):
            self.hub.leave_all(client)
            self.refusals.count("disconnect_handler_dropped")
            logger.error("the disconnect handler of %s does not run: too much waits in the background", client.sid)
        self._later(signals.client_gone, client=client, reason=reason)

    def _say_goodbye(self, client: Client, reason: str) -> None:
        """Run the host's ``disconnect`` handler, which may still ask for the client's rooms."""
        try:
            self.handlers.disconnect(self.app, client, reason)
        finally:
            self.hub.leave_all(client)

    def authorize(self, decide: Decision) -> Decision:
        """Have a function of the application decide what clients may do. Usable as a decorator.

        It is called with an :class:`~hakgal_hybrid.commands.authorization.AuthorizationRequest`, in the thread of the
        request, and must return something true to allow it: what it returns nothing for is refused, and so is
        everything when it raises. It is asked after key, ticket and token, about clients of this transport: not about
        those of a host's own WebSocket.

        :raises ConfigurationError: if another function decides already.
        """
        self.authority.use(decide)
        return decide

    def disconnect(self, who: str | Callable[[Client], bool]) -> int:
        """End clients for good: their streams, their tickets and what they could come back to.

        A stream gets what was emitted before, then ``hybrid_disconnect``, and ends with its last client. The
        ``disconnect`` handlers run in the background.

        :param who: a ``sid``, or what returns true for each client that shall go.
        :return: how many clients that were; 0 for a ``sid`` that nobody has.
        """
        if isinstance(who, str):
            client = self.hub.client(who)
            found = [] if client is None else [client]
        else:
            found = [client for client in self.hub.clients() if who(client)]
        for client in found:
            self.end_client(client, "server disconnect")
        return len(found)

    def stream_left(self, feed: SubscriberStream, reason: str) -> None:
        """A stream has ended. Its clients may come back for a while, unless nothing is left to come back to.

        May be called repeatedly.

        :param reason: as counted in the status: ``gone``, ``closed``, ``stalled``, ``stopped`` and so on.
        """
        if feed.left:
            return
        feed.left = True
        self.hub.count_end("replaced" if feed.replaced else reason)
        if not self.hub.sessions.let_go(feed.session, feed):
            return
        if reason == "stopped" or (reason == "refused" and not feed.resumed) or not feed.session.living:
            self.hub.sessions.lapse(feed.session)

    def _lapsed(self, session: Session) -> None:
        for client in session.clients:
            self.end_client(client, "ping timeout" if not session.opened else "transport close")
        self.hub.prune(session, session.clients)

    def may_join(self, client: Client, room: Hashable) -> None:
        """Let a client be put into a room, or refuse it.

        :raises AccessDenied: if the application does not allow it. :raises Overloaded: 429 if it is in too many.
        """
        self.authority.check("join", client.namespace, room=room, client=client)
        rooms, limit = client.rooms(), self.settings.max_rooms
        if len(rooms) >= limit and room not in rooms:
            raise Overloaded(f"a client may be in {limit} rooms (HYBRID_MAX_ROOMS)", code="too_many_rooms", status=429)

    def acknowledge(self, client: Client, ack: object, args: list[Any]) -> None:
        """Take a client's acknowledgement: call the callback of the event.

        :raises RequestError: 404 if none is expected under this id.
        """
        self.acks.answer(ack, client, args)

    def client_lagged(self, client: Client, gap: Gap) -> None:
        """A client is being told of a gap."""
        self._later(signals.client_lagged, client=client, gap=gap)

    def degraded(self, reason: str) -> None:
        """A bound was hit and somebody was turned away; ``reason`` is the problem's code."""
        self._later(signals.transport_degraded, reason=reason)

    def dispatch(self, client: Client, event: str, args: tuple[Any, ...],
                 begin: Callable[[], None] = lambda: None) -> Any:
        """Run the host's handler of an event in the name of ``client``; return what it returns.

        :param begin: called right before the handler is.
        """
        self.authority.check("emit", client.namespace, event=event, data=list(args), client=client)
        return self.handlers.dispatch(self.app, client, event, args, begin)

    def _later(self, signal: blinker.NamedSignal, **values: Any) -> None:
        """Send a signal from the background thread: the loop that noticed must not run anybody's receivers."""
        if signal.receivers and not self._background.submit(partial(self._announcer.announce, signal, **values)):
            self.refusals.count("signal_dropped")
            logger.error("signal %r was not sent: too many are waiting", signal.name)
