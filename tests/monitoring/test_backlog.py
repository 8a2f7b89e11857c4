"""Observe: how long events have been waiting for open streams, the loop's lag, and who has patched the process."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from support.log_and_hub import LogAndHub
from support.servers import Server, wait_until

from hakgal_hybrid.broker.stream import SubscriberStream
from hakgal_hybrid.monitoring.backlog import BacklogMonitor
from hakgal_hybrid.monitoring.patching import patched
from hakgal_hybrid.server.fanout.lag import INTERVAL_S


class Watched(LogAndHub):
    """A house with an observer; ``clogged`` are the streams whose socket takes nothing."""

    def __init__(self, **log: Any) -> None:
        super().__init__(**log)
        self.clogged: list[SubscriberStream] = []
        self.observer = BacklogMonitor(self.hub)
        self.observer.clogged = lambda: self.clogged

    def oldest(self) -> float:
        return self.observer.sample()[0]


@pytest.fixture
def house() -> Watched:
    return Watched()


def test_nothing_waits_where_nobody_is(house) -> None:
    house.emit("a")
    house.now = 100
    assert house.observer.sample() == (0, 0, {})


def test_the_oldest_event_counts_and_the_most_is_remembered(house) -> None:
    """The age is that of the first event a stream has not had, over all streams; its maximum stays."""
    ahead, behind = house.open(), house.open()
    house.emit("a")
    house.now = 3
    house.emit("b")
    ahead.take()
    house.now = 4
    assert house.oldest() == 4
    ahead.take()
    behind.take()
    assert house.observer.sample()[:2] == (0, 4)


def test_what_is_not_for_a_stream_does_not_wait(house) -> None:
    """Events of other rooms, other namespaces and filtered names are nothing that has to be sent."""
    house.open(events=("wanted",))
    house.emit("other")
    house.emit("wanted", to="a room nobody is in")
    house.emit("wanted", namespace="/elsewhere")
    house.now = 7
    assert house.oldest() == 0
    house.emit("wanted")
    house.now = 9
    assert house.oldest() == 2


def test_what_a_socket_has_not_taken_still_waits(house) -> None:
    """Bytes that were taken for a stream and not by its socket are undelivered, from their first event on."""
    feed = house.open()
    house.emit("sent")
    feed.take()
    assert house.oldest() == 0
    house.now = 10
    house.emit("stuck")
    feed.take()
    house.clogged = [feed]
    house.now = 15
    house.emit("later")
    house.now = 30
    assert house.oldest() == 20
    house.clogged = []
    assert house.oldest() == 15, "the first is out, the second was not even taken"


def test_what_is_resumed_waits_from_when_the_stream_was_opened(house) -> None:
    """A resume may bring events that are hours old; no stream has kept them waiting for hours."""
    first = house.open()
    where = house.log.id_of(house.log.newest)
    house.emit("while away")
    house.hub.sessions.detach(first.session, first)
    house.now = 3600
    house.open(last_event_id=where)
    house.oldest()
    house.now = 3602
    assert house.oldest() == 2


def test_dropped_events_do_not_wait(house) -> None:
    """An event that the log has dropped will never be sent; the first that it still has is what waits."""
    house = Watched(max_events=2)
    house.open()
    for number in range(5):
        house.now = number
        house.emit("a", number)
    house.now = 10
    assert house.oldest() == 10 - 3


def test_sample_bounded(house) -> None:
    """Where too many events would have to be asked about, the next one counts, so that the age is never too low."""
    house.observer = BacklogMonitor(house.hub, max_checked=5)
    house.open(events=("wanted",))
    for _ in range(20):
        house.emit("other")
    house.now = 3
    assert house.oldest() == 3


@pytest.mark.once
def test_our_server_tells_the_lag_of_its_loop_and_what_a_stalled_client_is_owed() -> None:
    """Both are sampled while the server runs, without anybody asking."""
    with Server("ours", HYBRID_STALL_S=60) as server:
        with server.opened(rcvbuf=4096):
            def status() -> dict[str, Any]:
                return dict(server.status())

            wait_until(lambda: status()["server"]["loop_lag"]["n"] > 20)
            lag = status()["server"]["loop_lag"]
            most = status()["uptime_s"] / INTERVAL_S  # a timer that rings at once, for ever, would burn a core
            assert lag["n"] <= most
            assert 0 <= lag["p50_ms"] <= lag["p99_ms"] <= lag["max_ms"] <= lag["since_start_max_ms"]
            assert lag["buckets"][-1][1] >= lag["n"]
            server.emit("big", n=100, size=100_000)  # the client reads nothing
            wait_until(lambda: status()["oldest_undelivered_s"] > 0.5)
        wait_until(lambda: status()["streams"] == 0)
        told = status()
        assert told["oldest_undelivered_s"] == 0
        assert told["oldest_undelivered_max_s"] > 0.5
        assert told["patched"] == {"eventlet": False, "gevent": False}


@pytest.mark.once
@pytest.mark.parametrize("name", ["eventlet", "gevent"])
def test_who_has_patched_the_process_is_told(name: str) -> None:
    """In a process that one of them has patched, the other is not blamed."""
    pytest.importorskip(name)
    code = {"eventlet": "import eventlet; eventlet.monkey_patch()",
            "gevent": "from gevent import monkey; monkey.patch_all()"}[name]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c",
                           f"{code}\nfrom hakgal_hybrid.monitoring.patching import patched\nprint(patched())"],
                          capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == str({"eventlet": name == "eventlet", "gevent": name == "gevent"})
    assert not any(patched().values())


@pytest.mark.once
def test_our_server_times_deliveries_and_answers() -> None:
    """Events are timed if somebody gets them, a few of each pass; answers are timed, streams are not."""
    with Server("ours") as server:
        server.emit("unheard", n=5)
        assert server.status()["server"]["delivery_lag"]["n"] == 0
        with server.opened() as stream:
            answers = server.status()["server"]["request_time"]["buckets"][-1][1]
            server.emit("heard", n=500)
            stream.wait_for("heard", 500)
            told = wait_until(lambda: (now := server.status()["server"])["delivery_lag"]["n"] and now)
            assert 0 < told["delivery_lag"]["n"] <= 500
            assert 0 < told["delivery_lag"]["p50_ms"] <= told["delivery_lag"]["max_ms"]
            assert told["request_time"]["buckets"][-1][1] > answers


def test_a_pass_is_timed_a_few_times_only() -> None:
    """However much was emitted during a pause, the writer's loop looks at a bounded number of events."""
    lag = pytest.importorskip("hakgal_hybrid.server.fanout.lag")
    house = LogAndHub(max_events=10_000)
    times = lag.DeliveryLag(house.log, lambda: 1)
    for _ in range(1000):
        house.emit("a")
    house.now = 0.5
    times.passed(1000)
    told = times.statistics()
    assert 0 < told["n"] <= lag.MAX_TIMED
    assert told["p50_ms"] == 500
    times.passed(1000)
    assert times.statistics()["n"] == told["n"], "nothing new"


def test_cached_sample_is_taken_again_when_it_is_old(house) -> None:
    """Asked again at once, the last sample is returned; how long it is good for depends on what it took."""
    now = [0.0]
    monitor = BacklogMonitor(house.hub, max_share_asked=1e-9, clock=lambda: now[0])
    house.open()
    first = monitor.cached()
    house.emit("a")
    house.now = 3
    assert monitor.cached() is first
    now[0] = 1e12
    assert monitor.cached()[0] == 3
