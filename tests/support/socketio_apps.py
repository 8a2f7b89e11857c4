"""Flask-SocketIO apps as people write them, and how each is started."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

APPS = Path(__file__).parents[1] / "host" / "apps"
#: What is said of each app whose SocketIO is swapped.
SWAPPED = "is swapped: its events leave by Server-Sent Events"
#: Clients of Socket.IO that are not changed, on an app that is swapped; the other ways to serve an app are profiles.
UNMODIFIED = "UNMODIFIED"


def variables(way: str) -> dict[str, str]:
    """The environment that has an app served in one of these ways."""
    return {"APP_PROFILE": "HYBRID", "ENABLE_WS_SPECIAL": "true"} if way == UNMODIFIED else {"APP_PROFILE": way}


class App(NamedTuple):
    """How an app is started: a command with ``{port}``, and what it needs."""

    command: str
    prefix: str = "exec"
    needs: str = "flask_socketio"


STARTS = {
    "chat": App("python run_chat.py {port}"),
    "classes": App("python classes.py {port}", needs="eventlet"),
    "login": App("flask --app login run --port {port}", needs="flask_login"),
    "sessions": App("python -m sessions {port}", needs="flask_session"),
    "todo": App("gunicorn -k gthread --threads 16 -b 127.0.0.1:{port} todo:create_app()", needs="flask_sqlalchemy"),
    "todo by name": App("todo:create_app --port {port}", "run", needs="flask_sqlalchemy"),
    "ticker": App("python ticker.py {port}"),
    "jobs": App("python jobs.py {port}", needs="apscheduler"),
}
