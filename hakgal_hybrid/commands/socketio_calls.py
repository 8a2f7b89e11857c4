"""SocketIOCalls: carries out the packets of one session of Socket.IO, one after the other, in threads of the inbox."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from ..broker.budget import Budget
from ..broker.client import MAX_SESSION_CLIENTS, Client
from ..broker.engineio.packets import ProtocolError
from ..broker.engineio.session import EngineSession
from ..broker.engineio.socketio_packets import Kind, SocketPacket
from ..broker.engineio.socketio_reader import IncomingPacket, PacketReader
from ..broker.environ import OpeningRequest
from ..broker.event import Event
from ..broker.states import StreamEnd
from ..errors import EventError, HybridError, RequestError
from ..logs import get_logger
from .inbox import Inbox
from .node import Node
from .socketio_admission import Admission
from .socketio_namespaces import NO_NAMESPACES
from .socketio_recovery import admitted, claim_of, pid_of
from .socketio_stream import SocketIOStream

logger = get_logger(__name__)

#: How long after the answer to a connect the first event is sent on a WebSocket (seconds). Bare WebSocket clients that
#: await one message after the other lose what comes in one piece with it.
PAUSE_S = 0.01
NONE: frozenset[str] = frozenset()  # one for all


class Sharing(NamedTuple):
    """What the sessions of one app share.

    :ivar node: the log, the clients and the host's handlers.
    :ivar submit: has a function called in a thread of its own; false if it cannot.
    :ivar pace: takes an address; returns 0 if a message of it may be carried out, else after how many seconds to ask
        again.
    :ivar later: has a function called after some seconds, in a thread that must not wait.
    :ivar clock: monotonic seconds.
    :ivar budget: has room for what clients send until it is carried out, and for what they do not fetch.
    """

    node: Node
    submit: Callable[[Callable[[], object]], bool]
    pace: Callable[[str], float] = lambda address: 0.0
    later: Callable[[float, Callable[[], object]], object] = lambda seconds, call: call()
    clock: Callable[[], float] = time.monotonic
    budget: Budget = Budget(1 << 62)

    def new_reader(self) -> PacketReader:
        """Return what reads the messages of one session."""
        node = self.node
        return PacketReader(node.engine_options.max_payload, None if node.json is None else node.json.loads)


class SocketIOCalls:
    """What a session's client asks for: to be in a namespace, to have handlers and callbacks run.

    :param sharing: what all sessions share.
    :param environ: the WSGI environment of the request that has opened the session.
    :param down: what is sent to the client.
    :param admission: what it may do.
    :ivar known: the client of each namespace.
    :ivar deciding: the namespaces that the host decides about.
    :ivar inbox: what waits; ``None`` if nothing does.
    :ivar engine: the session of Engine.IO; set before anything is carried out.
    """

    __slots__ = ("_admission", "_broken", "_down", "_node", "_opening", "_sharing", "deciding", "engine", "inbox",
                 "known")

    def __init__(self, sharing: Sharing, environ: dict[str, Any], down: SocketIOStream, admission: Admission) -> None:
        node = self._node = sharing.node
        self._sharing, self._down, self._admission = sharing, down, admission
        self.inbox: Inbox | None = None
        self._broken = False
        self._opening = OpeningRequest({**environ, "flask.app": node.app})  # as its clients keep it, so it is kept once
        self.known = NO_NAMESPACES
        self.deciding: frozenset[str] = NONE
        self.engine: EngineSession

    # -- in order --------------------------------------------------------------------------------------------

    def put(self, packet: IncomingPacket) -> None:
        """Have a packet carried out after all that came before it.

        :param packet: the packet.
        """
        self._waiting().put(partial(_freeing, self._sharing.budget, self._carry_out, packet), packet.size)

    def put_end(self, reason: str) -> None:
        """Have all ended after everything that was sent before.

        :param reason: why, in the words that ``disconnect`` handlers know.
        """
        self._waiting().put(partial(self._end, reason))

    def resume(self) -> None:
        """Go on, if the client has fetched what had to be fetched first."""
        if self.inbox is not None:
            self.inbox.resume()

    def when_room(self, call: Callable[[], object]) -> None:
        """Call a function as soon as the client may send more.

        :param call: the function.
        """
        with self.engine.lock:
            if self.inbox is not None:
                self.inbox.when_room(call)
                return
        call()

    def _waiting(self) -> Inbox:
        """Return what waits. It is kept while there is some: there are many clients, and most of them send little."""
        if self.inbox is None:
            sharing = self._sharing
            self.inbox = Inbox(sharing.submit, sharing.node.engine_options.max_payload, self._may_run,
                               pace=self._pace, later=sharing.later, lock=self.engine.lock,
                               on_idle=partial(setattr, self, "inbox", None))
        return self.inbox

    def _may_run(self) -> bool:
        """Say whether more of the client may be carried out: not while it fetches no answers."""
        return not self._down.full or self.engine.over

    def _pace(self) -> float:
        """Return 0 if the next message of the client may be carried out, else after how many seconds to ask again."""
        address = self._down.stream.session.address
        wait = self._sharing.pace(address)
        if wait and self._node.engine_counters.count("delayed"):
            logger.warning("a client of Socket.IO at %s sends faster than HYBRID_COMMAND_RATE; its messages wait",
                           address)
        return wait

    def _carry_out(self, incoming: IncomingPacket) -> None:
        """Carry out a packet, which is parsed only here if it is large."""
        if self._broken:
            return
        try:
            packet = incoming.complete(self._sharing.new_reader().loads)
        except ProtocolError as error:
            self._broken = True
            logger.info("closed a session of Socket.IO: %s", error)
            self.engine.close("transport error")
            return
        if packet.kind is Kind.CONNECT:
            self._connect(packet.namespace, packet.data)
            return
        client = self.known.find(packet.namespace)
        if client is None or client.ended or client.session is not self._down.stream.session:
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
        node, down, client, replay = self._node, self._down, None, None
        claim, auth = claim_of(auth)
        with self.engine.lock:
            # Events from here on are for the client if it is let in; it must not get them before the answer.
            down.barrier = node.log.newest
        try:
            self._admission.connect(auth)
            if len(self.known) >= MAX_SESSION_CLIENTS and not self.known.knows(namespace):
                raise RequestError(f"a session has at most {MAX_SESSION_CLIENTS} namespaces", code="too_many_clients")
            with _request(self._node, self._opening):
                node.authorizer.check(node.app, "stream", namespace)
                client, replay = admitted(node, down.stream.session, self._opening.opening_environ(), namespace, auth,
                                          claim if down.offsets else None)
        except HybridError as error:
            node.refusals.count(error.code)
            answer, said, after = Kind.CONNECT_ERROR, _why(error), 0
        except BaseException:
            answer, said, after = Kind.CONNECT_ERROR, {"message": "the connect handler failed"}, 0
            raise
        else:
            answer, said, after = Kind.CONNECT, {"sid": client.sid}, max(client.since, client.replayed_upto)
            if down.offsets:
                said["pid"] = pid_of(client)
        finally:
            with self.engine.lock:
                down.outbox.put_control(after, answer, namespace, said)
                if replay is not None:
                    down.put_replay(after, replay)
                down.barrier = None
                if self.engine.transport == "websocket" and node.log.newest > after:
                    down.pause = after
                    self._sharing.later(PAUSE_S, self._go_on)
                if client is not None and replay is None:
                    self._opening = client  # it keeps the same request
                if self.known.knows(namespace) or len(self.known) < MAX_SESSION_CLIENTS:
                    self.known = self.known.with_one(namespace, client)
                self.deciding = self.deciding - {namespace} or NONE
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
        if not self._sharing.budget.take(len(text)):
            crowded(node)
            self.engine.close("transport error")
            return
        emitted = node.hub.broker.settled()
        with self.engine.lock:  # after everything that the handler has emitted
            self._down.outbox.put_ack(emitted, client.namespace, packet.id, text)
        self.engine.notify()

    def _acknowledge(self, client: Client, number: int | None, args: list[Any]) -> None:
        try:
            with _request(self._node, self._opening):
                self._node.acks.answer_number(-1 if number is None else number, client, args)
        except RequestError:  # it was answered, or is not waited for any more
            pass
        except Exception:  # the host's fault
            logger.exception("the callback of an acknowledged event raised")

    def _end(self, reason: str) -> None:
        node, session = self._node, self._down.stream.session
        for client in session.living:
            if self._down.offsets and not self._down.lost and not node.stopping:
                client.end_reason = reason  # for when it does not come back
            else:
                node.lifecycle.end_client(client, reason, wait=True)
        for client in session.clients:
            node.hub.release(client)
        with self.engine.lock:
            self._down.clear()
        end = StreamEnd.GAP if self._down.lost else StreamEnd.STOPPED if node.stopping else StreamEnd.GONE
        node.lifecycle.stream_ended(self._down.stream, end)


def _freeing(budget: Budget, call: Callable[[IncomingPacket], object], packet: IncomingPacket) -> None:
    """Call a function with a packet, which is not kept any more after that."""
    try:
        call(packet)
    finally:
        budget.give_back(packet.size)


def crowded(node: Node) -> None:
    """Count and log that a session is closed because all clients together have the server keep too much.

    :param node: counts it.
    """
    node.refusals.count("too_many_requests_waiting")
    logger.warning("closed a session of Socket.IO: what clients have sent and not fetched is more than "
                   "HYBRID_QUEUE_BYTES")


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
