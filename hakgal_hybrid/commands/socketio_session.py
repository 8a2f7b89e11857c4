"""SocketIOSession: what a session of Engine.IO carries here: a client for each namespace, fed from the log.

Packets of the client are read in the thread that brings them, and carried out one after the other in another one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..broker.blocks import SERVER_DISCONNECT
from ..broker.client import Client, Session
from ..broker.engineio.packets import Framing, ProtocolError
from ..broker.engineio.session import EngineSession
from ..broker.engineio.socketio_packets import Kind
from ..broker.engineio.socketio_reader import IncomingPacket, PacketReader
from ..broker.stream import SubscriberStream
from ..logs import get_logger
from .socketio_admission import Admission
from .socketio_calls import NONE, Sharing, SocketIOCalls, crowded
from .socketio_recovery import may_recover
from .socketio_stream import SocketIOStream

logger = get_logger(__name__)

#: How long a session may be without a client that has asked for a namespace, and may (seconds).
CONNECT_S = 10.0
#: How long the attachments of one packet may take, from the packet on (seconds).
ATTACHMENTS_S = 30.0
#: How large a message of a client may be that still has to show the key (bytes).
MAX_UNPROVEN = 16 * 1024
#: How many namespaces a client may ask for at once. Each is answered, also if there are too many for one session.
MAX_DECIDING = 1024


class SocketIOSession:
    """The Socket.IO part of one session of Engine.IO.

    :param sharing: what all sessions share.
    :param environ: the WSGI environment of the request that opens the session.
    :param admission: what the client may do; it is ended with the session.
    :raises Overloaded: if there are too many streams.
    """

    __slots__ = ("_admission", "_attach_until", "_calls", "_down", "_held", "_kept", "_leaving", "_node", "_reader",
                 "_reason", "_sharing")

    def __init__(self, sharing: Sharing, environ: dict[str, Any], admission: Admission) -> None:
        node = self._node = sharing.node
        self._reader: PacketReader | None = None  # while attachments are awaited
        self._sharing, self._admission = sharing, admission
        self._attach_until: float | None = None
        self._reason, self._leaving = "", NONE  # and what the client has left, and has not asked for again
        self._kept = self._held = 0  # bytes of a packet that awaits attachments, and of a message that is incomplete
        session = node.hub.new_session(environ)
        self._down = SocketIOStream(session, node.hub, node.stream_options, node.lifecycle,
                                    offsets=may_recover(node.settings, environ), budget=sharing.budget)
        stream = self._down.stream
        try:
            node.hub.sessions.attach(session, stream)
            stream.opening()
        except BaseException:
            node.hub.sessions.drop(session)
            raise
        self._calls = SocketIOCalls(sharing, environ, self._down, admission)

    # -- what the session of Engine.IO calls, under its lock -------------------------------------------------

    def opened(self, session: EngineSession) -> None:
        """Begin.

        :param session: the session of Engine.IO.
        """
        self._calls.engine = session
        if self._down.offsets:
            self._down.stream.session.on_deserted = partial(session.fail, "transport close")
        self._sharing.later(CONNECT_S, self._check_used)

    def _check_used(self) -> None:
        """Close the session if its client has not asked for a namespace, or has not shown the key that it needs."""
        if self._admission.provisional or not (self._calls.known or self._calls.deciding):
            self._calls.engine.close("transport error")

    def _check_attachments(self) -> None:
        """Close the session if the attachments of a packet have taken too long."""
        with self._calls.engine.lock:
            if self._reader is None or self._attach_until is None:
                self._attach_until = None
                return
            wait = self._attach_until - self._sharing.clock()
            if wait > 0:
                self._sharing.later(wait, self._check_attachments)
            else:
                self._calls.engine.close("transport error")

    def message(self, message: str | bytes) -> None:
        """Take a message of the client.

        :param message: the message.
        :raises ProtocolError: for one that a client must not send.
        """
        if not self._sharing.budget.take(len(message)):
            crowded(self._node)
            raise ProtocolError("there is no room for it")
        self._kept += len(message)  # whatever is raised, closing frees it
        begun = self._reader is not None
        packet = self._read(message)
        if packet is None:
            if not begun:
                before, self._attach_until = self._attach_until, self._sharing.clock() + ATTACHMENTS_S
                if before is None:  # one timer for all packets that come until it fires
                    self._sharing.later(ATTACHMENTS_S, self._check_attachments)
            return
        if self._admission.provisional and (packet.kind is not Kind.CONNECT or packet.size > MAX_UNPROVEN):
            raise ProtocolError("a client that still has to show the key sends something else")
        if packet.kind is Kind.CONNECT:
            if not self._may_connect(packet.namespace):
                self._free()
                return
            self._calls.deciding |= {packet.namespace}
        elif not self._calls.known.knows(packet.namespace) and packet.namespace not in self._calls.deciding:
            if packet.kind is Kind.DISCONNECT:  # some clients leave where they never were
                self._free()
                return
            raise ProtocolError(f"a packet for the namespace {packet.namespace[:80]!r}, which is not connected")
        elif packet.kind is Kind.DISCONNECT:
            self._leaving |= {packet.namespace}
        self._kept = 0  # which is freed when it is carried out
        self._calls.put(packet)

    def _free(self) -> None:
        self._sharing.budget.give_back(self._kept)
        self._kept = 0

    def holds(self, size: int) -> bool:
        """Note how much of a message has come that is not complete yet.

        :param size: how many bytes.
        :return: false if that is too much, because all clients together have sent too much.
        """
        if not self._sharing.budget.take(size - self._held):
            crowded(self._node)
            return False
        self._held = size
        return True

    def _read(self, message: str | bytes) -> IncomingPacket | None:
        reader = self._reader or self._sharing.new_reader()
        packet = reader.read(message)
        self._reader = reader if reader.incomplete else None
        return packet

    def take(self, framing: Framing, packets: int) -> bytes:
        """Return what is to be sent next.

        :param framing: how packets are carried.
        :param packets: how many there may be at most, in polling.
        :return: blocks; nothing if there is nothing.
        """
        blocks = self._down.take(framing, packets)
        if self._down.lost:
            logger.info("closed a session of Socket.IO, whose client was too slow for the log; it connects again")
            self._node.engine_counters.count("gaps")
            self._calls.engine.close("transport close")
        elif blocks:
            self._calls.resume()
        elif not self._calls.deciding and _dismissed(self._down.stream.session, self._calls.known.clients()):
            self._calls.engine.close("server disconnect")
        return blocks

    @property
    def busy(self) -> bool:
        """True while the client may not send more."""
        return self._calls.inbox is not None and self._calls.inbox.full

    def when_room(self, call: Callable[[], object]) -> None:
        """Call a function as soon as the client may send more.

        :param call: the function.
        """
        self._calls.when_room(call)

    def shareable(self, framing: Framing) -> SubscriberStream | None:
        """Return what its events are read by, if all that it sends next are events.

        :param framing: how packets are carried.
        """
        return self._down.stream if self._down.shareable(framing) else None

    def left(self) -> None:
        """Note that its stream shares events with no other any more."""
        reason, self._reason = self._reason, ""
        if reason:
            self.closed(reason)
        if self._down.missed:
            self._down.missed = False
            self._calls.engine.notify()

    def oversized(self, size: int) -> None:
        """Note that the client has sent a body or message that is too large, which is not taken.

        :param size: how large it is, at least, in bytes.
        """
        node, address = self._node, self._down.stream.session.address
        node.engine_counters.oversized(address, size, node.engine_options.max_payload)

    def closed(self, reason: str) -> None:
        """End. What the client has sent before is carried out first.

        :param reason: why.
        """
        if self._down.stream.group is not None:
            self._reason = reason  # its writer has it leave the others first
        else:
            self._node.engine_counters.ended(reason)
            self._admission.end()
            self._free()
            self.holds(0)
            self._calls.put_end(reason)

    def _may_connect(self, namespace: str) -> bool:
        """Say whether a namespace can be asked for; false while the host decides about it already.

        :raises ProtocolError: if the client is connected to it, or has asked for too many.
        """
        if namespace in self._leaving:  # that it has left it may still have to be carried out
            self._leaving = self._leaving - {namespace} or NONE
            return True
        client = self._calls.known.find(namespace)
        if (client is not None and not client.ended) or len(self._calls.deciding) >= MAX_DECIDING:
            raise ProtocolError(f"the namespace {namespace[:80]!r} is connected already, or one too many at once")
        return namespace not in self._calls.deciding


def _dismissed(session: Session, clients: list[Client]) -> bool:
    """Return true if the host has ended the last of a session's clients, and the client knows it."""
    return not session.clients and any(client.end_reason == SERVER_DISCONNECT for client in clients)
