"""SocketIOSession: what a session of Engine.IO carries here: a client for each namespace, fed from the log.

Packets of the client are read in the thread that brings them, and carried out one after the other in another one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..broker.blocks import SERVER_DISCONNECT
from ..broker.engineio.packets import Framing, ProtocolError
from ..broker.engineio.session import EngineSession
from ..broker.engineio.socketio_packets import Kind, PacketReader
from ..broker.stream import SubscriberStream
from ..errors import AccessDenied
from ..logs import get_logger
from .inbox import Inbox
from .node import Node
from .socketio_calls import SocketIOCalls
from .socketio_stream import SocketIOStream

logger = get_logger(__name__)


class SocketIOSession:
    """The Socket.IO part of one session of Engine.IO.

    :param node: the log, the clients and the host's handlers.
    :param environ: the WSGI environment of the request that opens the session.
    :param submit: has a function called in a thread of its own; false if it cannot.
    :param max_bytes: how large a packet may be together with its attachments.
    :param refusal: why events of the client are not carried out, if they are not.
    :raises Overloaded: if there are too many streams.
    """

    def __init__(self, node: Node, environ: dict[str, Any], submit: Callable[[Callable[[], object]], bool], *,
                 max_bytes: int, refusal: AccessDenied | None = None) -> None:
        self._reader = PacketReader(max_bytes, None if node.json is None else node.json.loads)
        self.inbox = Inbox(submit, max_bytes, self._may_run)
        self._reason = ""
        session = node.hub.new_session(environ)
        self._down = SocketIOStream(session, node.hub, node.stream_options, node.lifecycle.on_gap)
        stream = self._down.stream
        try:
            node.hub.sessions.attach(session, stream)
            stream.opening()
        except BaseException:
            node.hub.sessions.drop(session)
            raise
        self._calls = SocketIOCalls(node, environ, self._down, refusal)

    @property
    def used(self) -> bool:
        """True once the client has asked for a namespace."""
        return bool(self._calls.clients or self._calls.deciding)

    # -- what the session of Engine.IO calls, under its lock -------------------------------------------------

    def opened(self, session: EngineSession) -> None:
        """Begin.

        :param session: the session of Engine.IO.
        """
        self._calls.engine = session

    def message(self, message: str | bytes) -> None:
        """Take a message of the client.

        :param message: the message.
        :raises ProtocolError: for one that a client must not send.
        """
        packet = self._reader.read(message)
        if packet is None:
            return
        if packet.kind is Kind.CONNECT:
            if not self._may_connect(packet.namespace):
                return
            self._calls.deciding.add(packet.namespace)
        elif packet.namespace not in self._calls.clients and packet.namespace not in self._calls.deciding:
            raise ProtocolError(f"a packet for the namespace {packet.namespace[:80]!r}, which is not connected")
        self.inbox.put(lambda: self._calls.carry_out(packet), len(message))

    def take(self, framing: Framing, packets: int) -> bytes:
        """Return what is to be sent next.

        :param framing: how packets are carried.
        :param packets: how many there may be at most, in polling.
        :return: blocks; nothing if there is nothing.
        """
        blocks = self._down.take(framing, packets)
        if self._down.lost:
            logger.info("closed a session of Socket.IO, whose client was too slow for the log; it connects again")
            self._calls.engine.close("transport close")
        elif blocks:
            self.inbox.resume()
        elif self._dismissed:
            self._calls.engine.close("server disconnect")
        return blocks

    def _may_run(self) -> bool:
        """Say whether more of the client may be carried out: not while it fetches no answers."""
        return not self._down.outbox.full or self._calls.engine.over

    @property
    def _dismissed(self) -> bool:
        """True if the host has ended the last of its clients, and the client knows it."""
        clients = [client for client in self._calls.clients.values() if client is not None]
        return bool(clients) and not self._calls.deciding and not self._down.stream.session.clients and any(
            client.end_reason == SERVER_DISCONNECT for client in clients)

    def when_room(self, call: Callable[[], object]) -> None:
        """Call a function as soon as the client may send more.

        :param call: the function.
        """
        self.inbox.when_room(call)

    def shareable(self) -> SubscriberStream | None:
        """Return what its events are read by, if all that it sends next are events, in frames."""
        return self._down.stream if self._down.shareable else None

    def left(self) -> None:
        """Note that its stream shares events with no other any more."""
        reason, self._reason = self._reason, ""
        if reason:
            self.closed(reason)

    def closed(self, reason: str) -> None:
        """End. What the client has sent before is carried out first.

        :param reason: why.
        """
        if self._down.stream.group is not None:
            self._reason = reason  # its writer has it leave the others first
        else:
            self.inbox.put(lambda: self._calls.end(reason))

    def _may_connect(self, namespace: str) -> bool:
        """Say whether a namespace can be asked for; false while the host decides about it already.

        :raises ProtocolError: if the client is connected to it.
        """
        client = self._calls.clients.get(namespace)
        if client is not None and not client.ended:
            raise ProtocolError(f"the namespace {namespace[:80]!r} is connected already")
        return namespace not in self._calls.deciding
