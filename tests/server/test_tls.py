"""Streams that a greenlet writes: whatever one has to go through, the loop goes on."""

from __future__ import annotations

import socket

import gevent
import gevent.socket
from flask import Flask
from support.hubs import open_feed_of
from support.loops import on_a_loop

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.server.fanout.tls import Attached


def test_much_that_is_for_others_does_not_stop_the_loop() -> None:
    """A stream of many clients asks of every event for whom it is: it does so by and by."""
    transport = HybridTransport(Flask(__name__), log_events=10_000)
    stream = open_feed_of(transport, format=Format.ENVELOPE)
    for _ in range(31):
        transport.hub.admit(stream.session, {}, "/")
    for _ in range(8000):
        transport.emit("news", namespace="/elsewhere")
    ours, theirs = socket.socketpair()

    def serve() -> int:
        attached = Attached(transport.settings, transport.node.lifecycle.stream_ended, lambda: False)
        sequencer = 0
        with gevent.socket.socket(fileno=ours.detach()) as sock:
            writer = gevent.spawn(attached.serve, sock, stream, b"")
            try:
                while stream.behind:
                    gevent.sleep(0.001)
                    sequencer += 1
            finally:
                writer.kill()
        return sequencer

    with theirs:
        assert on_a_loop(serve) >= 8000 * 32 / 20_000 / 2
