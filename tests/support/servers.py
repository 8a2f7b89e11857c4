"""Servers as subprocesses, and clients on bare sockets: what the tests of the wire are made of.

Everything waits for a state with a deadline. ``python -m support.servers read PORT`` and ``... hold PORT N`` are
clients in processes of their own, for tests that stop or kill them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flask import Flask

from hakgal_hybrid.broker.formats import Format
from hakgal_hybrid.broker.sse import Decoder, Message

from . import accounting

T = TypeVar("T")

TESTS = Path(__file__).resolve().parent.parent
STREAM = "/api/events/stream"
EMIT = "/api/events/emit"
CONTROL = "/api/governor/control"
STATUS = "/api/hybrid/status"

SERVERS = ("ours", "werkzeug", "gunicorn-gthread", "gunicorn-gevent")
#: How long anything may take that should happen at once, on however busy a machine.
SOON = 30.0

_PORT = re.compile(r"https?://(?:127\.0\.0\.1|0\.0\.0\.0|\[::1\]|localhost):(\d+)")


def wait_until(predicate: Callable[[], T], seconds: float = SOON, what: str = "") -> T:
    """Return the first true value of ``predicate``; fail if there is none in time."""
    pause, ends = threading.Event(), time.monotonic() + seconds
    while not (value := predicate()):
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:g} s: {what or predicate}; last seen {value!r}")
        pause.wait(0.01)
    return value


# -- what can be asked -------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """One HTTP answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Api:
    """``support.app``, however it is reached."""

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask once. A body that is not bytes is sent as JSON."""
        raise NotImplementedError

    def stream(self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Open a stream; it has read its headers, and nothing else."""
        raise NotImplementedError

    def opened(self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Open a stream and wait for its ``hybrid_open``, which is its first message."""
        stream = self.stream(query, headers, **options)
        try:
            stream.read_until(lambda stream: stream.messages)
        except BaseException:
            stream.close()
            raise
        return stream

    def status(self) -> dict[str, Any]:
        """Return what the transport tells about itself."""
        return dict(self.ask("GET", STATUS).json())

    def notes(self) -> dict[str, Any]:
        """Return what the app tells about itself."""
        return dict(self.ask("GET", "/notes").json())

    def emit(self, event: str, n: int = 1, **options: Any) -> str:
        """Have the app emit ``n`` events; return the newest id after that."""
        answer = self.ask("POST", "/emit", {"event": event, "n": n, **options})
        assert answer.status == 200, answer
        return str(answer.json()["newest"])

    def wait_for_streams(self, number: int, seconds: float = SOON) -> None:
        """Wait until so many streams are open."""
        wait_until(lambda: self.status()["streams"] == number, seconds, f"{number} open streams")


class InProcess(Api):
    """The app in this process, asked through Flask's test client."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client = app.test_client(use_cookies=False)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
            **environ: Any) -> Answer:
        """Ask once; ``environ`` goes into the WSGI environment, such as ``REMOTE_ADDR``."""
        options: dict[str, Any] = {"data": body} if body is None or isinstance(body, bytes) else {"json": body}
        response = self.client.open(path, method=method, headers=headers, environ_overrides=environ, **options)
        with response:
            fields: dict[str, str] = {}
            for name, value in response.headers:
                known = fields.get(name.lower())
                fields[name.lower()] = value if known is None else f"{known}, {value}"
            return Answer(response.status_code, fields, response.get_data())

    def stream(self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any) -> ClientStream:
        return ClientStream(self.client, query, headers, **options)


# -- servers -----------------------------------------------------------------------------------------------------


class Server(Api):
    """One server process that serves ``support.app``.

    :param kind: one of :data:`SERVERS`, ``waitress``, or ``gunicorn-sync``.
    :param options: further command line options.
    :param settings: environment variables, such as ``HYBRID_HEARTBEAT_S``. ``SUPPORT_SCRIPT`` is a program that serves
        the app in place of ``support.app``.
    """

    def __init__(self, kind: str, *options: str, **settings: object) -> None:
        self.kind = kind
        self._tls = None
        if "--certfile" in options:
            self._tls = ssl.create_default_context(cafile=options[options.index("--certfile") + 1])
        handle, name = tempfile.mkstemp(prefix="support-", suffix=".log")
        self._log = Path(name)
        ours = ("HYBRID_", "HAKGAL_", "ENABLE_", "APP_PROFILE")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(TESTS), environ.get("PYTHONPATH"))))
        environ["PYTHONUNBUFFERED"] = "1"
        self.manifest = self._log.with_suffix(".manifest")
        environ["SUPPORT_MANIFEST"] = str(self.manifest)
        environ["HYBRID_HEARTBEAT_S"] = str(3 * SOON)  # so that none sets going what should go by itself
        environ.update({name: str(value) for name, value in settings.items()})
        manifest = Path(environ["SUPPORT_MANIFEST"])  # several lives of one server may share one
        script = environ.get("SUPPORT_SCRIPT")
        command = self._command(kind, options) if script is None else [sys.executable, script]
        with open(handle, "wb") as log:
            self.process = subprocess.Popen(
                command, cwd=TESTS, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0))
        try:
            self.port = int(wait_until(self._announced, 60, "the server names its port")[1])
            wait_until(self._answers, 60, "the server answers")
            accounting.manifests[self.port] = manifest
        except BaseException:
            print(self.log())
            self.stop()
            raise

    @staticmethod
    def _command(kind: str, options: tuple[str, ...]) -> list[str]:
        family, _, worker = kind.partition("-")
        if family != "gunicorn":
            return [sys.executable, "-m", "support.app", kind, *options]
        return [sys.executable, "-m", "gunicorn", "--worker-class", worker, "--bind", "127.0.0.1:0", "--threads", "40",
                "--graceful-timeout", "1", "--worker-tmp-dir", tempfile.gettempdir(), *options,
                "support.app:create_app()"]

    def _announced(self) -> re.Match[str] | None:
        if self.process.poll() is not None:
            raise AssertionError(f"{self.kind} ended with {self.process.returncode}")
        return _PORT.search(self.log())

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/health").status == 200
        except OSError:
            return False

    def log(self, start: int = 0) -> str:
        """Return what the server has printed, from byte ``start`` on."""
        return self._log.read_bytes()[start:].decode("utf-8", "replace")

    def signal(self, number: int) -> None:
        """Send the server process a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float = SOON) -> int:
        """Wait for the process to end by itself; return its exit code."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End the process, kindly first."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        try:
            accounting.settle()  # while it can be told what the server has emitted
        finally:
            accounting.manifests.pop(getattr(self, "port", 0), None)
            self._log.unlink(missing_ok=True)
            self.manifest.unlink(missing_ok=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.log())  # pytest shows it with the failure
        self.stop()

    # -- asking it ---------------------------------------------------------------------------------------------

    def connect(self, **options: Any) -> Http:
        """Return a new connection."""
        return Http(self.port, **{"tls": self._tls, **options})

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask once, on a connection of its own. A body that is not bytes is sent as JSON."""
        with self.connect() as http:
            return http.ask(method, path, body, {"Connection": "close", **(headers or {})})

    def stream(self, query: str = "", headers: Mapping[str, str] | None = None, **options: Any) -> Stream:
        return Stream(self.port, query, headers, **{"tls": self._tls, **options})


@contextlib.contextmanager
def shown_on_failure(server: Server) -> Iterator[Server]:
    """Print what ``server`` logged meanwhile: pytest shows it with a test that failed, and nowhere else."""
    start = len(server.log().encode())
    try:
        yield server
    finally:
        print(f"-- log of {server.kind} --\n{server.log(start)}")


def read_until_cut(response: http.client.HTTPResponse) -> bytes:
    """Read a stream that must have no clean end, as its client has to come back."""
    try:
        response.read()
    except http.client.IncompleteRead as cut:
        return cut.partial
    raise AssertionError("the stream has a clean end")


# -- plain HTTP --------------------------------------------------------------------------------------------------


class Http:
    """One HTTP connection on a bare socket: what is sent and what comes back are bytes.

    :param rcvbuf: size of the receive buffer, for clients that shall stall soon.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", rcvbuf: int | None = None,
                 tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if rcvbuf is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            sock.settimeout(SOON)
            sock.connect((host, port))
            self.sock = sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise
        self._buffer = b""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def reset(self) -> None:
        """Close the connection as the kernel does for a process that was killed: with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
                             if sys.platform != "win32" else b"\x01\x00\x00\x00")
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
                version: str = "1.1") -> None:
        """Send a request. A body that is not bytes is sent as JSON."""
        lines = {"Host": "127.0.0.1", **(headers or {})}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            lines.setdefault("Content-Type", "application/json")
        if body is not None:
            lines.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
        self.send(f"{method} {path} HTTP/{version}\r\n{head}\r\n".encode("latin-1") + (body or b""))

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
            version: str = "1.1") -> Answer:
        """Send a request and return its answer."""
        self.request(method, path, body, headers, version)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer."""
        status, headers = self.head()
        if method == "HEAD" or status in (204, 304) or status < 200:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, self._chunked())
        if "content-length" in headers:
            return Answer(status, headers, self._exactly(int(headers["content-length"])))
        return Answer(status, headers, self.rest())

    def head(self) -> tuple[int, dict[str, str]]:
        """Read status line and headers."""
        text = self.until(b"\r\n\r\n").decode("latin-1")
        first, *lines = text.split("\r\n")
        fields = [line.partition(":") for line in lines]
        headers: dict[str, str] = {}
        for name, _, value in fields:
            known = headers.get(name.lower())
            headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
        return int(first.split(" ", 2)[1]), headers

    def rest(self) -> bytes:
        """Read until the server closes the connection."""
        while self._more():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def closed(self, seconds: float = SOON) -> bool:
        """True if the server closes the connection in time; whatever it still sends is thrown away."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            readable, _, _ = select.select([self.sock], [], [], max(0.0, ends - time.monotonic()))
            if not readable:
                return False
            try:
                if not self.sock.recv(65536):
                    return True
            except ConnectionError:
                return True
        return False

    def quiet(self) -> bool:
        """True if nothing more has come than what was read."""
        return not self._buffer and not select.select([self.sock], [], [], 0)[0]

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            assert self._exactly(2) == b"\r\n"
        assert self._exactly(2) == b"\r\n"
        return body

    def until(self, mark: bytes) -> bytes:
        """Read up to ``mark``; return what came before it."""
        while mark not in self._buffer:
            if not self._more():
                raise ConnectionError(f"the connection ended after {self._buffer!r:.200}")
        data, _, self._buffer = self._buffer.partition(mark)
        return data

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise ConnectionError(f"the connection ended after {len(self._buffer)} of {size} bytes")
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self) -> bool:
        data = self.sock.recv(262144)
        self._buffer += data
        return bool(data)


# -- streams -----------------------------------------------------------------------------------------------------


class Dechunker:
    """Takes a body apart that comes in HTTP chunks, in whatever pieces."""

    def __init__(self) -> None:
        self.ended = False
        self._buffer = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        self._buffer += data
        body = b""
        while not self.ended:
            if not self._left:
                line, found, rest = self._buffer.partition(b"\r\n")
                if not found:
                    break
                size = int(line.split(b";")[0], 16)
                self.ended = size == 0
                self._left, self._buffer = size + 2, rest
            taken, self._buffer = self._buffer[:self._left], self._buffer[self._left:]
            body += taken[:max(0, self._left - 2)]
            self._left -= len(taken)
            if self._left:
                break
        return body


class Events:
    """What a client makes of an event stream.

    :ivar messages: everything dispatched so far, but for heartbeats, which come at any time; ``heartbeats``: those.
    :ivar raw: every byte of the stream.
    """

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.messages: list[Message] = []
        self.heartbeats: list[Message] = []
        self.raw = bytearray()
        self.ended = False

    def _read(self, seconds: float) -> bytes:
        """Return some more bytes of the stream, none if there are none in time; set :attr:`ended` at its end."""
        raise NotImplementedError

    def read_until(self: E, predicate: Callable[[E], T], seconds: float = SOON) -> T:
        """Read until ``predicate``, asked about this stream, is true; return its value."""
        ends = time.monotonic() + seconds
        while not (value := predicate(self)):
            left = ends - time.monotonic()
            if self.ended or left <= 0:
                why = "the stream ended" if self.ended else f"not within {seconds:g} s"
                last = ", ".join(f"{message!r:.200}" for message in self.messages[-5:])
                raise AssertionError(f"{why}; {len(self.messages)} messages, the last ones {last}; "
                                     f"the last bytes {bytes(self.raw[-200:])!r}")
            self.take(self._read(left))
        return value

    def read_to_end(self, seconds: float = SOON) -> None:
        """Read until the server ends the stream."""
        self.read_until(lambda stream: stream.ended, seconds)

    def take(self, data: bytes) -> None:
        self.raw += data
        for message in self.decoder.feed(data):
            heartbeat = message.event == "hybrid_heartbeat" or '"event":"hybrid_heartbeat"' in message.data
            (self.heartbeats if heartbeat else self.messages).append(message)

    def named(self, name: str) -> list[Message]:
        """Return the messages with this event name."""
        return [message for message in self.messages if message.event == name]

    def payloads(self, name: str) -> list[Any]:
        """Return the data of the messages with this event name."""
        return [json.loads(message.data) for message in self.named(name)]

    def wait_for(self, name: str, n: int = 1, seconds: float = SOON) -> list[Any]:
        """Read until ``n`` messages with this name have come; return the data of all."""
        self.read_until(lambda stream: len(stream.named(name)) >= n, seconds)
        return self.payloads(name)

    @property
    def open(self) -> dict[str, Any]:
        """The data of ``hybrid_open``."""
        found: dict[str, Any] = self.wait_for("hybrid_open")[0]
        return found

    @property
    def sid(self) -> str:
        return str(self.open["sid"])

    @property
    def id(self) -> str:
        return self.decoder.last_event_id


E = TypeVar("E", bound=Events)


class Stream(Http, Events):
    """An event stream on a bare socket.

    :ivar status: HTTP status; ``headers``: of the answer.
    """

    def __init__(self, port: int, query: str = "", headers: Mapping[str, str] | None = None, *, version: str = "1.1",
                 **options: Any) -> None:
        Http.__init__(self, port, **options)
        Events.__init__(self)
        self.port, self.query = port, query
        try:
            path = f"{STREAM}?{query}" if query else STREAM
            self.request("GET", path, headers={"Accept": "text/event-stream", **(headers or {})}, version=version)
            self.status, self.headers = self.head()
        except BaseException:
            self.close()
            raise
        self._dechunker = Dechunker() if self.headers.get("transfer-encoding") == "chunked" else None
        self._left = int(self.headers["content-length"]) if "content-length" in self.headers else None
        data, self._buffer = self._buffer, b""
        self.take(self._body(data))
        accounting.streams.append(self)  # the test that opened it will be asked whether all of it is accounted for

    def got(self) -> list[accounting.Got]:
        """Return what came, block by block."""
        form = Format.ENVELOPE if "envelope=" in self.query and "envelope=0" not in self.query else Format.JSON
        return accounting.blocks(bytes(self.raw), form)

    def _read(self, seconds: float) -> bytes:
        pending = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
        if not pending and not select.select([self.sock], [], [], seconds)[0]:
            return b""
        try:
            data = self.sock.recv(262144)
        except ConnectionError:
            data = b""
        if not data:
            self.ended = True
        return self._body(data)

    def open_after(self, name: str) -> bool:
        """Read until a message with this name has come; return whether the connection is still open then."""
        self.wait_for(name)
        return not self.ended and not select.select([self.sock], [], [], 0)[0]

    def _body(self, data: bytes) -> bytes:
        """Return what of ``data`` is body: an answer may also end by chunks or length."""
        if self._dechunker is not None:
            data = self._dechunker.feed(data)
            self.ended = self.ended or self._dechunker.ended
        if self._left is not None:
            self._left -= len(data)
            self.ended = self.ended or self._left <= 0
        return data


class ClientStream(Events):
    """An event stream read through Flask's test client. Reads return with each heartbeat, so keep that short."""

    def __init__(self, client: Any, query: str = "", headers: Mapping[str, str] | None = None, **options: Any) -> None:
        super().__init__()
        self._response = client.get(f"{STREAM}?{query}", headers=headers, **options)
        self._body = self._response.iter_encoded()
        self.status = self._response.status_code
        self.headers = {name.lower(): value for name, value in self._response.headers.items()}

    def _read(self, seconds: float) -> bytes:
        chunk = next(self._body, None)
        self.ended = chunk is None
        return chunk or b""

    def close(self) -> None:
        """Hang up."""
        self._response.close()

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- measuring ---------------------------------------------------------------------------------------------------


def milliseconds(call: Callable[[], object]) -> float:
    """Return how long ``call`` takes."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


# -- clients in processes of their own -----------------------------------------------------------------------------


def client_process(*arguments: object) -> subprocess.Popen[bytes]:
    """Start this module as a client process; it prints lines as it goes."""
    return subprocess.Popen([sys.executable, "-m", "support.servers", *map(str, arguments)], cwd=TESTS,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def _hold(port: int, number: int) -> None:
    """Open ``number`` streams, say so, and keep them until killed."""
    streams = [Stream(port) for _ in range(number)]
    for stream in streams:
        stream.wait_for("hybrid_open")
    print("holding", flush=True)
    signal.pause()


def _read(port: int) -> None:
    """Read a stream and print each message as one line, until ``end``."""
    stream = Stream(port, rcvbuf=4096)
    told = 0
    while not stream.named("end"):
        stream.read_until(lambda stream, told=told: len(stream.messages) > told, 60)  # type: ignore[misc]
        for message in stream.messages[told:]:
            data = json.loads(message.data)
            data.pop("padding", None)
            print(json.dumps([message.event, data]), flush=True)
        told = len(stream.messages)
        stream.raw.clear()
    stream.close()


if __name__ == "__main__":
    {"hold": _hold, "read": _read}[sys.argv[1]](*map(int, sys.argv[2:]))
