"""For tests of apps that use the transport; also a pytest plugin (see the fixtures at the end).

Nothing here needs a running server, and nothing sleeps: what was emitted is there when the call returns, and reading
a stream waits for the event itself, up to a deadline.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient

from . import signals
from .broker.event import Event
from .broker.sse import Decoder, Message
from .extension import HybridTransport
from .web.transport import KEY
from .web.urls import STREAM

#: What JSON text decodes to.
JSON: TypeAlias = "dict[str, Any] | list[Any] | str | int | float | bool | None"
#: How many of the events that came a time-out lists.
_LISTED = 20


@dataclass(frozen=True)
class Emitted:
    """One event that was emitted, as a client would see it: ``data`` decoded from the JSON that was sent.

    :ivar data: one argument itself, several as a list, ``None`` for none.
    :ivar args: every argument.
    :ivar to: the rooms (a ``sid`` is one) it was for, sorted; ``None`` for everybody.
    """

    event: str
    data: JSON
    args: list[JSON]
    namespace: str
    to: list[Hashable] | None
    id: str

    @classmethod
    def from_event(cls, event: Event, event_id: str) -> Emitted:
        """Decode an event that went into the log.

        :param event: the event.
        :param event_id: the id that the log gave it.
        :return: the event as a client would see it.
        """
        rooms = event.target.rooms
        return cls(event.name, json.loads(event.data), json.loads(event.args_text), event.target.namespace,
                   None if rooms is None else sorted(rooms, key=str), event_id)


class Collected(list[Emitted]):
    """The events that were emitted while :func:`collect` was open, in order."""

    def named(self, name: str) -> list[Emitted]:
        """Return the events with one name.

        :param name: the name of the event.
        """
        return [item for item in self if item.event == name]

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return [item.event for item in self]


@contextlib.contextmanager
def collect(transport: HybridTransport) -> Iterator[Collected]:
    """Collect what a transport emits from entering the context to leaving it.

    :param transport: the transport of the app under test.
    :return: a context manager that gives a :class:`Collected`.
    """
    collected = Collected()

    def receive(sender: Flask, event: Event, event_id: str, **more: object) -> None:
        collected.append(Emitted.from_event(event, event_id))

    with signals.event_emitted.connected_to(receive, sender=transport.app):
        yield collected


class StreamClosed(Exception):
    """The stream ended before what was waited for came."""


class TestStream:
    """A stream that was opened through Flask's test client and is read by a thread of its own.

    :param response: the response that :func:`open_stream` got.
    :param timeout: the deadline of everything that waits, in seconds.
    :ivar response: the response; its ``status_code`` and ``headers`` are there at once.
    :ivar open: the data of ``hybrid_open``: ``sid``, ``token`` and so on.
    """

    __test__ = False  # pytest shall not take it for a test

    def __init__(self, response: Any, timeout: float) -> None:
        self.response = response
        self._timeout = timeout
        self._decoder = Decoder()
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._came: deque[str] = deque(maxlen=_LISTED)
        self._thread = threading.Thread(target=self._pump, name="hakgal-hybrid-test-stream", daemon=True)
        self._thread.start()
        self.open: dict[str, Any] = self.json(self.until("hybrid_open"))

    def _pump(self) -> None:
        try:
            for chunk in self.response.response:
                for message in self._decoder.feed(chunk):
                    self._messages.put(message)
        finally:
            self._messages.put(None)

    @property
    def last_event_id(self) -> str:
        """What a client would send as ``Last-Event-ID`` now."""
        return self._decoder.last_event_id

    def next(self, timeout: float | None = None) -> Message:
        """Return the next event that is no heartbeat.

        :param timeout: the deadline in seconds; that of :func:`open_stream` by default.
        :raises TimeoutError: if no event comes in time; it lists what came before.
        :raises StreamClosed: if the stream ended.
        """
        return self._read("no event", lambda message: message.event != "hybrid_heartbeat", timeout)

    def until(self, name: str, timeout: float | None = None) -> Message:
        """Return the next event with one name, and drop those before it.

        :param name: the name of the event.
        :param timeout: the deadline in seconds; that of :func:`open_stream` by default.
        :raises TimeoutError: if no such event comes in time; it lists what did come.
        :raises StreamClosed: if the stream ended.
        """
        return self._read(f"no event {name!r}", lambda message: message.event == name, timeout)

    def _read(self, failed: str, wanted: Callable[[Message], bool], timeout: float | None) -> Message:
        seconds = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self._messages.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"{failed} came within {seconds:g} s; {self._list()}") from None
            if message is None:
                self._messages.put(None)
                raise StreamClosed(f"the stream has ended; {self._list()}")
            self._came.append(f"{message.event} {message.data:.80}")
            if wanted(message):
                return message

    def _list(self) -> str:
        return f"what came, oldest first: {'; '.join(self._came) or 'nothing'}"

    @staticmethod
    def json(message: Message) -> Any:
        """Return the decoded data of an event.

        :param message: an event of this stream.
        """
        return json.loads(message.data)

    def close(self) -> None:
        """Close the stream, as a client does that goes away."""
        self.response.close()
        self._thread.join(self._timeout)

    def __enter__(self) -> TestStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def open_stream(client: FlaskClient, *, timeout: float = 5.0, headers: dict[str, str] | None = None,
                **query: str) -> TestStream:
    """Open a real stream through Flask's (or pytest-flask's) test client.

    :param client: the test client of the app.
    :param timeout: the deadline of everything that waits, in seconds.
    :param headers: more headers of the request, ``Last-Event-ID`` for example.
    :param query: the stream's query: ``events="kb_*"``, ``snapshot="1"`` and so on.
    :return: the open stream, whose ``hybrid_open`` has been read.
    :raises AssertionError: if the stream was refused; the message holds the problem document.
    """
    transport = client.application.extensions.get(KEY)
    prefix = "" if transport is None else transport.settings.prefix
    path = prefix + STREAM + ("?" + urlencode(query) if query else "")
    response = client.get(path, headers={"Accept": "text/event-stream", **(headers or {})}, buffered=False)
    if response.status_code != 200:
        raise AssertionError(f"the stream was refused with {response.status}: {response.get_data(as_text=True)}")
    return TestStream(response, timeout)


# -- pytest plugin -----------------------------------------------------------------------------------------------


@pytest.fixture
def hybrid_transport(app: Flask) -> HybridTransport:
    """Return the transport of the app.

    :param app: the app that the fixture ``app`` gives, as pytest-flask has it.
    """
    return HybridTransport.of(app)


@pytest.fixture
def hybrid_events(hybrid_transport: HybridTransport) -> Iterator[Collected]:
    """Collect the events that the app emits during the test.

    :param hybrid_transport: the transport of the app.
    """
    with collect(hybrid_transport) as events:
        yield events


@pytest.fixture
def hybrid_stream(app: Flask) -> Iterator[Callable[..., TestStream]]:
    """Give a function that opens streams of the app, with the arguments of :func:`open_stream`; close them at the end.

    :param app: the app that the fixture ``app`` gives.
    """
    with contextlib.ExitStack() as opened:
        yield lambda **options: opened.enter_context(open_stream(app.test_client(), **options))
