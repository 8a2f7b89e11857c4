"""Acknowledgements of events that another process has emitted: its callback is called there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...broker.entry import Entry
from ...broker.event import Event
from ...broker.hub import Hub
from ...logs import get_logger
from ..acks import Acks
from ..worker import Worker
from .requests import Post

logger = get_logger(__name__)

#: How many acknowledgements from other processes wait for their callbacks; one more is dropped.
MAX_WAITING = 10_000


class AckForwarding:
    """Takes acknowledgements to the process that waits for them, and takes those for this one.

    :param hub: the clients of this process.
    :param acks: the callbacks of this process.
    :param post: sends a message to a process, by its name.
    """

    def __init__(self, hub: Hub, acks: Acks, post: Post) -> None:
        self._hub, self._acks, self._post = hub, acks, post
        self._worker = Worker("hakgal-hybrid-acks", limit=MAX_WAITING)

    def foreign(self, event: Event) -> Callable[[Entry], object] | None:
        """Return what is to be done with the entry of an event of another process before a client can see it.

        :param event: the event.
        """
        return None if event.ack is None else self._expect

    def _expect(self, entry: Entry) -> None:
        ack, target = entry.event.ack, entry.event.target
        if ack and (target.rooms is None or self._hub.audience(entry.seq, target)):
            self._acks.expect(ack, partial(self._forward, ack), entry)

    def _forward(self, ack: str, sid: str, args: list[Any]) -> None:
        """Tell the process that has emitted an event what a client has answered."""
        self._post(ack.partition(".")[0], ["ack", ack, sid, args])

    def received(self, ack: str, sid: str, args: list[Any]) -> None:
        """Call the callback of an acknowledgement that another process has sent, in the background.

        :param ack: the event's id for acknowledgements.
        :param sid: the client's ``sid``.
        :param args: what the client answers.
        """
        if not self._worker.submit(partial(self._call, str(ack), str(sid), list(args))):
            logger.error("an acknowledgement of another process was dropped: too many are waiting")

    def _call(self, ack: str, sid: str, args: list[Any]) -> None:
        try:
            self._acks.answered(ack, sid, args)
        except Exception:
            logger.exception("the callback of an acknowledgement raised")
