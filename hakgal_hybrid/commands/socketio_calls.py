"""SocketIOCalls: carries out the packets of one session of Socket.IO, one after the other, in threads of the inbox."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..broker.client import MAX_SESSION_CLIENTS, Client
from ..broker.engineio.session import EngineSession
from ..broker.engineio.socketio_packets import Kind, SocketPacket
from ..broker.environ import OpeningRequest
from ..broker.event import Event
from ..broker.states import StreamEnd
from ..errors import EventError, HybridError, RequestError
from ..logs import get_logger
from .node import Node
from .socketio_admission import Admission
from .socketio_stream import SocketIOStream

logger = get_logger(__name__)

#: How long after the answer to a connect the first event is sent on a WebSocket (seconds). Bare WebSocket clients that
#: await one message after the other lose what comes in one piece with it.
PAUSE_S = 0.01


class SocketIOCalls:
    """What a session's client asks for: to be in a namespace, to have handlers and callbacks run.

    :param node: the log, the clients and the host's handlers.
    :param environ: the WSGI environment of the request that has opened the session.
    :param down: what is sent to the client.
    :param admission: what it may do.
    :param later: has a function called after some seconds, in a thread that must not wait.
    :ivar clients: the client of each namespace; ``None`` where the host has refused.
    :ivar deciding: the namespaces that the host decides about.
    :ivar engine: the session of Engine.IO; set before anything is carried out.
    """

    def __init__(self, node: Node, environ: dict[str, Any], down: SocketIOStream, admission: Admission,
                 later: Callable[[float, Callable[[], object]], object]) -> None:
        self._node, self._opening, self._down, self._admission = node, OpeningRequest(environ), down, admission
        self._later = later
        self.clients: dict[str, Client | None] = {}
        self.deciding: set[str] = set()
        self.engine: EngineSession

    def carry_out(self, packet: SocketPacket) -> None:
        """Carry out one packet.

        :param packet: the packet.
        """
        if packet.kind is Kind.CONNECT:
            self._connect(packet.namespace, packet.data)
            return
        client = self.clients.get(packet.namespace)
        if client is None or client.ended:
            return
        if packet.kind is Kind.DISCONNECT:
            self._node.lifecycle.end_client(client, "client disconnect", wait=True)
        elif self._admission.refusal is not None:
            self._node.refusals.count(self._admission.refusal.code)
        elif packet.kind is Kind.ACK:
            self._acknowledge(client, packet.id, packet.data)
        else:
            self._dispatch(client, packet)

    def _connect(self, namespace: str, auth: Any) -> None:
        node, down, client = self._node, self._down, None
        with self.engine.lock:
            # Events from here on are for the client if it is let in; it must not get them before the answer.
            down.barrier = node.log.newest
        try:
            self._admission.connect(auth)
            if len(self.clients) >= MAX_SESSION_CLIENTS and namespace not in self.clients:
                raise RequestError(f"a session has at most {MAX_SESSION_CLIENTS} namespaces", code="too_many_clients")
            with _request(self._node, self._opening):
                node.authorizer.check(node.app, "stream", namespace)
                client = node.lifecycle.open_client(self._opening.opening_environ(), namespace, auth,
                                                    session=down.stream.session, with_stream=True)
        except HybridError as error:
            node.refusals.count(error.code)
            answer, said, after = Kind.CONNECT_ERROR, _why(error), 0
        except BaseException:
            answer, said, after = Kind.CONNECT_ERROR, {"message": "the connect handler failed"}, 0
            raise
        else:
            answer, said, after = Kind.CONNECT, {"sid": client.sid}, client.since
        finally:
            with self.engine.lock:
                down.outbox.put_control(after, answer, namespace, said)
                down.barrier = None
                if self.engine.transport == "websocket" and node.log.newest > after:
                    down.pause = after
                    self._later(PAUSE_S, self._go_on)
                if namespace in self.clients or len(self.clients) < MAX_SESSION_CLIENTS:
                    self.clients[namespace] = client
                self.deciding.discard(namespace)
            self.engine.notify()

    def _go_on(self) -> None:
        with self.engine.lock:
            self._down.pause = None
        self.engine.notify()

    def _dispatch(self, client: Client, packet: SocketPacket) -> None:
        node, (name, *args) = self._node, packet.data
        try:
            with _request(self._node, self._opening):
                answer = node.lifecycle.dispatch(client, name if isinstance(name, str) else repr(name), tuple(args))
        except HybridError as error:
            node.refusals.count(error.code)
            return
        if packet.id is None:
            return
        values = () if answer is None else answer if isinstance(answer, tuple) else (answer,)
        try:
            text = Event("ack", node.encode("ack", values), len(values)).args_text
        except EventError as error:
            logger.error("the handler of %r returned what cannot be sent as JSON: %s", name, error.__cause__ or error)
            return
        with self.engine.lock:  # after everything that the handler has emitted
            self._down.outbox.put_ack(node.log.newest, client.namespace, packet.id, text)
        self.engine.notify()

    def _acknowledge(self, client: Client, number: int | None, args: list[Any]) -> None:
        try:
            with _request(self._node, self._opening):
                self._node.acks.answer_number(-1 if number is None else number, client, args)
        except RequestError:  # it was answered, or is not waited for any more
            pass
        except Exception:  # the host's fault
            logger.exception("the callback of an acknowledged event raised")

    def end(self, reason: str) -> None:
        """End the clients, and their stream.

        :param reason: why, in the words that ``disconnect`` handlers know.
        """
        node, session = self._node, self._down.stream.session
        for client in session.living:
            node.lifecycle.end_client(client, reason, wait=True)
        for client in session.clients:
            node.hub.release(client)
        end = StreamEnd.GAP if self._down.lost else StreamEnd.STOPPED if node.stopping else StreamEnd.GONE
        node.lifecycle.stream_ended(self._down.stream, end)


def _request(node: Node, opening: OpeningRequest) -> AbstractContextManager[object]:
    """Return a context in which the function that decides what clients may do sees the opening request."""
    return node.app.request_context(opening.opening_environ()) if node.authorizer.decides else nullcontext()


def _why(error: HybridError) -> dict[str, Any]:
    """Return what a client is told of a refusal, as python-socketio says it."""
    if error.code == "unknown_namespace":
        return {"message": "Invalid namespace"}
    if error.code == "connection_refused":
        return {key: error.extra[key] for key in ("message", "data") if key in error.extra}
    return {"message": error.detail, "data": error.problem()}
