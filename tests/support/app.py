"""The host that the server tests run: an ordinary Flask app, with whatever makes a server's life hard.

``python -m support.app SERVER --port 0`` serves it; gunicorn takes ``support.app:create_app()``. Settings come from the
environment, as a user would give them.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import flask
from flask import Flask, request
from flask_sock import Sock
from werkzeug.middleware.proxy_fix import ProxyFix

from hakgal_hybrid import HybridTransport
from hakgal_hybrid.logs import JsonFormatter
from hakgal_hybrid.socketio import ConnectionRefusedError, emit, join_room, leave_room, rooms

from . import accounting, faulty, forking, lasting

#: Ends when its standard input does, so that no child outlives the server that started it.
CHILD = "import sys; sys.stdin.read()"


class Governor:
    """Starts a real child process; in mode ``slow``, ``stop`` blocks until :attr:`may_stop`, at most 5 seconds.

    :param release: what mode ``release`` sets, for requests that hold a thread.
    """

    def __init__(self, release: threading.Event) -> None:
        self._release = release
        self.calls: list[str] = []
        self.mode = "fast"
        self.process: subprocess.Popen[bytes] | None = None
        self.may_stop = threading.Event()

    def start(self) -> bool:
        self.calls.append("start")
        if self.process is None:
            self.process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE)
        return True

    def stop(self) -> bool:
        self.calls.append("stop")
        if self.mode == "slow":
            self.may_stop.wait(5)
        if self.process is not None:
            self.process.communicate()
            self.process = None
        return True

    def set_mode(self, mode: str) -> bool:
        self.calls.append(f"set_mode {mode}")
        if mode == "explosive":
            raise RuntimeError("no such mode")
        if mode == "release":
            self._release.set()
        self.mode = mode
        return True

    def get_status(self) -> dict[str, Any]:
        return {"running": self.process is not None, "mode": self.mode, "process": self.process,
                "calls": list(self.calls)}


class Notes:
    """What happened inside the app, for ``GET /notes``."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.connected: list[str] = []
        self.disconnected: list[str] = []
        self.reasons: dict[str, str] = {}
        self.auth: dict[str, Any] = {}
        self.acks: list[list[Any]] = []
        self.release = threading.Event()
        self._keep = int(os.environ.get("SUPPORT_NOTES", "1000000"))
        self._lock = threading.Lock()

    def came(self, sid: str, auth: Any) -> None:
        self._note(self.connected, self.auth, sid, auth)

    def left(self, sid: str, reason: str) -> None:
        self._note(self.disconnected, self.reasons, sid, reason)

    def _note(self, sids: list[str], known: dict[str, Any], sid: str, value: Any) -> None:
        """Remember one more, of ``SUPPORT_NOTES`` at most: what is kept here must not look like a leak."""
        with self._lock:
            sids.append(sid)
            known[sid] = value
            for old in sids[:-self._keep]:
                known.pop(old, None)
            del sids[:-self._keep]


def create_app(**settings: Any) -> Flask:
    """Return a new app with its transport (``app.extensions["hakgal_hybrid"]``) and its governor."""
    app = Flask("support_app")
    # Held open from here on, so that those which come later have higher numbers.
    app.extensions["descriptors"] = [os.open(os.devnull, os.O_RDONLY)
                                     for _ in range(int(os.environ.get("SUPPORT_DESCRIPTORS", "0")))]
    if "SUPPORT_NO_SECRET" not in os.environ:
        app.config["SECRET_KEY"] = "only for tests"
    notes = Notes()
    governor = Governor(notes.release)
    transport = HybridTransport(app, governor=governor, **settings)
    if "SUPPORT_MANIFEST" in os.environ:
        accounting.Writer(os.environ["SUPPORT_MANIFEST"], transport.log.epoch,
                          transport.settings.conflate).follow(transport.log)
    app.extensions["notes"], app.extensions["governor"] = notes, governor
    _add_emitting_routes(app, transport, governor, notes)
    _add_trying_routes(app, notes)
    lasting.add(app, notes.counts)
    _add_handlers(transport, notes)
    _add_upgrades(app)
    if "SUPPORT_FAULTS" in os.environ:
        faulty.add(app, transport, governor, notes.release)
    if "SUPPORT_FORKS" in os.environ:
        forking.add(app, transport)
    app.wsgi_app = Raw(app.wsgi_app)  # type: ignore[method-assign]
    for _ in range(int(os.environ.get("SUPPORT_PROXY_FIX", "0"))):
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _add_emitting_routes(app: Flask, transport: HybridTransport, governor: Governor, notes: Notes) -> None:
    @app.post("/emit")
    def emit_many() -> Any:
        """Emit ``n`` events, with their number or ``data``, padded to ``size`` bytes."""
        options = request.get_json()
        name, to = options["event"], options.get("to")
        padding = {"padding": "x" * options["size"]} if "size" in options else {}
        for number in range(options.get("first", 0), options.get("first", 0) + options.get("n", 1)):
            args = options["args"] if "args" in options else [options.get("data", {"i": number, **padding})]
            transport.emit(name, *args, to=to, namespace=options.get("namespace"), skip_sid=options.get("skip"))
        return {"newest": transport.statistics().newest}

    @app.post("/storm")
    def storm() -> Any:
        """Have ``threads`` native threads emit ``n`` events each, taking turns as often as can be."""
        options = request.get_json()
        interval = sys.getswitchinterval()
        start = threading.Barrier(options["threads"])

        def blow(number: int) -> None:
            start.wait()
            for i in range(options["n"]):
                transport.emit("storm", {"thread": number, "i": i})

        threads = [threading.Thread(target=blow, args=(number,)) for number in range(options["threads"])]
        sys.setswitchinterval(1e-5)
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        return {"newest": transport.statistics().newest, "at": time.monotonic()}

    @app.post("/ask")
    def ask() -> Any:
        """Emit an event whose acknowledgements are noted."""
        options = request.get_json()
        transport.emit(options["event"], options.get("data"), to=options.get("to"), namespace=options.get("namespace"),
                       callback=lambda *args: notes.acks.append(list(args)))
        return {}

    @app.post("/binary")
    def emit_binary() -> Any:
        transport.emit("binary", {"picture": request.get_data()})
        return {}

    @app.post("/kick")
    def kick() -> Any:
        transport.socketio.server.disconnect(request.get_json()["sid"])
        return {}

    @app.post("/stop-streams")
    def stop_streams() -> Any:
        transport.stop()
        return {}

    @app.post("/governor/may-stop")
    def may_stop() -> Any:
        governor.may_stop.set()
        return {}

    @app.post("/governor/reset")
    def reset() -> Any:
        governor.may_stop.clear()
        governor.calls.clear()
        return {}

    @app.get("/notes")
    def tell() -> Any:
        return {"counts": notes.counts, "connected": notes.connected, "disconnected": notes.disconnected,
                "reasons": notes.reasons, "auth": notes.auth, "acks": notes.acks,
                "switch_interval": sys.getswitchinterval()}


def _add_trying_routes(app: Flask, notes: Notes) -> None:
    @app.get("/health")
    def health() -> Any:
        return {"status": "ok"}

    @app.route("/echo", methods=["GET", "POST", "PUT"])
    def echo() -> Any:
        body = request.get_data()
        return {"method": request.method, "host": request.host, "path": request.full_path, "length": len(body),
                "body": body[:1000].decode("latin-1"), "agent": request.headers.get("User-Agent")}

    @app.post("/form")
    def form() -> Any:
        return dict(request.form)

    @app.get("/login")
    def login() -> Any:
        flask.session["user"] = request.args["user"]
        return {}

    @app.get("/work")
    def work() -> Any:
        """Hold a thread for ``seconds``, burning CPU if asked to."""
        logging.getLogger("support").info("working")
        ends = time.monotonic() + float(request.args["seconds"])
        while request.args.get("burn") and time.monotonic() < ends:
            sum(range(1000))
        notes.release.wait(max(0.0, ends - time.monotonic()))
        return {}

    @app.get("/hold")
    def hold() -> Any:
        """Hold a thread until the governor is set to mode ``release``, a minute at most."""
        notes.counts["held"] += 1
        notes.release.wait(60)
        return {}

    @app.get("/chunks")
    def chunks() -> Any:
        """Stream ``n`` chunks; without ``n``, chunks of 64 KiB until nobody wants them."""
        number = request.args.get("n", type=int)

        def produce() -> Iterator[bytes]:
            notes.counts["producing"] += 1
            try:
                count = 0
                while number is None or count < number:
                    yield b"x" * 65536 if number is None else b"chunk %d;" % count
                    count += 1
            finally:
                notes.counts["producing"] -= 1

        return app.response_class(produce(), content_type="text/plain")

    @app.get("/large")
    def large() -> Any:
        return app.response_class(b"x" * request.args.get("size", type=int, default=0), content_type="text/plain")

    @app.get("/raise")
    def fail() -> Any:
        raise RuntimeError("this route fails")

    @app.get("/raise-midway")
    def fail_midway() -> Any:
        def produce() -> Iterator[bytes]:
            yield b"begun"
            raise RuntimeError("this answer fails")

        return app.response_class(produce(), content_type="text/plain")

    @app.get("/closing/<way>/<framing>")
    def closing(way: str, framing: str) -> Any:
        """Give a short answer whose closing waits for the release, or fails."""
        parts = ["clos", "ing"]
        answer = app.response_class(parts if framing == "whole" else iter(parts), content_type="text/plain")

        @answer.call_on_close
        def close() -> None:
            if way == "fails":
                raise RuntimeError("this closing fails")
            notes.release.wait(60)
            notes.counts["closed"] += 1

        return answer


def _add_handlers(transport: HybridTransport, notes: Notes) -> None:
    socketio = transport.socketio

    @socketio.on("connect")
    def connected(auth: Any = None) -> bool | None:
        if isinstance(auth, dict) and "refuse" in auth:
            raise ConnectionRefusedError(*auth["refuse"])
        if request.args.get("explain") == "odd":
            raise ConnectionRefusedError({"odd": object()})
        if "explain" in request.args:
            raise ConnectionRefusedError("not today", {"until": "tomorrow"})
        if "refuse" in request.args:
            return False
        if "hang" in request.args:
            notes.release.wait(60)
        notes.came(request.sid, auth)  # type: ignore[attr-defined]
        if "welcome" in request.args:
            emit("welcome", {"sid": request.sid})  # type: ignore[attr-defined]
        return None

    @socketio.on("disconnect")
    def disconnected(reason: str) -> None:
        notes.left(request.sid, reason)  # type: ignore[attr-defined]

    @socketio.on("echo")
    def echo(*args: Any) -> Any:
        return args

    @socketio.on("single")
    def single(value: Any) -> Any:
        return {"type": type(value).__name__, "value": value}

    @socketio.on("whoami")
    def whoami() -> Any:
        context: Any = request
        return {"sid": context.sid, "namespace": context.namespace, "event": context.event["message"],
                "tab": request.args.get("tab"), "agent": request.headers.get("User-Agent"),
                "cookie": request.cookies.get("flavour"), "user": flask.session.get("user"), "rooms": sorted(rooms())}

    @socketio.on("count")
    def count() -> int:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return int(flask.session["count"])

    @socketio.on("join")
    def join(room: str) -> None:
        join_room(room)

    @socketio.on("leave")
    def leave(room: str) -> None:
        leave_room(room)

    @socketio.on("shout")
    def shout(text: str) -> str:
        emit("heard", {"text": text}, broadcast=True, include_self=False)
        return "shouted"

    @socketio.on("ask")
    def ask(question: Any) -> None:
        emit("answer", {"to": question})
        emit("answer", 1, 2)

    @socketio.on("reverse")
    def reverse(data: bytes) -> bytes:
        return data[::-1]

    @socketio.on("odd")
    def odd() -> object:
        return {"odd": object()}

    @socketio.on("boom")
    def boom() -> None:
        raise LookupError("this handler fails")

    @socketio.on("hold")
    def hold() -> None:
        notes.counts["held"] += 1
        notes.release.wait(60)

    @socketio.on("echo", namespace="/chat")
    def chat_echo(text: str) -> str:
        return f"chat: {text}"


def _add_upgrades(app: Flask) -> None:
    sock = Sock(app)

    @sock.route("/ws/echo")
    def ws_echo(ws: Any) -> None:
        while True:
            ws.send(ws.receive())


class Raw:
    """WSGI middleware with answers that Flask would not let out."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def _veto(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Give another answer than the app's."""
        answer = self._app(environ, lambda status, headers, exc_info=None: None)
        if hasattr(answer, "close"):
            answer.close()
        start_response("403 Forbidden", [("Content-Type", "text/plain"), ("Content-Length", "6")])
        return [b"vetoed"]

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        path = environ["PATH_INFO"]
        if "veto=" in environ.get("QUERY_STRING", ""):
            return self._veto(environ, start_response)
        if path == "/raw/nodelay":
            # Only a request that may take over the socket can see it.
            option = environ["werkzeug.socket"].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [str(bool(option)).encode()]
        if path == "/raw/split":
            start_response("200 OK", [("X-Name", "value\r\nX-Evil: 1")])
            return [b"split"]
        if path == "/raw/raise":
            raise RuntimeError("not even Flask was asked")
        if path == "/raw/silent":
            return [b"no start_response"]
        if path == "/raw/exit":
            raise SystemExit(3)
        if path == "/raw/twice":
            start_response("200 OK", [])
            start_response("200 OK", [])
        if path == "/raw/second-thoughts":
            start_response("200 OK", [])
            try:
                raise RuntimeError("something went wrong")
            except RuntimeError:
                start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
            return [b"sorry"]
        if path == "/raw/short":
            start_response("200 OK", [("Content-Length", "10")])
            return [b"short"]
        if path == "/raw/long":
            start_response("200 OK", [("Content-Length", "5")])
            return iter([b"lo", b"ng, and more", b" and more"])
        if path.startswith("/raw/relayed"):  # the headers of another server's answer, as a view that passes it on has
            length = [("Content-Length", "7")] if path.endswith("whole") else []
            start_response("200 OK", [("Transfer-Encoding", "chunked"), ("Connection", "keep-alive"),
                                      ("Keep-Alive", "timeout=5"), *length])
            return [b"relayed"] if path.endswith("whole") else iter([b"rel", b"ayed"])
        if path == "/raw/upgrade":
            start_response("426 Upgrade Required", [("Upgrade", "websocket"), ("Connection", "Upgrade")])
            return [b"upgrade"]
        if path == "/raw/last":
            start_response("200 OK", [("Connection", "close")])
            return [b"last"]
        if path == "/raw/empty":
            start_response("204 No Content", [])
            return []
        if path == "/raw/write":
            write = start_response("200 OK", [("Content-Type", "text/plain")])
            write(b"written, ")
            return iter([b"", b"iterated, ", b"returned"])
        return self._app(environ, start_response)


def main() -> None:
    """Serve the app with one of the servers that run in their own process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("server", choices=["ours", "werkzeug", "waitress"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certfile")
    parser.add_argument("--keyfile")
    parser.add_argument("--log-output", action="store_true")
    parser.add_argument("--log-json", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=os.environ.get("SUPPORT_LOG", "INFO"), format="%(levelname)s %(name)s %(message)s")
    if options.log_json:
        logging.getLogger().handlers[0].setFormatter(JsonFormatter())
    _shorten_idle_time()
    app = create_app()
    if "SUPPORT_FILE_LIMIT" in os.environ:
        _limit_files(int(os.environ["SUPPORT_FILE_LIMIT"]))
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, lambda number, frame: HybridTransport.of(app).emit("signalled"))
    if options.server == "ours":
        HybridTransport.of(app).run(options.host, options.port, certfile=options.certfile, keyfile=options.keyfile,
                                   log_output=options.log_output)
    elif options.server == "werkzeug":
        app.run(options.host, options.port, threaded=True)
    else:
        import waitress

        waitress.serve(app, host=options.host, port=options.port, threads=8, trusted_proxy="127.0.0.1",
                       trusted_proxy_headers="x-forwarded-for")


def _limit_files(size: int) -> None:
    """Have no file grow larger, so that a write fails as on a full disk."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _shorten_idle_time() -> None:
    """Have idle threads end after ``SUPPORT_IDLE_S``, for tests that wait for that."""
    if "SUPPORT_IDLE_S" in os.environ:
        from hakgal_hybrid.broker.timers import TimerQueue
        from hakgal_hybrid.commands.worker import Worker
        from hakgal_hybrid.server.pool import ThreadPool

        for pool in (TimerQueue, Worker, ThreadPool):
            defaults = pool.__init__.__kwdefaults__
            assert "idle_s" in defaults, pool
            defaults["idle_s"] = float(os.environ["SUPPORT_IDLE_S"])


if __name__ == "__main__":
    main()
