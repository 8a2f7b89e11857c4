"""A thread in the background that emits, waits, and asks clients."""

from __future__ import annotations

import threading
from typing import Any

from flask import Flask, request

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("background")
    socketio = module.SocketIO(app, async_mode="threading")
    lock, going = threading.Lock(), threading.Event()
    threads: list[Any] = []

    def count_down(start: int, *, room: str | None) -> None:
        for number in range(start, 0, -1):
            socketio.sleep(0.01)
            socketio.emit("tick", {"left": number}, to=room)
        socketio.send("lift-off", to=room)
        note("counted")

    def generate() -> None:
        going.wait(30)
        for count in range(1, 6):
            socketio.sleep(0.01)
            socketio.emit("generated", {"data": "from a thread", "count": count}, namespace="/live")
        note("generated")

    def ask(sid: str, timeout: float) -> None:
        try:
            answer = socketio.call("question", {"about": "life"}, to=sid, timeout=timeout)
        except Exception as error:
            note("unanswered", error=type(error).__name__)
        else:
            note("answered", answer=answer, type=type(answer).__name__)

    @socketio.on("connect", namespace="/live")
    def connected() -> None:
        note("connect")
        with lock:
            if not threads:
                threads.append(socketio.start_background_task(generate))

    @socketio.on("go", namespace="/live")
    def go() -> None:
        note("go", threads=len(threads), alive=threads[0].is_alive())
        going.set()

    @socketio.on("count down")
    def start_counting(start: int, to_all: bool) -> None:
        socketio.start_background_task(count_down, start, room=None if to_all else request.sid)

    @socketio.on("ask me")
    def ask_me(timeout: float) -> None:
        socketio.start_background_task(ask, request.sid, timeout)

    @socketio.on("ask nobody")
    def ask_nobody() -> None:
        socketio.start_background_task(ask, "nobody", 0.1)

    @socketio.on("my_ping")
    def ping() -> None:
        module.emit("my_pong")

    return app, socketio
