"""LogAndHub: a log, a hub and settings, and how to open streams on them."""

from __future__ import annotations

from typing import Any

from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.client import Client
from hakgal_hybrid.broker.entry import Gap
from hakgal_hybrid.broker.event import Event, Target, glob_matcher
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.broker.subscription import StreamOptions, StreamRequest

from .hubs import admit, carried, make_hub

EPOCH = 1755412806000
TS = EPOCH + 7


class LogAndHub:
    """A log, a hub and settings, and how to open streams on them."""

    def __init__(self, **log: Any) -> None:
        self.now = 0.0
        limits = {"max_events": 100, "max_bytes": 1 << 20, "max_event_bytes": 1 << 19, **log}
        self.log = EventLog(epoch=EPOCH, clock=lambda: self.now, wall_ms=lambda: TS, encode=encode_entry,
                            conflates=glob_matcher(["load*"]), **limits)
        self.hub = make_hub(self.log)
        self.gaps: list[tuple[Client, Gap]] = []

    def emit(self, name: str, *args: Any, **target: Any) -> None:
        self.hub.broker.publish(Event.create(name, args, Target.create(**target)))

    def open(self, *, opened: bool = True, **request: Any) -> SubscriberStream:
        namespace = request.get("namespace", "/")
        session = admit(self.hub, namespace).session
        feed = carried(SubscriberStream(session, self.hub, StreamOptions(), StreamRequest(**request),
                            lambda client, gap: self.gaps.append((client, gap))))
        if opened:
            feed.opening()
        return feed
