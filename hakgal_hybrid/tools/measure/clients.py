"""The dashboards of a measurement: live ones that read everything, and stalled ones that connected and stopped reading.

A process of its own, so that reading disturbs neither the requests nor their timing: ``python -m
hakgal_hybrid.tools.measure.clients``. Each line on its standard input is a JSON object, answered by one::

    {"do": "connect", "kind": "sse"|"ws"|"socketio", "url": …, "headers": {…}, "ws_path": "/ws", "tag": …, "live": 20}
    {"do": "stall", "count": 1}
    {"do": "report"}        what the live ones have received since the last report

The end of input ends it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from typing import Any

from ..remote.request import TIMEOUT_S, Base, resolve
from .decoders import Reader, SseReader, WebSocketReader, emitted_at, masked_text_frame
from .extras import need

#: What a stalled client lets the kernel hold for it, in bytes.
TINY = 4096
#: More delays than these are counted, not kept, between two reports.
MAX_DELAYS = 500_000
#: An event's own time is believed if it differs by less than this from our clock, in seconds.
CREDIBLE_S = 3600.0


class ClientCounters:
    """What the live clients have received since the last report."""

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
        """Count an event that has come in just now."""
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
        """Return what was counted, and begin anew."""
        with self._lock:
            answer = {"events": sum(self._per_client.values()), "names": dict(self._names), "delays": self._delays,
                    "untimed": self._untimed, "closed": self._closed,
                    "facts": [self._facts[client] for client in range(live)],
                    "per_client": [self._per_client[client] for client in range(live)]}
            self._reset()
        return answer


class Clients:
    """All the clients of one measurement."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.kind: str = order["kind"]
        self.base = Base.of(order["url"])
        self.headers: dict[str, str] = order.get("headers") or {}
        self.ws_path: str = order.get("ws_path") or "/ws"
        self.live: int = order["live"]
        self.ledger = ClientCounters(order.get("tag") or "\0")
        self._selector = selectors.DefaultSelector()
        self._kept: list[Any] = []
        (self._connect_socketio if self.kind == "socketio" else self._connect_raw)()

    # -- live ones -----------------------------------------------------------------------------------------------

    def _connect_raw(self) -> None:
        for client in range(self.live):
            sock, head, rest = self._open(stalled=False)
            chunked = b"transfer-encoding: chunked" in head.lower()
            reader: Reader = SseReader(chunked) if self.kind == "sse" else WebSocketReader()
            for name, payload in reader.feed(rest):
                self.ledger.note(client, name, payload)
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ, (client, reader))
        if self.live:
            threading.Thread(target=self._pump, daemon=True).start()

    def _pump(self) -> None:
        while self._selector.get_map():
            for key, _ in self._selector.select():
                sock: Any = key.fileobj
                client, reader = key.data
                try:
                    while chunk := sock.recv(65536):
                        for name, payload in reader.feed(chunk):
                            self.ledger.note(client, name, payload)
                except (BlockingIOError, ssl.SSLWantReadError):
                    continue
                except OSError:
                    pass
                self._selector.unregister(sock)
                sock.close()
                self.ledger.lost()

    def _connect_socketio(self) -> None:
        socketio = need("socketio", "connect Socket.IO clients")
        for number in range(self.live):
            # The validation is a loop in Python over each byte: it would take longer than the host does.
            client = socketio.Client(reconnection=False, handle_sigint=False,
                                     websocket_extra_options={"skip_utf8_validation": True})

            def received(name: str, *args: Any, number: int = number) -> None:
                self.ledger.note(number, name, json.dumps(args[0] if len(args) == 1 else args, default=str))

            client.on("*", received)
            client.on("disconnect", lambda *_: self.ledger.lost())
            try:
                client.connect(self.base.url.removesuffix(self.base.path), headers=self.headers,
                               transports=["websocket"], socketio_path=f"{self.base.path}/socket.io", wait_timeout=30)
            except socketio.exceptions.ConnectionError as error:
                raise ConnectionError(f"the Socket.IO client was refused: {error}") from error
            self._kept.append(client)

    # -- stalled ones --------------------------------------------------------------------------------------------

    def stall(self, count: int) -> None:
        """Connect clients that never read again."""
        for _ in range(count):
            sock, _, _ = self._open(stalled=True)
            if self.kind == "socketio":  # Engine.IO's transport is open; this joins the namespace "/"
                sock.sendall(masked_text_frame("40"))
            self._kept.append(sock)

    # -- connecting ----------------------------------------------------------------------------------------------

    def _open(self, *, stalled: bool) -> tuple[socket.socket, bytes, bytes]:
        """Open one connection and read the head of the answer; return that, and what came behind it, too.

        :raises OSError: if it was refused.
        """
        sock = self._socket(TINY if stalled else 0)
        with contextlib.ExitStack() as stack:
            stack.callback(sock.close)
            sock.sendall(self._request())
            head = b""
            while b"\r\n\r\n" not in head:
                piece = sock.recv(4096)
                if not piece or len(head) > 65536:
                    raise ConnectionError("the connection was closed before its answer")
                head += piece
            head, _, rest = head.partition(b"\r\n\r\n")
            status = head.split(b" ")[1]
            if status != (b"200" if self.kind == "sse" else b"101"):
                raise ConnectionError(f"answered with status {status.decode()}: {rest[:300].decode(errors='replace')}")
            stack.pop_all()
        return sock, head, rest

    def _socket(self, receive_buffer: int) -> socket.socket:
        last: OSError = OSError(f"{self.base.host} has no address")
        for address in resolve(self.base):
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            try:
                if receive_buffer:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                sock.settimeout(TIMEOUT_S * 2)
                sock.connect(address.sockaddr)
                if self.base.scheme == "https":
                    sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.base.host)
                return sock
            except OSError as error:
                sock.close()
                last = error
        raise last

    def _request(self) -> bytes:
        fields = {"Host": self.base.netloc, **self.headers}
        if self.kind == "sse":
            path = "/api/events/stream"
            fields["Accept"] = "text/event-stream"
        else:
            path = "/socket.io/?EIO=4&transport=websocket" if self.kind == "socketio" else self.ws_path
            fields.update({"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                           "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"GET {self.base.path}{path} HTTP/1.1\r\n{head}\r\n".encode()


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
                answer = clients.ledger.report(clients.live)
        except Exception as error:  # whatever it is, whoever gave the order has to know
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({**answer, "number": order.get("number")}), flush=True)


if __name__ == "__main__":
    main()
