"""Formats: the forms in which a stream may carry its events."""

from __future__ import annotations

from enum import Enum

from .engineio.packets import Framing


class Format(Enum):
    """How a stream carries events. Ids, resuming, gaps and heartbeats are the same in all event streams."""

    #: Named events with JSON data.
    JSON = "json"
    #: Unnamed messages that carry everything, ``envelope=1``.
    ENVELOPE = "envelope"
    #: The same, each in a text frame of a WebSocket.
    ENVELOPE_FRAMES = "envelope frames"
    #: Named events with HTML, for htmx 2.
    HTML = "html"
    #: HTML in unnamed messages, for Turbo and htmx 4.
    UNNAMED_HTML = "html&unnamed=1"
    #: What Datastar reads.
    DATASTAR = "datastar"
    #: Packets of Socket.IO in answers to polls. Nothing but events and the end of a client is written.
    SOCKETIO_POLLING = "socketio polling"
    #: Packets of Socket.IO in frames of a WebSocket.
    SOCKETIO_WEBSOCKET = "socketio websocket"
    #: The same with the id of each event as its last argument, by which a client says what it has.
    SOCKETIO_POLLING_OFFSETS = "socketio polling, offsets"
    SOCKETIO_WEBSOCKET_OFFSETS = "socketio websocket, offsets"

    @property
    def framing(self) -> Framing | None:
        """How packets of Socket.IO are carried; ``None`` for event streams."""
        return _FRAMINGS.get(self)

    @property
    def enveloped(self) -> bool:
        """True if what carries an event says everything about it."""
        return self in (Format.ENVELOPE, Format.ENVELOPE_FRAMES)

    @property
    def offsets(self) -> bool:
        """True if the id of an event is its last argument."""
        return self in (Format.SOCKETIO_POLLING_OFFSETS, Format.SOCKETIO_WEBSOCKET_OFFSETS)

    @classmethod
    def framed(cls, framing: Framing, *, offsets: bool = False) -> Format:
        """Return the format of packets of Socket.IO.

        :param framing: how they are carried.
        :param offsets: whether the id of each event is its last argument.
        """
        if framing is Framing.POLLING:
            return cls.SOCKETIO_POLLING_OFFSETS if offsets else cls.SOCKETIO_POLLING
        return cls.SOCKETIO_WEBSOCKET_OFFSETS if offsets else cls.SOCKETIO_WEBSOCKET


_FRAMINGS = {Format.SOCKETIO_POLLING: Framing.POLLING, Format.SOCKETIO_POLLING_OFFSETS: Framing.POLLING,
             Format.SOCKETIO_WEBSOCKET: Framing.WEBSOCKET, Format.SOCKETIO_WEBSOCKET_OFFSETS: Framing.WEBSOCKET}
#: Those of event streams.
EVENT_STREAMS = tuple(form for form in Format if form.framing is None and form is not Format.ENVELOPE_FRAMES)
