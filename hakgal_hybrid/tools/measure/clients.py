"""The dashboards of a measurement: live ones that read everything, and stalled ones that connected and stopped reading.

A process of its own, so that reading disturbs neither the requests nor their timing: ``python -m
hakgal_hybrid.tools.measure.clients``. Each line on its standard input is a JSON object, answered by one::

    {"do": "connect", "kind": "sse"|"ws"|"socketio", "url": …, "headers": {…}, "ws_path": "/ws", "tag": …, "live": 20}
    {"do": "stall", "count": 1}
    {"do": "report"}        what the live ones have received since the last report

The end of input ends it.
"""

from __future__ import annotations

import json
import selectors
import ssl
import sys
import threading
import time
from collections import Counter
from typing import Any

from ..remote.exchange import JOIN, SOCKET_IO, TINY, Exchange, HTTPExchange, WebSocketExchange, begin
from ..remote.request import TIMEOUT_S, Base, connected
from ..remote.stream import STREAM
from .decoders import EventDecoder, emitted_at
from .extras import need

#: More delays than these are counted, not kept, between two reports.
MAX_DELAYS = 500_000
#: An event's own time is believed if it differs by less than this from our clock, in seconds.
CREDIBLE_S = 3600.0


class ClientCounters:
    """What the live clients have received since the last report.

    :param tag: what marks the facts of this run.
    """

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._lock = threading.Lock()
        self._closed = 0
        self._reset()

    def _reset(self) -> None:
        self._names: Counter[str] = Counter()
        self._facts: Counter[int] = Counter()
        self._per_client: Counter[int] = Counter()
        self._delays: list[float] = []
        self._untimed = 0

    def note(self, client: int, name: str, payload: str) -> None:
        """Count an event that has come in just now.

        :param client: the number of the client.
        :param name: the name of the event.
        :param payload: the payload as text.
        """
        now = time.time()
        made = emitted_at(payload)
        with self._lock:
            self._names[name] += 1
            if name.startswith("hybrid_"):  # about the stream, not about the host
                return
            self._per_client[client] += 1
            if name == "fact_added" and self._tag in payload:
                self._facts[client] += 1
            if made is None or abs(now - made) > CREDIBLE_S or len(self._delays) >= MAX_DELAYS:
                self._untimed += 1
            else:
                self._delays.append(round(max(0.0, now - made) * 1000, 2))

    def lost(self) -> None:
        """Count a live client whose connection has ended."""
        with self._lock:
            self._closed += 1

    def report(self, live: int) -> dict[str, Any]:
        """Return what was counted, and begin anew.

        :param live: how many live clients there are.
        """
        with self._lock:
            answer = {"events": sum(self._per_client.values()), "names": dict(self._names), "delays": self._delays,
                    "untimed": self._untimed, "closed": self._closed,
                    "facts": [self._facts[client] for client in range(live)],
                    "per_client": [self._per_client[client] for client in range(live)]}
            self._reset()
        return answer


class Clients:
    """All the clients of one measurement.

    :param order: the JSON object of the order ``connect``.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.kind: str = order["kind"]
        self.base = Base.of(order["url"])
        self.headers: dict[str, str] = order.get("headers") or {}
        self.ws_path: str = order.get("ws_path") or "/ws"
        self.live: int = order["live"]
        self.counters = ClientCounters(order.get("tag") or "\0")
        self._selector = selectors.DefaultSelector()
        self._kept: list[Any] = []
        (self._connect_socketio if self.kind == "socketio" else self._connect_raw)()

    # -- live ones -----------------------------------------------------------------------------------------------

    def _connect_raw(self) -> None:
        for client in range(self.live):
            exchange, decoder = self._exchange(), EventDecoder()
            sock = connected(self.base, timeout=2 * TIMEOUT_S)
            for name, payload in decoder.feed(begin(sock, exchange)):
                self.counters.note(client, name, payload)
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, (client, exchange, decoder))
        if self.live:
            threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        while self._selector.get_map():
            for key, _ in self._selector.select():
                sock: Any = key.fileobj
                client, exchange, decoder = key.data
                try:
                    while chunk := sock.recv(65536):
                        for name, payload in decoder.feed(exchange.feed(chunk)):
                            self.counters.note(client, name, payload)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                except OSError:
                    pass
                self._selector.unregister(sock)
                sock.close()
                self.counters.lost()

    def _connect_socketio(self) -> None:
        socketio = need("socketio", "connect Socket.IO clients")
        for number in range(self.live):
            # The validation is a loop in Python over each byte: it would take longer than the host does.
            client = socketio.Client(reconnection=False, handle_sigint=False,
                                     websocket_extra_options={"skip_utf8_validation": True})

            def received(name: str, *args: Any, number: int = number) -> None:
                self.counters.note(number, name, json.dumps(args[0] if len(args) == 1 else args, default=str))

            client.on("*", received)
            client.on("disconnect", lambda *_: self.counters.lost())
            try:
                client.connect(self.base.url.removesuffix(self.base.path), headers=self.headers,
                               transports=["websocket"], socketio_path=f"{self.base.path}/socket.io", wait_timeout=30)
            except socketio.exceptions.ConnectionError as error:
                raise ConnectionError(f"the Socket.IO client was refused: {error}") from error
            self._kept.append(client)

    # -- stalled ones --------------------------------------------------------------------------------------------

    def stall(self, count: int) -> None:
        """Connect clients that never read again.

        :param count: how many.
        """
        for _ in range(count):
            exchange = self._exchange()
            sock = connected(self.base, timeout=2 * TIMEOUT_S, receive_buffer=TINY)
            self._kept.append(sock)
            begin(sock, exchange)
            if self.kind == "socketio" and isinstance(exchange, WebSocketExchange):
                sock.sendall(exchange.message(JOIN))

    def _exchange(self) -> Exchange[bytes | list[str]]:
        if self.kind == "sse":
            return HTTPExchange(self.base, self.base.path + STREAM, {"Accept": "text/event-stream", **self.headers})
        return WebSocketExchange(self.base, SOCKET_IO if self.kind == "socketio" else self.ws_path, self.headers)


def main() -> None:
    """Take orders from standard input until it ends."""
    clients: Clients | None = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any] = {}
        try:
            if order["do"] == "connect":
                clients = Clients(order)
            elif clients is None:
                raise ValueError("connect first")
            elif order["do"] == "stall":
                clients.stall(order["count"])
            else:
                answer = clients.counters.report(clients.live)
        except Exception as error:  # the parent process has to know, whatever it is
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({**answer, "number": order.get("number")}), flush=True)


if __name__ == "__main__":
    main()
