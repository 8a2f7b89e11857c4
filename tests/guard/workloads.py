"""What is counted: runs under callgrind, in a process of its own (``python workloads.py [--slower-by N]``).

One process runs our server on its gevent loop and is its own clients, 200 of them, in a greenlet; nothing else happens
in it, and no thread of a host is awake. Each workload runs its operation N times, then 3 N times, with a call of
``getpgid`` before, between and after, at which callgrind is told to write down what it has counted
(``--dump-before``): the difference of both divided by 2 N is what one operation takes, free of what is around it.

Only public ways are used (but to stop what goes by the clock), so that the same workloads count the same work whatever
is rebuilt beneath them.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import socket as plain_socket
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import gevent
from flask import Flask, request
from gevent import socket

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.broker.event import Event
from hakgal_hybrid.broker.sse import Decoder, encode_event
from hakgal_hybrid.server.fanout import fanout, heartbeats, lag
from hakgal_hybrid.server.fanout import pacing as pace
from hakgal_hybrid.socketio import join_room

CLIENTS = 200
#: 200 bytes as JSON.
PAYLOAD = {"status": "running", "fact_count": 3776, "load": [0.25, 0.5, 0.75], "text": "x" * 129}
BATCH = 20
#: More than any workload appends at a time, so that the log is full and drops one event for every new one.
LOG_EVENTS = 2_000
#: How the last event of a chunk ends.
EVENT_END = b"\n\n\r\n"


class Workload(NamedTuple):
    """One kind of work: how often it is done at the smaller size, and what doing it once is."""

    name: str
    times: int
    once: Callable[[], Any]


class Room:
    """The clients: sockets that say what they want and read when they are told to."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open(self, query: str) -> tuple[Any, str]:
        """Open a stream and read until its ``hybrid_open`` is whole; return the socket and the ``sid``."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.sendall(f"GET /api/events/stream?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        text = b""
        while b"hybrid_open" not in text or not text.endswith(EVENT_END):
            text += client.recv(65536)
        assert text.startswith(b"HTTP/1.1 200"), text
        return client, text.split(b'"sid":"')[1].split(b'"')[0].decode()


def read_until(client: Any, end: bytes) -> None:
    """Read what has come for a client, until it ends with ``end``."""
    text = b""
    while not text.endswith(end):
        text = (text + client.recv(65536))[-200:]


def workloads(app: Flask, transport: HybridTransport, room: Room) -> list[Workload]:
    """Make every workload. The order matters: what comes first has no clients to write to."""
    socketio = transport.socketio
    event = Event.create("status_update", (PAYLOAD,))
    text = json.dumps(PAYLOAD)
    chunk = b"".join(encode_event(text, event="status_update", event_id=f"1755412806000-{n}") for n in range(50))
    clients: list[Any] = []

    def connect() -> None:
        """Open the streams: every tenth in room ``r``, every tenth wants another event only."""
        queries = {0: "room=r", 1: "events=other_*"}
        clients.extend(room.open(queries.get(n % 10, "")) for n in range(CLIENTS - 2))
        # A last one of each kind, which gets everything after the others of its kind, shows that a pass is over.
        clients.extend(room.open(query) for query in ("room=r", ""))

    def settle(client: Any, mark: str, count: int, **options: Any) -> None:
        for n in range(count):
            socketio.emit("status_update", {**PAYLOAD, "mark": mark if n == count - 1 else ""}, **options)
        read_until(client[0], f'"mark":"{mark}"}}'.encode() + EVENT_END)

    def broadcast(count: int) -> Callable[[], None]:
        return lambda: settle(clients[-1], "all", count)

    def to_the_room() -> None:
        settle(clients[-2], "room", 1, to="r")

    def to_one() -> None:
        settle(clients[-1], "one", 1, to=clients[-1][1])

    return [
        Workload("calibration", 200, calibrate),
        Workload("wire decode, 50 events", 10, lambda: Decoder().feed(chunk)),
        Workload("make an event", 300, lambda: Event.create("status_update", (PAYLOAD,))),
        Workload("append to the log", 300, lambda: transport.log.append(event)),
        Workload("transport.emit", 300, lambda: transport.emit("status_update", PAYLOAD)),
        Workload("socketio.emit", 300, lambda: socketio.emit("status_update", PAYLOAD)),
        Workload(f"open {CLIENTS} streams", 0, connect),
        Workload("an event to 180 of 200 clients", 20, broadcast(1)),
        Workload(f"{BATCH} events to 180 of 200 clients", 4, broadcast(BATCH)),
        Workload("an event to the 21 clients in a room, of 200", 30, to_the_room),
        Workload("an event to one client of 200", 60, to_one),
    ]


def calibrate() -> str:
    """Do what has nothing to do with the package: tells one build of Python from another."""
    values = {f"key{n}": [n, str(n), n / 7] for n in range(20)}
    return json.dumps({key: sorted(map(str, value)) for key, value in values.items()})


def mark() -> None:
    """Have callgrind write down what it has counted since the last time."""
    os.getpgid(0)


def count(work: Workload, slower_by: int) -> None:
    """Do one kind of work N and 3 N times, between marks."""

    def once() -> None:
        work.once()
        for _ in range(slower_by):
            calibrate()

    if not work.times:
        once()
        return
    for _ in range(max(3, work.times // 2)):  # what is done at the first time only, and the specialising interpreter
        once()
    for times in (work.times, 3 * work.times):
        mark()
        for _ in range(times):
            once()
    mark()
    print(work.times, work.name, flush=True)


def leave_out_the_clock() -> None:
    """Have nothing done by the clock: on a busy machine more of it would come in a number of instructions.

    The loop is not asked how late it is, nobody looks after the streams, and a turn of the writer lasts for a whole
    pass: else the client that is waited for, whose place among the others is by chance, could go on in the middle. That
    most clients never read is forgiven for an hour (``stall_s``): the kernel would give them up while we count.
    """
    assert pace.SECONDS_PER_TURN < 1 > lag.INTERVAL_S
    pace.SECONDS_PER_TURN = fanout.SECONDS_PER_TURN = lag.INTERVAL_S = 3600.0
    assert CLIENTS > pace.SENDS_PER_TURN
    pace.SENDS_PER_TURN = 1_000_000
    assert callable(heartbeats.Caretaker.run)
    heartbeats.Caretaker.run = lambda self, round_begins: None  # type: ignore[method-assign]


def main() -> None:
    """Serve, be the clients, and end the process when everything is counted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slower-by", type=int, default=0, help="do so much more in every operation")
    parser.add_argument("--only", default="", help="only this workload")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    leave_out_the_clock()
    gc.disable()  # it comes after so many new objects, whoever made them: now in what is counted, now before
    app = Flask("guarded")
    transport = HybridTransport(app, log_events=LOG_EVENTS, heartbeat_s=3600, stall_s=3600,
                                max_backlog_s=3600, switch_interval_ms=5)

    @transport.socketio.on("connect")
    def connected(auth: Any = None) -> None:
        if "room" in request.args:
            join_room("r")

    with plain_socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def drive() -> None:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    gevent.sleep(0.05)
            for _ in range(LOG_EVENTS):
                transport.emit("status_update", PAYLOAD)
            for work in workloads(app, transport, Room(port)):
                if options.only in ("", work.name) or not work.times:
                    count(work, options.slower_by)
                if options.only == work.name:
                    break
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
            status = 1
        sys.stdout.flush()
        os._exit(status)

    gevent.spawn(drive)
    transport.socketio.run(app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
