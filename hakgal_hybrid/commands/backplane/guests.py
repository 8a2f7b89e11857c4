"""Guests: clients of edges, whose handlers run in this process, the host that has let them in."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Flask

from ...broker.broker import process_of
from ...broker.client import Client
from ...broker.forks import fork_aware
from ...broker.log import EventLog
from ...broker.membership import Membership
from ...broker.payload import payload_text, restore_binary
from ...broker.shared_broker import SharedBroker
from ...broker.timers import TimerQueue
from ...errors import AccessDenied, EventError, HybridError, Overloaded, RequestError
from ...logs import get_logger
from ..authorization import Authorizer
from ..handlers import Handlers
from ..lifecycle import ClientLifecycle
from ..worker import Worker
from .requests import LOOK, Answer, RequestForwarding

logger = get_logger(__name__)

#: Seconds between two looks whether the edges of the guests are still there.
LOOK_EACH_S = 10.0
#: How many requests of edges may wait.
MAX_WAITING = 1000

#: What a WSGI environment has besides texts.
_REST: dict[str, Any] = {"wsgi.version": (1, 0), "wsgi.multithread": True, "wsgi.multiprocess": True,
                         "wsgi.run_once": False}


class GuestRooms:
    """The rooms of guests. Each process reads in the log who is put into which, and so has them in its order.

    :param log: the log of this process.
    :ivar guests: the guests by their ``sid``.
    :ivar table: says in which rooms a guest is.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.guests: dict[str, Client] = {}
        self.table: Membership[Client] = Membership()

    def enter(self, data: dict[str, Any]) -> None:
        """Note that a guest is in a room. Its edge has the room's events sent to it.

        :param data: of the request: ``sid``, ``namespace``, ``room``.
        """
        guest = self._meant(data)
        if guest is not None:
            with self._log.held():
                self.table.join(guest, data["room"], 0)

    def leave(self, data: dict[str, Any]) -> None:
        """Note that a guest is in a room no more.

        :param data: as for :meth:`enter`.
        """
        guest = self._meant(data)
        if guest is not None:
            with self._log.held():
                self.table.leave(guest, data["room"], 0, 0)

    def close(self, data: dict[str, Any]) -> None:
        """Note that nobody is in a room any more.

        :param data: of the request: ``namespace``, ``room``.
        """
        for guest in list(self.guests.values()):
            if data["room"] in guest.joined:
                self.leave({**data, "sid": guest.sid})

    def _meant(self, data: dict[str, Any]) -> Client | None:
        guest = self.guests.get(data["sid"])
        return guest if guest is not None and guest.namespace == data["namespace"] else None

    def forget(self, guest: Client) -> None:
        """Take a guest out of all rooms.

        :param guest: the guest, which has ended.
        """
        with self._log.held():
            self.table.forget(guest)


class Guests:
    """Does for clients of edges what their edges ask for.

    :param app: whose handlers run.
    :param handlers: what the host registered.
    :param authorizer: has the application decide what clients may do.
    :param lifecycle: knows which namespaces there are, and runs handlers.
    :param broker: the log that this process has in common with the edges.
    :param requests: brings what edges ask for.
    :param threads: how many requests of edges are carried out at a time.
    :param max_guests: how many there may be.
    :param look_each_s: seconds between two looks whether the edges are still there.
    :ivar rooms: which rooms they are in.
    """

    def __init__(self, app: Flask, handlers: Handlers, authorizer: Authorizer, lifecycle: ClientLifecycle,
                 broker: SharedBroker, requests: RequestForwarding, *, threads: int, max_guests: int,
                 look_each_s: float = LOOK_EACH_S) -> None:
        self._app, self._handlers, self._authorizer, self._lifecycle = app, handlers, authorizer, lifecycle
        self._broker, self._requests, self._max_guests = broker, requests, max_guests
        self._worker = Worker("hakgal-hybrid-guests", limit=MAX_WAITING, threads=threads)
        self._timers, self._look_each_s = TimerQueue(), look_each_s
        self.rooms = GuestRooms(broker.log)
        self.forked()
        fork_aware(self)
        self._actions: dict[str, Callable[[dict[str, Any]], Any]] = {
            "connect": self._connect, "trigger": self._trigger, "disconnect": self._disconnect,
            "authorize": self._authorize}
        requests.guests = self.serve
        requests.unheard[LOOK] = self.edge_gone

    def forked(self) -> None:
        """Begin without guests: in a child, they are those of the process that has forked it."""
        self._guests = self.rooms.guests = dict[str, Client]()
        #: Those whose ``connect`` handler is running, with why they have ended meanwhile; ``None`` if they have not.
        self._connecting: dict[str, str | None] = {}
        self._looking = False

    def __len__(self) -> int:
        return len(self._guests)

    def announce(self) -> None:
        """Have all edges know that this host is there."""
        self._broker.elsewhere("host", process=self._broker.process, decides=self._authorizer.decides)

    def introduce(self, edge: str) -> None:
        """Have one edge know that this host is there.

        :param edge: the name of its process.
        """
        self._requests.post(edge, ["host", self._broker.process, self._authorizer.decides])

    def _forget(self, guest: Client) -> None:
        self._guests.pop(guest.sid, None)
        self.rooms.forget(guest)

    # -- what edges ask for ----------------------------------------------------------------------------------

    def serve(self, body: str, seconds: float, reply: Callable[[Answer], object]) -> None:
        """Carry out what an edge asks for, in the background. What comes too late is not begun.

        :param body: the question, JSON.
        :param seconds: for how long the edge waits.
        :param reply: called with the answer.
        """
        if not self._worker.submit(partial(self._serve, body, time.monotonic() + seconds, reply)):
            reply(Answer.of(Overloaded("too many requests of edges wait at this host", code="forwarding")))

    def _serve(self, body: str, until: float, reply: Callable[[Answer], object]) -> None:
        if time.monotonic() >= until:
            return
        try:
            question = restore_binary(json.loads(body))
            value = self._actions[question["do"]](question)
            text = payload_text("answer", ({"value": value, "decides": self._authorizer.decides},))
        except EventError as error:
            logger.error("what was to be answered to an edge cannot be sent as JSON: %s", error)
            answer = Answer.of(RequestError("the handler ran, and returned what cannot be sent as JSON", status=500,
                                             code="handler_failed"))
        except HybridError as error:
            answer = Answer.of(error)
        except Exception:
            logger.exception("a request of an edge failed")
            answer = Answer.of(HybridError("an internal error, which the log has"))
        else:
            answer = Answer(200, text)
        self._broker.settled()
        reply(answer)

    def _connect(self, question: dict[str, Any]) -> None:
        sid, namespace, auth = question["sid"], question["namespace"], question["auth"]
        if len(self._guests) >= self._max_guests:
            raise Overloaded(f"this host runs the handlers of {self._max_guests} clients of edges "
                             "(HYBRID_MAX_CLIENTS)", code="too_many_clients", retry_after=5)
        served = self._lifecycle.namespaces
        if served != "*" and namespace not in served and not self._handlers.serves(namespace):
            raise AccessDenied("Unable to connect", code="unknown_namespace")
        guest = self._guest(question)
        with self._app.request_context(self._environ(question)):
            if not question["decided"]:  # the edge took it that nobody decides
                self._authorizer.check(self._app, "stream", namespace)
                self._authorizer.check(self._app, "connect", namespace, data=auth)
            self._guests[sid], self._connecting[sid] = guest, None
            try:
                self._handlers.connect(self._app, guest, auth)
            except BaseException:
                self._forget(guest)
                raise
            finally:
                ended = self._connecting.pop(sid)
        if ended is not None:
            self._disconnect({"sid": sid, "reason": ended})
        self._look()

    def _trigger(self, question: dict[str, Any]) -> dict[str, Any]:
        guest = self._guests.get(question["sid"])
        if guest is None:
            raise HybridError("the host that had this client is gone; connect again", code="gone", status=410)
        with self._app.request_context(self._environ(question)):
            value = self._lifecycle.dispatch(guest, question["event"], tuple(question["args"]))
        return {"value": value, "several": isinstance(value, tuple)}

    def _disconnect(self, question: dict[str, Any]) -> None:
        if question["sid"] in self._connecting:
            self._connecting[question["sid"]] = question["reason"]
            return
        guest = self._guests.pop(question["sid"], None)
        if guest is not None:
            self._ended(guest, question["reason"])

    def _ended(self, guest: Client, reason: str) -> None:
        try:
            with self._app.request_context(self._context_of(guest.opening_environ())):
                self._handlers.disconnect(self._app, guest, reason)
        finally:
            self._forget(guest)

    def _authorize(self, question: dict[str, Any]) -> None:
        guest = self._guests.get(question["sid"])
        if guest is None and question["sid"] is not None:
            guest = self._guest(question)
        with self._app.request_context(self._environ(question)):
            self._authorizer.check(self._app, question["action"], question["namespace"], event=question["event"],
                                   data=question["data"], client=guest)

    def _guest(self, question: dict[str, Any]) -> Client:
        guest = Client({**_REST, **question["environ"], "flask.app": self._app}, question["namespace"],
                       rooms=self.rooms.table)
        guest.sid = question["sid"]
        return guest

    def _environ(self, question: dict[str, Any]) -> dict[str, Any]:
        return self._context_of(question["environ"])

    @staticmethod
    def _context_of(environ: dict[str, Any]) -> dict[str, Any]:
        return {"REQUEST_METHOD": "GET", "SERVER_NAME": "localhost", "SERVER_PORT": "80", "PATH_INFO": "/",
                "wsgi.url_scheme": "http", **_REST, **environ, "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}

    # -- edges that have ended -------------------------------------------------------------------------------

    def _look(self) -> None:
        """Begin to ask now and then whether the edges of the guests are still there, if that has not begun."""
        if not self._looking:
            self._looking = True
            self._timers.call_later(self._look_each_s, self._look_at_edges)

    def _look_at_edges(self) -> None:
        self._looking = False
        if self._broker.stopped:
            return
        edges = {process_of(sid) for sid in list(self._guests)}
        for edge in edges:
            self._requests.post(edge, [LOOK, edge])
        if edges:
            self._look()

    def edge_gone(self, edge: str) -> None:
        """Run the ``disconnect`` handlers of an edge's clients, which have ended with it.

        :param edge: the name of its process.
        """
        for sid in [sid for sid in list(self._guests) if process_of(sid) == edge]:
            guest = self._guests.pop(sid, None)
            if guest is not None and not self._worker.submit(partial(self._ended, guest, "transport close")):
                logger.error("the disconnect handler of %s does not run: too much waits in the background", sid)
                self._forget(guest)
