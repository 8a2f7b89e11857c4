"""Acknowledgements: the callback is called in the process that has emitted, wherever the client is."""

from __future__ import annotations

import queue
import threading
from typing import Any

from support.shared_apps import Host
from werkzeug.test import TestResponse

from hakgal_hybrid.testing import TestStream


def acknowledge(host: Host, stream: TestStream, ack: str, *args: Any) -> TestResponse:
    """Acknowledge an event as a client does, at its own process."""
    return host.flask.test_client().post("/api/events/ack", headers={"X-Hybrid-Token": stream.open["token"]},
                                         json={"sid": stream.open["sid"], "ack": ack, "args": list(args)})


def asked(host: Host, stream: TestStream) -> str:
    """Wait for the next event of a stream; return the id under which it is acknowledged, as envelopes carry it."""
    at, log = stream.next().id, host.transport.log
    entry = next(entry for entry in log.since(0)[1] if log.id_of(entry.seq) == at)
    assert entry.event.ack
    return entry.event.ack


def test_callback_is_called_where_it_was_emitted(hosts: tuple[Host, Host]) -> None:
    """A client of another process acknowledges there, once; the callback gets what it says, bytes included."""
    here, there = hosts
    answers: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    with there.open() as stream:
        here.transport.emit("question", 1, to=stream.open["sid"], callback=lambda *args: answers.put(args))
        ack = asked(there, stream)
        assert acknowledge(there, stream, ack, "yes", {"$binary": "eA=="}).status_code < 300
        assert acknowledge(there, stream, ack, "again").status_code == 404
        assert answers.get(timeout=20) == ("yes", b"x")
    assert answers.empty()


def test_each_client_of_a_broadcast_may_answer(hosts: tuple[Host, Host]) -> None:
    """Clients of both processes acknowledge a broadcast, each once."""
    here, there = hosts
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    with there.open() as other, here.open() as own:
        here.transport.emit("question", callback=answers.put)
        for host, stream, answer in ((there, other, "there"), (here, own, "here")):
            ack = asked(host, stream)
            assert acknowledge(host, stream, ack, answer).status_code < 300
        assert {answers.get(timeout=20), answers.get(timeout=20)} == {"here", "there"}


def test_call_waits_for_a_client_of_another_process(hosts: tuple[Host, Host]) -> None:
    """``call`` returns what a client of another process has answered."""
    here, there = hosts
    got: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with there.open() as stream:
        sid = stream.open["sid"]
        threading.Thread(target=lambda: got.put(here.server.call("question", to=sid, timeout=20))).start()
        acknowledge(there, stream, asked(there, stream), 42)
        assert got.get(timeout=20) == 42
