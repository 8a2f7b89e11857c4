"""Ways to make and start a Flask-SocketIO app, each unmodified and started by the prefix: all of them are served."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.hosts import EXEC, free_port, running
from support.visitors import SseVisitor

pytest.importorskip("flask_socketio", reason="the apps are written against Flask-SocketIO")

SWAPPED = "is swapped: its events leave by Server-Sent Events"

HEAD = """
import sys, flask
app = flask.Flask(__name__)
app.add_url_rule("/health", "health", lambda: {})
"""
HANDLERS = """
@socketio.on("later")
def later(name):
    def work():
        socketio.sleep(0.01)
        socketio.emit("now", name)
    socketio.start_background_task(work)
    return flask.current_app.import_name

@socketio.on("disconnect")
def gone(reason=None):
    socketio.emit("gone", reason)
"""
RUN = """
if __name__ == "__main__":
    socketio.run(app, port=int(sys.argv[1]))
"""
FACTORY = """
import sys, flask
from flask_socketio import SocketIO
socketio = SocketIO()

def create_app():
    app = flask.Flask(__name__)
    app.add_url_rule("/health", "health", lambda: {})
    socketio.init_app(app)
    return app
"""


class Kind(NamedTuple):
    """An app's files, by their names, and the command that starts it."""

    files: dict[str, str]
    command: str = "python site_.py {port}"
    needs: str = "flask_socketio"
    swapped: int = 1


def made_by(lines: str, *, head: str = HEAD, run: str = RUN, handlers: str = HANDLERS, **more: Any) -> Kind:
    """Return the kind of app whose ``SocketIO`` is made by some lines, in a script of its own."""
    return Kind({"site_.py": head + textwrap.dedent(lines) + handlers + run}, **more)


KINDS = {
    "imported by a star": made_by("from flask_socketio import *\nsocketio = SocketIO(app)\n"),
    "imported as a module": made_by("import flask_socketio as live\nsocketio = live.SocketIO(app)\n"),
    "imported as something else": made_by("from flask_socketio import SocketIO as Live\nsocketio = Live(app)\n"),
    "made in a function": made_by("""
        def make():
            from flask_socketio import SocketIO
            return SocketIO(app, cors_allowed_origins="*")
        socketio = make()
        """),
    "a subclass": made_by("""
        from flask_socketio import SocketIO
        class Live(SocketIO):
            def __init__(self, *args, **kwargs):
                kwargs.setdefault("async_mode", "threading")
                super().__init__(*args, **kwargs)
            def emit(self, event, *args, **kwargs):
                super().emit(event, *args, **kwargs)
        socketio = Live()
        socketio.init_app(app)
        """),
    "a subclass that calls its base by name": made_by("""
        import flask_socketio
        class Live(flask_socketio.SocketIO):
            def __init__(self, app):
                flask_socketio.SocketIO.__init__(self, app, async_mode="threading")
        socketio = Live(app)
        """),
    "with loggers": made_by("""
        import logging
        from flask_socketio import SocketIO
        socketio = SocketIO(app, logger=logging.getLogger("mine"), engineio_logger=True)
        """),
    "for eventlet": made_by("from flask_socketio import SocketIO\nsocketio = SocketIO(app, async_mode='eventlet')\n",
                            needs="eventlet"),
    "for gevent": made_by("from flask_socketio import SocketIO\nsocketio = SocketIO(app, async_mode='gevent')\n"),
    "with the reloader": made_by("from flask_socketio import SocketIO\nsocketio = SocketIO(app)\n",
                                 run=RUN.replace("port=", "debug=True, use_reloader=True, allow_unsafe_werkzeug=True, "
                                                 "port=")),
    "with another object for the same app": made_by("""
        from flask_socketio import SocketIO
        other = SocketIO(app)
        socketio = SocketIO(app)
        """),
    "with another app": made_by("""
        from flask_socketio import SocketIO
        socketio = SocketIO(app)
        other = SocketIO(flask.Flask("other"))
        """),
    "a module that is run": Kind({
        "pkg/__init__.py": "", "pkg/live.py": "from flask_socketio import SocketIO\nsocketio = SocketIO()\n",
        "pkg/__main__.py": HEAD + "from .live import socketio\nsocketio.init_app(app)\n" + HANDLERS
        + "socketio.run(app, port=int(sys.argv[1]))\n"}, "python -m pkg {port}"),
    "a factory for flask": Kind({"pkg/__init__.py": FACTORY + HANDLERS},
                                "flask --app pkg:create_app run --port {port}"),
    "a factory for gunicorn": Kind({"pkg/__init__.py": FACTORY + HANDLERS},
                                   "gunicorn -k gthread --threads 8 -b 127.0.0.1:{port} pkg:create_app()",
                                   needs="gunicorn"),
    # Flask-SocketIO emits by the newest app, from a thread without a context, too.
    "a factory that was called before": Kind(
        {"site_.py": FACTORY + HANDLERS + "app = create_app()\n" + RUN},
        "gunicorn -k gthread --threads 8 -b 127.0.0.1:{port} site_:create_app()", needs="gunicorn", swapped=2),
    "a factory whose handlers are imported once": Kind(
        {"pkg/__init__.py": FACTORY.replace("    return app", "    from . import events\n    return app")
         + "create_app()\n", "pkg/events.py": "import flask\nfrom . import socketio\n" + HANDLERS},
        "flask --app pkg:create_app run --port {port}", swapped=2),
    "a factory for python -m flask": Kind({"pkg/__init__.py": FACTORY + HANDLERS},
                                          "python -m flask --app pkg run --port {port}"),
    "a factory for python -m gunicorn": Kind(
        {"pkg/__init__.py": FACTORY + HANDLERS},
        "python -m gunicorn -k gthread --threads 8 -b 127.0.0.1:{port} pkg:create_app()", needs="gunicorn"),
    "a factory for gunicorn, preloaded": Kind(
        {"pkg/__init__.py": FACTORY + HANDLERS},
        "gunicorn --preload -k gthread --threads 8 -b 127.0.0.1:{port} pkg:create_app()", needs="gunicorn"),
    "a factory for waitress": Kind(
        {"pkg/__init__.py": FACTORY + HANDLERS},
        "waitress-serve --threads 8 --no-clear-untrusted-proxy-headers --listen 127.0.0.1:{port} --call pkg:create_app",
        needs="waitress"),
    "served by Flask": made_by("from flask_socketio import SocketIO\nsocketio = SocketIO(app)\n",
                               run="app.run(port=int(sys.argv[1]))\n"),
    "eventlet at the top": made_by("from flask_socketio import SocketIO\nsocketio = SocketIO(app)\n",
                                   head="import eventlet\neventlet.monkey_patch()\n" + HEAD),
    "all keywords of run": made_by("from flask_socketio import SocketIO\nsocketio = SocketIO(app)\n", run="""
socketio.run(app, "127.0.0.1", int(sys.argv[1]), debug=False, use_reloader=False, log_output=True, max_size=100)
"""),
    "two apps that are both served": made_by("""
        from flask_socketio import SocketIO
        from werkzeug.middleware.dispatcher import DispatcherMiddleware
        socketio, admin = SocketIO(app), flask.Flask("admin")
        other = SocketIO(admin)
        other.on("later")(lambda name: other.emit("now", "of the other app"))
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/admin": admin})
        """, swapped=2),
    "a class of handlers": made_by("""
        from flask_socketio import Namespace, SocketIO
        socketio = SocketIO(app)
        class All(Namespace):
            def on_later(self, name):
                socketio.start_background_task(self.emit, "now", name)
                return flask.current_app.import_name
            def on_disconnect(self, reason):
                self.emit("gone", reason)
        socketio.on_namespace(All("/"))
        """, handlers=""),
}


#: The kinds that every run tries; the others are tried with the long tests.
ALWAYS = {"imported by a star", "a subclass", "for gevent", "with the reloader", "a factory for gunicorn",
          "two apps that are both served", "a class of handlers"}


@pytest.mark.parametrize("name", [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long)
                                  for name in KINDS])
def test_every_kind_of_app_is_served(tmp_path: Path, name: str) -> None:
    """A handler runs, what its thread emits reaches everybody, and a client that leaves is noticed."""
    kind, port = KINDS[name], free_port()
    if importlib.util.find_spec(kind.needs) is None:
        pytest.skip(f"{kind.needs} is not installed")
    for path, text in kind.files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    command = [word.format(port=port) for word in kind.command.split()]
    with running(tmp_path, [*EXEC, *command], port, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1") as server:
        with SseVisitor(port) as watcher:
            with SseVisitor(port) as client:
                client.emit("later", name)
                assert client.first("now") == name
                assert watcher.first("now") == name
            assert watcher.first("gone")
        text = server.text()
    assert text.count(SWAPPED) >= kind.swapped, text
    assert "Traceback" not in text, text


@pytest.mark.parametrize("lines", ["import eventlet.wsgi", "from eventlet import wsgi",
                                   "from eventlet.green import ssl",
                                   "import eventlet; eventlet.listen(('127.0.0.1', 0))"])
def test_what_eventlet_does_not_have_is_named(tmp_path: Path, lines: str) -> None:
    """An app that serves by eventlet itself ends with what it asked for, and what to do."""
    (tmp_path / "site_.py").write_text(lines, encoding="utf-8")
    done = subprocess.run([*EXEC, "python", "site_.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
                          check=False, env={**os.environ, "APP_PROFILE": "HYBRID"})
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0
    assert re.match(r"ImportError: eventlet\.(wsgi|green|listen) is not to be had .*HYBRID.*WEBSOCKET", last), last
