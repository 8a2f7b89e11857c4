"""Listener: is called with what comes by a shared log. Its methods run in the reader's thread, and must be quick."""

from __future__ import annotations

from typing import NamedTuple

from ..event import Event
from .payloads import Control
from .read_back import Prepare
from .shared_log import Position
from .tail import Hole


class Population(NamedTuple):
    """What a process serves.

    :ivar kind: what it does: ``host`` or ``edge``.
    :ivar clients: how many clients it has.
    :ivar streams: how many streams are open.
    """

    kind: str = "host"
    clients: int = 0
    streams: int = 0


class Arrived(NamedTuple):
    """An event that has come into the log.

    :ivar event: the event.
    :ivar seq: its number.
    :ivar here: true if this process has emitted it.
    :ivar past: true if it was emitted before this process began, so that it is no news.
    """

    event: Event
    seq: int
    here: bool
    past: bool


class Listener:
    """Does nothing; what does something overrides its methods."""

    def population(self) -> Population:
        """Return what this process serves."""
        return Population()

    def foreign(self, event: Event) -> Prepare | None:
        """Return what is called with the entry of an event of another process before a client can see it.

        :param event: the event.
        """

    def read(self, arrived: list[Arrived]) -> None:
        """Take note of events that have come into the log.

        :param arrived: the events, in order.
        """

    def control(self, control: Control, at: Position, *, past: bool) -> None:
        """Do what a process asks for.

        :param control: what is asked for.
        :param at: the place of that in the shared log.
        :param past: true if it was asked for before this process began.
        """

    def message(self, message: bytes) -> None:
        """Take what another process has sent to this one.

        :param message: the message.
        """

    def undelivered(self, message: bytes) -> None:
        """Take note that a process is gone that a message was for. Called in the sender's thread.

        :param message: the message.
        """

    def lost(self, hole: Hole, *, past: bool) -> None:
        """Take note of something that is missing.

        :param hole: what is missing.
        :param past: true if it was lost before this process began, so that it is no news.
        """

    def changed(self) -> None:
        """Take note that the state has changed. It may also be called in the sender's thread."""
