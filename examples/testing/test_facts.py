"""How to test an app that emits: copy what you need."""

import json
import urllib.request

from hakgal_hybrid.testing import collect, open_stream


def test_posting_a_fact_emits_it(client, hybrid_events):
    """The fixture gathers what was emitted; no server, no client, no waiting."""
    assert client.post("/facts", json={"statement": "Likes(Ann, Tea)."}).status_code == 201
    assert hybrid_events.names == ["fact_added"]
    assert hybrid_events[0].data == {"statement": "Likes(Ann, Tea)."}


def test_the_same_without_the_plugin(client, hybrid_transport):
    """``collect`` is what the fixture uses."""
    with collect(hybrid_transport) as events:
        client.post("/facts", json={"statement": "Likes(Bob, Tea)."})
    assert events.named("fact_added")[0].data["statement"] == "Likes(Bob, Tea)."


def test_a_reader_gets_the_fact(client, hybrid_stream):
    """A real stream through the test client: waits for the event itself, up to a deadline."""
    stream = hybrid_stream(events="fact_*")
    client.post("/facts", json={"statement": "Likes(Cid, Tea)."})
    assert stream.json(stream.next()) == {"statement": "Likes(Cid, Tea)."}


def test_a_reader_that_reconnects_misses_nothing(client):
    """``Last-Event-ID`` brings everything since."""
    with open_stream(client) as stream:
        seen = stream.last_event_id
    client.post("/facts", json={"statement": "Likes(Dee, Tea)."})
    with open_stream(client, headers={"Last-Event-ID": seen}) as stream:
        assert stream.json(stream.until("fact_added")) == {"statement": "Likes(Dee, Tea)."}


def test_a_command_from_a_client(client, hybrid_stream):
    """An event posted in a client's name runs the handler; what it emits to the caller goes to its stream."""
    stream = hybrid_stream()
    answer = client.post("/api/events/emit", json={"event": "greet", "data": {"name": "Eve"},
                                                   "sid": stream.open["sid"]},
                         headers={"X-Hybrid-Token": stream.open["token"]})
    assert answer.get_json() == {"ack": "hello"}
    assert stream.json(stream.until("greeted")) == {"name": "Eve"}


def test_with_a_live_server(live_server):
    """pytest-flask's ``live_server`` works too: this is a real connection."""
    url = f"http://127.0.0.1:{live_server.port}"
    with urllib.request.urlopen(f"{url}/api/events/stream", timeout=5) as stream:
        fact = json.dumps({"statement": "Likes(Flo, Tea)."}).encode()
        request = urllib.request.Request(f"{url}/facts", fact, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=5).close()
        lines = iter(stream.readline, b"")
        assert any(line.startswith(b"data:") and b"Likes(Flo, Tea)." in line for line in lines)
