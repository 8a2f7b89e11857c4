"""What clients still have to be sent, sampled from outside: emitting and writing do nothing for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..broker.entry import Entry
from ..broker.hub import Hub
from ..broker.stream import SubscriberStream

#: Seconds between two samples while a server of ours runs.
INTERVAL_S = 0.5
#: How much of one processor the samples may take; with thousands of streams they are rarer.
MAX_SHARE = 0.01
#: The same for samples on request: with twenty streams each request takes one, with ten thousand four a second.
MAX_SHARE_ASKED = 0.05
#: How many events one sample checks for whom they are; beyond that, an event counts as if it were for the stream.
MAX_CHECKED = 20_000


@dataclass(slots=True)
class StreamBacklog:
    """An open stream in a sample.

    :ivar since: when it was seen first (monotonic): what it replays waits since then, not for longer.
    :ivar sent: number of the last event that has left this process for it, as far as that can be known.
    :ivar age_s: for how long the oldest event that is for it has been waiting.
    """

    stream: SubscriberStream
    since: float
    sent: int
    age_s: float = 0.0


class BacklogMonitor:
    """Samples every open stream now and then.

    An event waits for a stream from when it was emitted, or from when the stream was opened if that was later (what a
    client resumes may be hours old), until the stream's socket has taken all of it. Where somebody else writes the
    socket (another server, TLS, a WebSocket), what was handed to the writer counts as taken.

    :param hub: whose open streams are sampled.
    :param max_checked: how many events one sample checks at most.
    :param max_share_asked: how much of one processor :meth:`cached` takes at most, from 0 to 1.
    :param clock: returns seconds that never go back.

    :ivar on_sample: called after each sample that the thread takes.
    :ivar clogged: returns the streams whose socket has not taken what was given to it.
    """

    def __init__(self, hub: Hub, *, max_checked: int = MAX_CHECKED, max_share_asked: float = MAX_SHARE_ASKED,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._max_checked, self._max_share_asked, self._clock = max_checked, max_share_asked, clock
        self.clogged: Callable[[], Iterable[SubscriberStream]] = tuple
        self.on_sample: Callable[[], None] = lambda: None
        self._hub = hub
        self._open: dict[int, StreamBacklog] = {}
        self._max = 0.0
        self._last: tuple[float, float, dict[int, StreamBacklog]] | None = None
        self._good_until = 0.0
        self._lock = threading.RLock()  # a signal handler may ask for the status while its thread is in here
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Sample regularly, in a thread of its own, until :meth:`stop`."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._watch, name="hakgal-hybrid-observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)
        self.clogged = tuple

    def _watch(self) -> None:
        pause = INTERVAL_S
        while not self._ended.wait(pause):
            began = time.thread_time()
            self.sample()
            self.on_sample()
            pause = max(INTERVAL_S, (time.thread_time() - began) / MAX_SHARE)

    def sample(self, *, each: bool = False) -> tuple[float, float, dict[int, StreamBacklog]]:
        """Sample the open streams now: of those that keep up together one.

        :param each: whether each of those that keep up together is sampled too.
        :return: for how many seconds the oldest event has been waiting that an open stream still has to be sent; the
            most that was ever seen; and the streams by ``id(stream)``.
        """
        with self._lock:
            now, newest = self._hub.log.clock(), self._hub.log.newest
            clogged = {id(stream) for stream in self.clogged()}
            found: dict[int, StreamBacklog] = {}
            groups: set[object] = set()
            for stream in open_streams(self._hub):
                group = stream.group
                if group is not None and not each and id(stream) not in clogged:
                    if group in groups:
                        continue
                    groups.add(group)
                known = self._open.get(id(stream))
                if known is None or known.stream is not stream:
                    known = StreamBacklog(stream, now, stream.position)
                if id(stream) not in clogged:
                    known.sent = min(stream.position, newest)
                found[id(stream)] = known
            self._judge(found.values(), now, newest)
            # To remember those that keep up would take more than the streams themselves.
            self._open = {key: item for key, item in found.items() if item.stream.group is None or key in clogged}
            oldest = max((item.age_s for item in found.values()), default=0.0)
            self._max = max(self._max, oldest)
            return round(oldest, 3), round(self._max, 3), found

    def cached(self) -> tuple[float, float, dict[int, StreamBacklog]]:
        """Return the last sample if it is recent, else a new one. May be called as often as one likes."""
        if self._clock() < self._good_until and self._last is not None:
            return self._last
        began = time.thread_time()
        self._last = self.sample()
        self._good_until = self._clock() + (time.thread_time() - began) / self._max_share_asked
        return self._last

    def _judge(self, found: Iterable[StreamBacklog], now: float, newest: int) -> None:
        left = self._max_checked
        for item in found:
            position, age_s = item.sent, 0.0
            while position < newest:
                position = max(position + 1, self._hub.log.oldest)
                entry = self._hub.log.entry(position)
                left -= 1
                if entry is not None and (left < 0 or wants(item.stream, entry)):
                    replayed = entry.seq <= item.stream.replay_until
                    age_s = max(0.0, now - (item.since if replayed else entry.at))
                    break
            item.age_s = age_s


def open_streams(hub: Hub) -> list[SubscriberStream]:
    """Return the stream of every open stream, each once.

    :param hub: whose open streams are sampled.
    """
    carriers = {id(client.session): client.session.carrier for client in hub.clients() if client.session is not None}
    return [carrier for carrier in carriers.values() if isinstance(carrier, SubscriberStream)]


def wants(stream: SubscriberStream, entry: Entry) -> bool:
    """True if an event is for the clients of a stream and passes its filter.

    :param stream: the stream.
    :param entry: an entry of the log.
    """
    event = entry.event
    return stream.wants(entry.seq, event.name, event.target)


