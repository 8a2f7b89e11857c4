"""Presence: what this process says of itself to those that have the same log, and what they say."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from .faults import Away, Misconfigured
from .listener import Listener, Population
from .peers import Peer, Peers
from .shared_log import START, Position, SharedLog

#: Seconds between two signs of life, and how long one counts; and seconds between two, if there is news.
EACH_S, ALIVE_S, NEWS_EACH_S = 10.0, 30.0, 1.0
#: Up to how many processes say within a second that their clients are more or fewer. More of them say it in their turn.
PROMPT_PEERS = 16


class Census(NamedTuple):
    """What is known of all processes.

    :ivar lag_s: how old the newest event that this process has read was then, in seconds; 0 if there is nothing to
        read.
    :ivar processes: how many processes are alive.
    :ivar clients: how many clients they have together.
    :ivar streams: how many streams.
    :ivar peers: the living processes, this one included.
    """

    lag_s: float
    processes: int
    clients: int
    streams: int
    peers: list[Peer]


class _Place(NamedTuple):
    log: SharedLog | None
    generation: int
    settling: bool


_NOWHERE = _Place(None, 0, False)


class Presence:
    """Which processes are alive.

    :param position: returns the last id that this process has read.
    :param clock: returns seconds.
    :ivar peers: the living processes.
    :ivar listener: knows what this process serves.
    :ivar lag_s: how old the newest event that this process has read was then, in seconds; 0 if there is nothing to
        read.
    """

    def __init__(self, position: Callable[[], Position | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._position, self._clock = position, clock
        self.peers = Peers(ALIVE_S, clock)
        self.listener = Listener()
        self.lag_s = 0.0
        self._said, self._said_at, self._said_in = Population(), float("-inf"), _NOWHERE
        self._ahead_ms = float("-inf")

    def renew(self) -> None:
        """Begin as another process: it has said nothing yet."""
        self._said_at = float("-inf")

    def say(self, log: SharedLog, *, settling: bool) -> None:
        """Say that this process is there, if it is time for that: at once if the log may have lost what was said.

        It may have where the connection or the generation is a new one, and again and again while it settles.

        :param log: the connection.
        :param settling: true while the log settles.
        :raises Away: if the log cannot be reached.
        """
        silent_s, population = self._clock() - self._said_at, self.listener.population()
        place = _Place(log, (self._position() or START).generation, settling)
        news = settling or (population != self._said and len(self.peers) <= PROMPT_PEERS)
        if place != self._said_in or silent_s >= EACH_S or (silent_s >= NEWS_EACH_S and news):
            now_ms = log.here(json.dumps(self._about(population)), ALIVE_S)
            self._said, self._said_at, self._said_in = population, self._clock(), place
            self._ahead_ms = now_ms - self._said_at * 1000  # or less: what the answer took counts as time that is over

    def log_ms(self, later_s: float) -> int:
        """Return a moment by the log's clock.

        :param later_s: how long from now, in seconds.
        :return: milliseconds since 1970; 0 before the log has said what time it is.
        """
        return max(0, round(self._ahead_ms + (self._clock() + later_s) * 1000)) if self._ahead_ms > float("-inf") else 0

    def say_gone(self, log: SharedLog) -> None:
        """Say that this process ends.

        :param log: the connection.
        """
        try:
            log.here("", 0)
        except (Away, Misconfigured):
            pass  # it is forgotten by itself

    def _about(self, population: Population) -> dict[str, object]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "position": str(self._position() or START),
                "lag_s": self.lag_s, **population._asdict()}

    def census(self, here: str) -> Census:
        """Return what is known of all processes; of this one what is so now.

        :param here: the name of this process.
        """
        own = Peer.parse(here, json.dumps(self._about(self.listener.population())).encode(), 0.0, here=True)
        peers = [own if peer.here else peer for peer in self.peers.listed(here)]
        return Census(self.lag_s, len(peers), sum(peer.clients for peer in peers),
                      sum(peer.streams for peer in peers), peers)
