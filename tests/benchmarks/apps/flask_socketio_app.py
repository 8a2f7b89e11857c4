"""Flask-SocketIO as a host runs it: a connect handler and a room. With gevent, everything is monkey-patched.

With ``BENCH_ASYNC_MODE=threading`` it is threads under Werkzeug. ``BENCH_QUEUE`` is its message queue, if it has one.
"""

import os

MODE = os.environ.get("BENCH_ASYNC_MODE", "gevent")
if MODE == "gevent":
    from gevent import monkey

    monkey.patch_all()

import sys  # noqa: E402
from typing import Any  # noqa: E402

from flask import Flask  # noqa: E402
from flask_socketio import SocketIO, join_room  # noqa: E402

from ..publisher import Payload, Publisher  # noqa: E402
from . import handlers  # noqa: E402

FRAMING = len('..42["tick",]') + 2  # a frame's head is 4 bytes from 126 on

app = Flask(__name__)
handlers.install(app)
lag = handlers.Lag()
socketio = SocketIO(app, async_mode=MODE, message_queue=os.environ.get("BENCH_QUEUE"))


@app.get("/health")
def health() -> Any:
    return {"status": "ok"}


@socketio.on("connect")
def connect(auth: Any = None) -> None:
    join_room("audience")


def emit(payload: Payload, **to: Any) -> None:
    socketio.emit("tick", payload, **to)


if __name__ == "__main__":
    socketio.start_background_task(Publisher(int(sys.argv[2]), emit, FRAMING, lag=lag.told).serve)
    if MODE == "gevent":
        socketio.start_background_task(lag.watch)
    socketio.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_output=False, allow_unsafe_werkzeug=True)
