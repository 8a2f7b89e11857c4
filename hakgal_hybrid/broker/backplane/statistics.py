"""What is known of a shared log and of those that have it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .faults import State
from .peers import Peer
from .sender import SenderStatistics
from .tail import TailStatistics


@dataclass(frozen=True, slots=True)
class BackplaneStatistics:
    """How it stands with the shared log.

    :ivar state: ``off``, ``new``, ``live``, ``settling``, ``away`` or ``misconfigured``.
    :ivar error: what is wrong, and what to do; ``None`` if nothing is.
    :ivar live: whether events of other processes come now.
    :ivar address: where the shared log is, without user and password; ``name``: which one it is there.
    :ivar sender: what the sender has done.
    :ivar tail: what was read.
    :ivar refilled: how many entries this process has put back.
    :ivar lag_s: how old the newest event that it has read was then, in seconds; 0 if there is nothing to read.
    :ivar processes: how many processes are alive.
    :ivar clients: how many clients they have together.
    :ivar streams: how many streams.
    :ivar peers: the living processes, this one included.
    """

    state: str = "off"
    error: str | None = None
    live: bool = False
    address: str | None = None
    name: str | None = None
    sender: SenderStatistics = SenderStatistics()
    tail: TailStatistics = field(default_factory=TailStatistics)
    refilled: int = 0
    lag_s: float = 0.0
    processes: int = 0
    clients: int = 0
    streams: int = 0
    peers: list[Peer] = field(default_factory=list)


def worse_of(reading: State, sending: str) -> str:
    """Return the worse one of two states; that of the reader if neither says more.

    :param reading: the reader's.
    :param sending: the sender's.
    """
    worst = (State.MISCONFIGURED, State.AWAY, State.SETTLING)
    return next((state for state in worst if state in (reading, sending)), reading).value
