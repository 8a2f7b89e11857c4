"""Clients of an app, by either transport and with the same methods: a test says once what must hold in both."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

import socketio

from .hosts import Stream, call, until
from .socketio_clients import OrderedClient


class Refused(Exception):
    """The app has refused to be connected to; its argument is what the client learned of why."""


class Visitor:
    """A client.

    :ivar events: what it got: ``(name, arguments)``.
    """

    events: list[tuple[str, Any]]

    def emit(self, event: str, *args: Any) -> Any:
        """Emit an event, and return what the handler answers."""
        raise NotImplementedError

    def close(self) -> None:
        """Disconnect."""
        raise NotImplementedError

    def all(self, name: str) -> list[Any]:
        """What came of an event so far."""
        return [data for event, data in list(self.events) if event == name]

    def first(self, name: str, having: Callable[[Any], bool] = lambda data: True) -> Any:
        """The first event of a name (for which ``having`` holds), waited for."""
        found = until(lambda: [data for data in self.all(name) if having(data)], f"{name}; so far: {self.events}")
        return found[0]

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()


class SseVisitor(Visitor):
    """A client of ours: connects and emits by POST, reads a stream."""

    def __init__(self, port: int, namespace: str = "/", auth: Any = None, cookie: str = "") -> None:
        self._port, self._namespace, self._headers = port, namespace, {"Cookie": cookie} if cookie else {}
        answer = call(port, "POST", "/api/events/connect", {"namespace": namespace, "auth": auth}, self._headers)
        if answer.status == 403:
            raise Refused(answer.body.get("message"))
        assert answer.status == 200, answer.body
        self._sid = answer.body["sid"]
        self._headers["X-Hybrid-Token"] = answer.body["token"]
        self._stream = Stream(port, f"?ticket={answer.body['ticket']}", **self._headers)
        self.events = self._stream.events

    def emit(self, event: str, *args: Any) -> Any:
        """Emit an event, and return what the handler answers."""
        body = {"event": event, "namespace": self._namespace, "sid": self._sid}
        if len(args) == 1:
            body["data"] = args[0]
        else:
            body["args"] = list(args)
        answer = call(self._port, "POST", "/api/events/emit", body, self._headers)
        assert answer.status == 200, answer.body
        return answer.body["ack"]

    def close(self) -> None:
        """Disconnect."""
        call(self._port, "POST", "/api/events/disconnect", {"sid": self._sid}, self._headers)
        self._stream.__exit__()


class SocketVisitor(Visitor):
    """A client of Flask-SocketIO: python-socketio's."""

    def __init__(self, port: int, namespace: str = "/", auth: Any = None, cookie: str = "") -> None:
        self.events = []
        self._namespace = namespace
        self._client = OrderedClient(reconnection=False)
        self._client.on("*", self._keep, namespace=namespace)
        refusals: list[Any] = []
        self._client.on("connect_error", refusals.append, namespace=namespace)
        try:
            self._client.connect(f"http://127.0.0.1:{port}", headers={"Cookie": cookie} if cookie else {}, auth=auth,
                                 namespaces=[namespace], transports=["polling"])
        except socketio.exceptions.ConnectionError as error:
            raise Refused(str(refusals or error)) from error

    def _keep(self, event: str, *args: Any) -> None:
        self.events.append((event, args[0] if len(args) == 1 else list(args) or None))

    def emit(self, event: str, *args: Any) -> Any:
        """Emit an event, and return what the handler answers."""
        return self._client.call(event, args[0] if len(args) == 1 else args or None, namespace=self._namespace)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()


def cookie_of(port: int, path: str, **fields: str) -> str:
    """Post a form as a browser does; return the cookies that were set."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, urlencode(fields), {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status < 400, answer.status
        cookies = answer.headers.get_all("Set-Cookie") or []
        return "; ".join(cookie.partition(";")[0] for cookie in cookies)
    finally:
        connection.close()


