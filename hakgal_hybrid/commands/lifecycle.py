"""The lifecycle of clients: connecting, resuming, disconnecting, and which of the host's functions run then."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Literal

from flask import Flask

from .. import signals
from ..broker.client import Client, Session
from ..broker.counters import Refusals
from ..broker.entry import Gap
from ..broker.environ import CONNECTION_KEYS
from ..broker.hub import Hub
from ..broker.states import SessionState, StreamEnd, StreamEvent, StreamState
from ..broker.stream import SubscriberStream
from ..errors import AccessDenied, EventError, HybridError, Overloaded, RequestError
from ..logs import get_logger
from ..settings import Settings
from .announcing import MAX_WAITING, BackgroundAnnouncer
from .authorization import Authorizer
from .handlers import NOT_HANDLED, Handlers
from .invocation import RESERVED, BadArguments
from .worker import Worker

logger = get_logger(__name__)


class ClientLifecycle:
    """Lets clients connect, takes what they send, and ends them.

    :param app: the app whose handlers run.
    :param settings: the settings.
    :param hub: where clients are.
    :param handlers: what the host registered.
    :param authorizer: has the application decide what clients may do.
    :param background: sends the signals about clients.
    :param refusals: counts what is dropped.
    :param max_waiting: how many ``disconnect`` handlers may wait for a thread.
    :ivar namespaces: which namespaces clients may connect to besides those with handlers; ``"*"``: to any.
    """

    def __init__(self, app: Flask, settings: Settings, hub: Hub, handlers: Handlers, authorizer: Authorizer,
                 background: BackgroundAnnouncer, refusals: Refusals, *, max_waiting: int = MAX_WAITING) -> None:
        self.namespaces: frozenset[str] | Literal["*"] = "*"
        self.on_gap = self.client_lagged  # one bound method for all streams
        self._app, self._settings, self._hub, self._handlers = app, settings, hub, handlers
        self._authorizer, self._background, self._refusals = authorizer, background, refusals
        # A disconnect handler that hangs must not hold up the others, nor the signals.
        self._disconnect_workers = Worker("hakgal-hybrid-disconnect", limit=max_waiting, threads=8)

    def open_client(self, environ: dict[str, Any], namespace: str, auth: Any = None, *,
                    session: Session | None = None, with_stream: bool = False) -> Client:
        """Admit a client and run the host's ``connect`` handler for it.

        :param environ: the WSGI environment of the opening request.
        :param namespace: the namespace it connects to.
        :param auth: what it sends along for the handler.
        :param session: the session that it joins; by default a new one, which waits for its stream.
        :param with_stream: true if the caller attaches the session's stream at once, so that nobody waits for it.
        :return: the client.
        :raises AccessDenied: if the handler refused it, or nobody may connect to this namespace. No client remains.
        :raises Overloaded: if there are too many clients or streams.
        """
        if self.namespaces != "*" and namespace not in self.namespaces and not self._handlers.serves(namespace):
            raise AccessDenied("Unable to connect", code="unknown_namespace")
        self._authorizer.check(self._app, "connect", namespace, data=auth)
        own = session is None
        session = self._hub.new_session(environ) if session is None else session
        environ = {**environ, "flask.app": self._app}
        for key in CONNECTION_KEYS:
            environ.pop(key, None)
        try:
            client = self._hub.admit(session, environ, namespace)
            try:
                self._handlers.connect(self._app, client, auth)
            except BaseException:
                self._hub.forget(client)
                raise
        except BaseException:
            if own:
                self._hub.sessions.drop(session)
            raise
        if not with_stream:
            self._hub.sessions.expect(session)  # from now on: the handler may have taken its time
        self._background.announce(signals.client_connected, client=client)
        return client

    def end_client(self, client: Client, reason: str, *, wait: bool = False) -> None:
        """End a client now. May be called repeatedly.

        :param client: the client.
        :param reason: what its ``disconnect`` handler gets; see ``SocketIO.reason``.
        :param wait: true to run that handler in the calling thread, false in the background.
        """
        if not self._hub.end(client, reason):
            return
        if client.session is not None:
            self._hub.sessions.drop(client.session, even_with_clients=False)
        run = partial(self._run_disconnect_handler, client, reason)
        if wait:
            run()
        elif not self._disconnect_workers.submit(run):
            self._hub.handled(client)
            self._refusals.count("disconnect_handler_dropped")
            logger.error("the disconnect handler of %s does not run: too much waits in the background", client.sid)
        self._background.announce(signals.client_gone, client=client, reason=reason)

    def _run_disconnect_handler(self, client: Client, reason: str) -> None:
        """Run the host's ``disconnect`` handler, during which the client's rooms can still be read."""
        try:
            self._handlers.disconnect(self._app, client, reason)
        finally:
            self._hub.handled(client)

    def disconnect(self, who: str | Callable[[Client], bool]) -> int:
        """End clients for good: their streams, their tickets and what they could come back to.

        A stream gets what was emitted before, then ``hybrid_disconnect``, and ends with its last client. The
        ``disconnect`` handlers run in the background.

        :param who: a ``sid``, or what returns true for each client that shall go.
        :return: how many clients that were; 0 for a ``sid`` that nobody has.
        """
        if isinstance(who, str):
            client = self._hub.client(who)
            found = [] if client is None else [client]
        else:
            found = [client for client in self._hub.clients() if who(client)]
        for client in found:
            self.end_client(client, "server disconnect")
        return len(found)

    def stream_ended(self, feed: SubscriberStream, end: StreamEnd) -> None:
        """Note that a stream has ended. Its clients may come back for a while. May be called repeatedly.

        Its session lapses at once if the server stops, if the host refused its first stream, or if no client is left.

        :param feed: the stream.
        :param end: why it has ended.
        """
        if feed.state is StreamState.ENDED:
            return
        feed.happened(StreamEvent.ENDED)
        self._hub.deliveries.ended(StreamEnd.REPLACED if feed.replaced else end)
        if not self._hub.sessions.detach(feed.session, feed):
            return
        if end is StreamEnd.STOPPED or (end is StreamEnd.REFUSED and not feed.resumed) or not feed.session.living:
            self._hub.sessions.lapse(feed.session)

    def session_lapsed(self, session: Session, before: SessionState) -> None:
        """End the clients of a session that nobody came back to.

        :param session: the session.
        :param before: the state it was in.
        """
        for client in session.clients:
            lost = "ping timeout" if before is SessionState.WAITING else "transport close"
            self.end_client(client, client.end_reason or lost)
        for client in session.clients:
            self._hub.release(client)

    def may_join(self, client: Client, room: Hashable) -> None:
        """Refuse to put a client into a room, if the application does not allow it or the client is in too many.

        :param client: the client.
        :param room: the room.
        :raises AccessDenied: if the application does not allow it.
        :raises Overloaded: 429 if it is in too many rooms.
        """
        self._authorizer.check(self._app, "join", client.namespace, room=room, client=client)
        rooms, limit = client.rooms(), self._settings.max_rooms
        if len(rooms) >= limit and room not in rooms:
            raise Overloaded(f"a client may be in {limit} rooms (HYBRID_MAX_ROOMS)", code="too_many_rooms", status=429)

    def client_lagged(self, client: Client, gap: Gap) -> None:
        """Announce that a client has missed events.

        :param client: the client.
        :param gap: which events it has missed.
        """
        self._background.announce(signals.client_lagged, client=client, gap=gap)

    def dispatch(self, client: Client, event: str, args: tuple[Any, ...]) -> Any:
        """Run the host's handler of an event that a client sends.

        :param client: whose event it is.
        :param event: the event's name.
        :param args: the event's arguments.
        :return: what the handler returns.
        :raises AccessDenied: if the application does not allow it.
        :raises RequestError: 404 if the host has no such handler, 422 if it does not take these arguments, 500 if it
            raised (which is logged with its traceback).
        """
        self._authorizer.check(self._app, "emit", client.namespace, event=event, data=list(args), client=client)
        handlers = self._handlers
        try:
            answer = NOT_HANDLED if event in RESERVED else handlers.trigger(self._app, client, event, args)
        except BadArguments as error:
            raise RequestError(str(error), code="bad_arguments") from error
        except Exception as error:
            # An event that the handler could not emit is the host's fault; our other errors are answers it chose.
            if isinstance(error, HybridError) and not isinstance(error, EventError):
                raise
            logger.exception("handler of event %r raised", event)
            raise RequestError(f"the handler of {event!r} raised {type(error).__name__}", status=500,
                               code="handler_failed") from error
        if answer is NOT_HANDLED:
            raise RequestError(f"no handler for event {event!r} in namespace {client.namespace!r}", status=404,
                               code="unknown_event", accepted=handlers.names(client.namespace))
        return answer
