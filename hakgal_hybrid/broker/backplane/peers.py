"""Peers: the processes that have one log, as each of them says of itself. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from .shared_log import START, Said

#: How many processes are known at a time; the one that has been silent longest is forgotten for one more.
MAX_PEERS = 1000


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that is alive.

    :ivar process: its name.
    :ivar host: the name of its machine.
    :ivar pid: its process id there.
    :ivar kind: what it does: ``host`` or ``edge``.
    :ivar clients: how many clients it has.
    :ivar streams: how many of them have their stream open, or share one.
    :ivar position: the last id that it had read.
    :ivar lag_s: how old the newest event that it had read was then, by the clocks of both machines, in seconds; 0 if
        there is nothing to read.
    :ivar heard_s: how long ago it said so, in seconds.
    :ivar here: true for the process that is asked.
    """

    process: str
    host: str = ""
    pid: int = 0
    kind: str = "host"
    clients: int = 0
    streams: int = 0
    position: str = str(START)
    lag_s: float = 0.0
    heard_s: float = 0.0
    here: bool = False

    @classmethod
    def parse(cls, process: str, about: bytes, heard_s: float, *, here: bool) -> Peer:
        """Return what a process says of itself.

        :param process: its name.
        :param about: what it says, JSON.
        :param heard_s: how long ago, in seconds.
        :param here: true for this process.
        :return: the peer.
        :raises ValueError: for what no version of this package says.
        """
        try:
            said = json.loads(about)
            return cls(process, str(said["host"]), int(said["pid"]), str(said.get("kind", "host")),
                       int(said.get("clients", 0)), int(said.get("streams", 0)), str(said["position"]),
                       float(said.get("lag_s", 0)), heard_s, here)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{about!r:.80} says nothing of a process") from error


class Peers:
    """The living processes. One thread adds; any may ask.

    :param alive_s: for how long what a process says counts, in seconds.
    :param clock: returns seconds.
    """

    def __init__(self, alive_s: float, clock: Callable[[], float]) -> None:
        self._alive_s, self._clock = alive_s, clock
        #: Replaced by each change, never changed: when each process has spoken last, and what it said.
        self._said: dict[str, tuple[float, bytes]] = {}

    def heard(self, news: list[Said]) -> None:
        """Take what processes say.

        :param news: what they say, in order.
        """
        said, now = self._living(), self._clock()
        for process, about, age_s in news:
            said.pop(process, None)
            if about and age_s < self._alive_s:
                said[process] = now - age_s, about
        for process in list(said)[:max(0, len(said) - MAX_PEERS)]:
            del said[process]
        self._said = said

    def doubt(self, process: str) -> None:
        """Forget a process until it speaks again. Any thread may call it.

        :param process: its name.
        """
        self._said = {name: said for name, said in self._said.items() if name != process}

    def others(self, here: str) -> int:
        """Return how many living processes there are besides this one.

        :param here: the name of this process.
        """
        return sum(process != here for process in self._living())

    def _living(self) -> dict[str, tuple[float, bytes]]:
        since = self._clock() - self._alive_s
        return {process: said for process, said in self._said.items() if said[0] > since}

    def __contains__(self, process: str) -> bool:
        found = self._said.get(process)
        return found is not None and found[0] > self._clock() - self._alive_s

    def __len__(self) -> int:
        return len(self._living())

    def get(self, process: str) -> Peer | None:
        """Return a process that is alive; ``None`` if it is not.

        :param process: its name.
        """
        return next((peer for peer in self.listed("") if peer.process == process), None)

    def listed(self, here: str) -> list[Peer]:
        """Return the living processes, in the order of their machines and process ids.

        :param here: the name of this process.
        """
        found, now = [], self._clock()
        for process, (at, about) in self._living().items():
            try:
                found.append(Peer.parse(process, about, round(now - at, 1), here=process == here))
            except ValueError:  # of another version
                found.append(Peer(process, heard_s=round(now - at, 1), here=process == here))
        return sorted(found, key=lambda peer: (peer.host, peer.pid, peer.process))
