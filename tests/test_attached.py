"""Streams that a greenlet writes: whatever one has to go through, the loop goes on."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import gevent
import gevent.socket
from flask import Flask
from support.servers import SOON

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.serving.attached import Attached
from hakgal_hybrid.views.stream import open_feed
from hakgal_hybrid.wish import Wish


def test_much_that_is_for_others_does_not_stop_the_loop() -> None:
    """A stream of many clients asks of every event for whom it is: it does so by and by."""
    app = Flask(__name__)
    transport = HybridTransport(app, log_events=10_000)
    with app.test_request_context():
        feed = open_feed(transport, Wish(envelope=True))
    for _ in range(31):
        transport.hub.admit(feed.link, {}, "/")
    for _ in range(8000):
        transport.emit("news", namespace="/elsewhere")
    ours, theirs = socket.socketpair()

    def serve() -> int:
        attached = Attached(transport.settings, transport.stream_left, lambda: False)
        writer = gevent.spawn(attached.serve, gevent.socket.socket(fileno=ours.detach()), feed, b"")
        turns = 0
        try:
            while feed.behind:
                gevent.sleep(0.0001)
                turns += 1
        finally:
            writer.kill()
            gevent.get_hub().destroy(destroy_loop=True)
        return turns

    with theirs, ThreadPoolExecutor(1) as pool:
        assert pool.submit(serve).result(SOON) >= 8000 * 32 / 20_000 / 2
