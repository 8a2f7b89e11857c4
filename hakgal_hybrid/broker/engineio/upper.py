"""What a session of Engine.IO carries, and what all sessions have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..stream import SubscriberStream
from .packets import Framing


class EngineOptions(NamedTuple):
    """What all sessions have in common.

    :ivar ping_interval_s: how long after a pong the next ping is sent, in seconds.
    :ivar ping_timeout_s: how long a pong may take, in seconds.
    :ivar max_payload: the largest body or message that is taken, in bytes.
    :ivar path: the path at which they are served, without a slash at its end.
    :ivar transports: what clients may come by: ``polling``, ``websocket`` or both.
    :ivar allow_upgrades: true to offer a WebSocket to those that poll.
    """

    ping_interval_s: float = 25
    ping_timeout_s: float = 20
    max_payload: int = 1_000_000
    path: str = "/socket.io"
    transports: tuple[str, ...] = ("polling", "websocket")
    allow_upgrades: bool = True

    @property
    def upgrades(self) -> bool:
        """True if a client that polls may change over to a WebSocket."""
        return self.allow_upgrades and "websocket" in self.transports


class Upper(Protocol):
    """What a session carries. Its methods are called under the session's lock, and wait for nothing."""

    def opened(self, session: Any) -> None:
        """Begin.

        :param session: the :class:`~hakgal_hybrid.broker.engineio.session.EngineSession`.
        """

    def message(self, message: str | bytes) -> None:
        """Take a message of the client.

        :param message: the message.
        :raises ProtocolError: for one that a client must not send; the session is then closed.
        """

    def take(self, framing: Framing, packets: int) -> bytes:
        """Return what is to be sent next.

        :param framing: how packets are carried.
        :param packets: how many there may be at most, in polling.
        :return: blocks; nothing if there is nothing.
        """

    def when_room(self, call: Callable[[], object]) -> None:
        """Call a function as soon as the client may send more: perhaps at once, else in another thread.

        :param call: the function. A session has few at once: a request that brings packets, a WebSocket.
        """

    def shareable(self, framing: Framing) -> SubscriberStream | None:
        """Return what its events are read by, if all that it sends next are events: its writer may then read them once
        for many sessions. ``None`` if it must be asked by :meth:`take`.

        :param framing: how packets are carried.
        """

    def left(self) -> None:
        """Note that the writer has made the stream leave those that share events."""

    @property
    def busy(self) -> bool:
        """True while the client may not send more; see :meth:`when_room`."""

    def holds(self, size: int) -> bool:
        """Note how much of a message has come that is not complete yet; 0 once it is, or will not be any more.

        :param size: how many bytes.
        :return: false if that is too much, because all clients together have sent too much.
        """

    def oversized(self, size: int) -> None:
        """Note that the client has sent a body or message that is too large, which is not taken.

        :param size: how large it is, at least, in bytes.
        """

    def closed(self, reason: str) -> None:
        """End. It is called once.

        :param reason: why, in the words that ``disconnect`` handlers know.
        """
