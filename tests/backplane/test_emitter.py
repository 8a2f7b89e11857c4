"""Emitters: events from processes that serve nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest
from flask import Flask
from support.redis_server import RedisServer
from support.shared_apps import App

from hakgal_hybrid import ConfigurationError, Emitter, EventError
from hakgal_hybrid.socketio import SocketIO
from hakgal_hybrid.testing import open_stream

SCRIPT = textwrap.dedent("""
    import os, sys
    from hakgal_hybrid import Emitter
    assert "flask" not in sys.modules and "gevent" not in sys.modules
    emitter = Emitter(sys.argv[1], "shared")
    emitter.emit("from_parent", 1)
    child = os.fork()
    if child == 0:
        emitter.emit("from_child", 2)
        emitter.close()
        os._exit(0)
    os.waitpid(child, 0)
""")


@pytest.fixture
def shared(redis_server: RedisServer) -> App:
    return App(redis_server)


def test_event_of_an_emitter_reaches_clients(redis_server: RedisServer, shared: App) -> None:
    """What an emitter emits is as if the app had: to everybody, to one client, to all but one."""
    try:
        with shared.open() as stream, Emitter(redis_server.url, "shared") as emitter:
            emitter.emit("tick", 1, 2)
            emitter.emit("private", b"x", to=stream.open["sid"])
            emitter.emit("hidden", skip_sid=stream.open["sid"])
            emitter.emit("last")
            assert emitter.flush(20)
            got = [(message.event, message.data) for message in (stream.next() for _ in range(3))]
            assert got == [("tick", "[1,2]"), ("private", '{"$binary":"eA=="}'), ("last", "null")]
            assert emitter.statistics().sent == 4
    finally:
        shared.stop()


@pytest.mark.skipif(sys.platform == "win32", reason="this system does not fork")
def test_script_sends_everything_at_its_end_and_its_child_its_own(redis_server: RedisServer, shared: App) -> None:
    """A script needs no Flask, waits at its end until Redis has everything, and a fork of it sends nothing twice."""
    try:
        with shared.open() as stream:
            subprocess.run([sys.executable, "-c", SCRIPT, redis_server.url], check=True, timeout=60,
                           env={**os.environ, "HYBRID_FLUSH_S": "30"})
            got = sorted((stream.next().event, stream.next().event))
            assert got == ["from_child", "from_parent"]
            shared.transport.emit("end")
            assert stream.next().event == "end"
    finally:
        shared.stop()


def test_what_is_wrong_is_said_where_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """An emitter without a Redis or a name is refused; so is an event that no client could get."""
    monkeypatch.delenv("HYBRID_BACKPLANE", raising=False)
    monkeypatch.delenv("HYBRID_BACKPLANE_NAME", raising=False)
    with pytest.raises(ConfigurationError, match="HYBRID_BACKPLANE="):
        Emitter()
    with pytest.raises(ConfigurationError, match="HYBRID_BACKPLANE_NAME="):
        Emitter("redis://127.0.0.1:1")
    with Emitter("redis://127.0.0.1:1", "shared") as closed:
        pass
    with pytest.raises(EventError, match="'late' came after the Emitter was closed"):
        closed.emit("late")
    emitter = Emitter("redis://127.0.0.1:1", "shared")
    with pytest.raises(EventError, match="cannot be sent as JSON"):
        emitter.emit("tick", object())
    with pytest.raises(EventError, match="HYBRID_MAX_EVENT_BYTES"):
        emitter.emit("tick", "x" * (1 << 21))
    assert emitter.flush(0.1)


def test_socketio_of_an_app_and_of_a_task_need_no_channel(redis_server: RedisServer) -> None:
    """As with Flask-SocketIO: the same ``message_queue`` is enough."""
    app = Flask("shared")
    site, task = SocketIO(app, message_queue=redis_server.url), SocketIO(message_queue=redis_server.url)
    assert not site.server_options["client_manager"].write_only
    assert task.server_options["client_manager"].write_only
    try:
        with open_stream(app.test_client(), timeout=20) as stream:
            task.emit("progress", {"done": 1})
            assert stream.next().event == "progress"
    finally:
        backplane = site.transport.node.backplane
        assert backplane is not None
        backplane.stop()


def test_socketio_without_an_app_only_emits(redis_server: RedisServer, shared: App) -> None:
    """``SocketIO(message_queue=…)`` in a task emits to the clients of the app whose channel it is given."""
    task = SocketIO(message_queue=redis_server.url, channel="shared")
    try:
        with shared.open() as stream:
            task.emit("progress", {"done": 1})
            task.emit("private", "x", to=stream.open["sid"])
            assert [(message.event, message.data) for message in (stream.next(), stream.next())] == [
                ("progress", '{"done":1}'), ("private", '"x"')]
            for more in (lambda: task.emit("question", callback=print), lambda: task.close_room("room"),
                         lambda: task.server.emit("question", callback=print), lambda: task.server.disconnect("sid")):
                with pytest.raises(EventError, match="only emits") as refused:
                    more()
                assert refused.value.code == "write_only"
    finally:
        shared.stop()
