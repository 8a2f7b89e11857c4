"""Observe: what clients still have to be sent, seen from outside. Emitting and writing do nothing for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..broker.entry import Entry
from ..broker.hub import Hub
from ..broker.stream import SubscriberStream

#: How often the backlog is looked at while a server of ours runs, in seconds.
INTERVAL_S = 0.5
#: How much of one processor that may take; with thousands of streams it is looked less often.
MAX_SHARE = 0.01
#: The same where somebody asks: with twenty streams each gets a look of their own, with ten thousand four a second do.
MAX_SHARE_ASKED = 0.05
#: How many events one look asks at most whether they are for somebody; beyond that, the next one counts as if it were.
MAX_LOOK = 20_000


@dataclass(slots=True)
class StreamBacklog:
    """An open stream as it was found.

    :ivar since: when it was seen first (monotonic): what it replays waits since then, not for longer.
    :ivar sent: number of the last event that has left this process for it, as far as that can be known.
    :ivar age_s: for how long the oldest event that is for it has been waiting.
    """

    feed: SubscriberStream
    since: float
    sent: int
    age_s: float = 0.0


class BacklogMonitor:
    """Looks at every open stream now and then.

    An event waits for a stream from when it was emitted, or from when the stream was opened if that was later (what a
    client resumes may be hours old), until the stream's socket has taken all of it. Where somebody else writes the
    socket (another server, TLS, a WebSocket), what was handed to the writer counts as taken.

    :param hub: whose open streams are looked at.

    :ivar looked: called after each look of the thread.
    :ivar clogged: returns the feeds whose socket has not taken what was given to it.
    """

    def __init__(self, hub: Hub) -> None:
        self.clogged: Callable[[], Iterable[SubscriberStream]] = tuple
        self.looked: Callable[[], None] = lambda: None
        self._hub = hub
        self._open: dict[int, StreamBacklog] = {}
        self._max = 0.0
        self._last: tuple[float, float, dict[int, StreamBacklog]] | None = None
        self._good_until = 0.0
        self._lock = threading.RLock()  # a signal handler may ask for the status while its thread is in here
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look regularly, in a thread of its own, until :meth:`stop`."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="hakgal-hybrid-observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End that."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)
        self.clogged = tuple

    def _watch(self) -> None:
        pause = INTERVAL_S
        while not self._ended.wait(pause):
            began = time.thread_time()
            self.look()
            self.looked()
            pause = max(INTERVAL_S, (time.thread_time() - began) / MAX_SHARE)

    def look(self, *, each: bool = False) -> tuple[float, float, dict[int, StreamBacklog]]:
        """Look at every open stream now; of those that keep up together at one, unless ``each`` is wanted.

        :param each: whether each stream is looked at, also those that keep up together.
        :return: for how many seconds the oldest event has been waiting that an open stream still has to be sent; the
            most that was ever seen; and the streams by ``id(feed)``.
        """
        with self._lock:
            now, newest = self._hub.log.clock(), self._hub.log.newest
            clogged = {id(feed) for feed in self.clogged()}
            found: dict[int, StreamBacklog] = {}
            cohorts: set[object] = set()
            for feed in open_feeds(self._hub):
                cohort = feed.cohort
                if cohort is not None and not each and id(feed) not in clogged:
                    if cohort in cohorts:
                        continue
                    cohorts.add(cohort)
                known = self._open.get(id(feed))
                if known is None or known.feed is not feed:
                    known = StreamBacklog(feed, now, position_of(feed))
                if id(feed) not in clogged:
                    known.sent = min(position_of(feed), newest)
                found[id(feed)] = known
            self._judge(found.values(), now, newest)
            # To remember those that keep up would take more than the streams themselves.
            self._open = {key: item for key, item in found.items() if item.feed.cohort is None or key in clogged}
            oldest = max((item.age_s for item in found.values()), default=0.0)
            self._max = max(self._max, oldest)
            return round(oldest, 3), round(self._max, 3), found

    def glance(self) -> tuple[float, float, dict[int, StreamBacklog]]:
        """Return what :meth:`look` did, if that was just now, or look: for whoever may ask as often as they like."""
        if time.monotonic() < self._good_until and self._last is not None:
            return self._last
        began = time.thread_time()
        self._last = self.look()
        self._good_until = time.monotonic() + (time.thread_time() - began) / MAX_SHARE_ASKED
        return self._last

    def _judge(self, found: Iterable[StreamBacklog], now: float, newest: int) -> None:
        looks = MAX_LOOK
        for item in found:
            position, age_s = item.sent, 0.0
            while position < newest:
                position = max(position + 1, self._hub.log.oldest)
                entry = self._hub.log.entry(position)
                looks -= 1
                if entry is not None and (looks < 0 or wants(item.feed, entry)):
                    replayed = entry.seq <= item.feed._replay_until
                    age_s = max(0.0, now - (item.since if replayed else entry.at))
                    break
            item.age_s = age_s


def open_feeds(hub: Hub) -> list[SubscriberStream]:
    """Return the feed of every open stream, each once.

    :param hub: whose open streams are looked at.
    """
    carriers = {id(client.session): client.session.carrier for client in hub.clients() if client.session is not None}
    return [carrier for carrier in carriers.values() if isinstance(carrier, SubscriberStream)]


def position_of(feed: SubscriberStream) -> int:
    """Return the number of the last event that was written; for any thread, while the writer parts feed and cursor.

    :param feed: the stream.
    """
    while True:
        try:
            return feed.position
        except AttributeError:  # it has begun to keep up with others just now: its place is theirs
            continue


def wants(feed: SubscriberStream, entry: Entry) -> bool:
    """True if an event is for the clients of a stream and passes its filter.

    :param feed: the stream.
    :param entry: an entry of the log.
    """
    event = entry.event
    return feed._wants(entry.seq, event.name, event.target)


