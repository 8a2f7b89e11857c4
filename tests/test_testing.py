"""What users' own tests import."""

from __future__ import annotations

import pytest
from flask import Flask

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.testing import StreamClosed, collect, open_stream


@pytest.fixture
def transport() -> HybridTransport:
    return HybridTransport(Flask(__name__))


def test_collect_gives_events_as_a_client_would_see_them(transport):
    """Name, decoded data, arguments, namespace and addressees are there as soon as emit returns."""
    with collect(transport) as events:
        transport.emit("one", {"a": (1, 2)})
        transport.emit("several", 1, "x", to=["b", "a"], namespace="/chat")
        transport.emit("none")
    assert events.names == ["one", "several", "none"]
    assert (events[0].data, events[0].args, events[0].to) == ({"a": [1, 2]}, [{"a": [1, 2]}], None)
    assert (events[1].data, events[1].args) == ([1, "x"], [1, "x"])
    assert (events[1].to, events[1].namespace) == (["a", "b"], "/chat")
    assert (events[2].data, events[2].args) == (None, [])
    assert events.named("several") == [events[1]]
    assert events[2].id == transport.log.id_of(3)


def test_collect_ends_with_its_block(transport):
    """What is emitted later is not gathered, and nothing stays connected."""
    with collect(transport) as events:
        pass
    transport.emit("late")
    assert events == []


def test_collect_sees_one_app_only(transport):
    """Two apps in one process do not see each other's events."""
    other = HybridTransport(Flask("other"))
    with collect(transport) as events:
        other.emit("elsewhere")
        transport.emit("here")
    assert events.names == ["here"]


def test_open_stream_reads_what_is_emitted(transport):
    """Events arrive in order, with the opening already taken off."""
    with open_stream(transport.app.test_client()) as stream:
        assert stream.open["sid"]
        transport.emit("a", 1)
        transport.emit("b", 2)
        assert [stream.next().event, stream.json(stream.until("b"))] == ["a", 2]
        assert stream.last_event_id == transport.log.id_of(2)
    assert transport.statistics().streams == 0


def test_open_stream_has_a_deadline(transport):
    """A test whose event never comes fails with what it waited for."""
    with open_stream(transport.app.test_client(), timeout=0.05) as stream:
        with pytest.raises(TimeoutError, match="no event came within"):
            stream.next()
        with pytest.raises(TimeoutError, match="'wanted'"):
            stream.until("wanted")


def test_a_time_out_lists_what_did_come(transport):
    """Name and data of each event since the opening, oldest first; the end of the stream lists them too."""
    with open_stream(transport.app.test_client()) as stream:
        transport.emit("order_removed", {"id": 7})
        transport.emit("long", "x" * 1000)
        stream.until("long")
        with pytest.raises(TimeoutError, match=r'hybrid_open .*order_removed {"id":7}; long') as raised:
            stream.until("order_added", timeout=0.05)
        assert len(str(raised.value)) < 500
        for number in range(100):
            transport.emit("many", number)
            stream.until("many")
        with pytest.raises(TimeoutError, match=r"many 99$") as raised:
            stream.until("order_added", timeout=0.05)
        assert "order_removed" not in str(raised.value)
        transport.stop()
        stream.until("hybrid_bye")
        with pytest.raises(StreamClosed, match="hybrid_bye"):
            stream.next()


def test_next_skips_heartbeats():
    """A test with a short heartbeat gets the event it waits for, and can wait for a heartbeat by name."""
    transport = HybridTransport(Flask(__name__), heartbeat_s=0.05)
    with open_stream(transport.app.test_client()) as stream:
        stream.until("hybrid_heartbeat")
        with pytest.raises(TimeoutError, match="hybrid_heartbeat"):
            stream.next(timeout=0.3)
        transport.emit("order_added")
        assert stream.next().event == "order_added"


def test_open_stream_tells_when_the_stream_ended(transport):
    """After the farewell, waiting for more is an error of its own, as often as it is tried."""
    with open_stream(transport.app.test_client()) as stream:
        transport.stop()
        assert stream.next().event == "hybrid_bye"
        for _ in range(2):
            with pytest.raises(StreamClosed):
                stream.next()


def test_open_stream_says_why_it_was_refused(transport):
    """The failure holds the problem document."""
    with pytest.raises(AssertionError, match="bad_query"):
        open_stream(transport.app.test_client(), snapshot="perhaps")
