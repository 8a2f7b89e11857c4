"""Formats: the forms in which a stream may carry its events."""

from __future__ import annotations

from enum import Enum


class Format(Enum):
    """How a stream carries events. Ids, resuming, gaps and heartbeats are the same in all of them."""

    #: Named events with JSON data.
    JSON = "json"
    #: Unnamed messages that carry everything, ``envelope=1``.
    ENVELOPE = "envelope"
    #: Named events with HTML, for htmx 2.
    HTML = "html"
    #: HTML in unnamed messages, for Turbo and htmx 4.
    UNNAMED_HTML = "html&unnamed=1"
    #: What Datastar reads.
    DATASTAR = "datastar"
