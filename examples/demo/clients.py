"""Dashboards for the demo: live ones that read everything, and stalled ones that connected and stopped reading.

Runs as a process of its own, so that counting events does not disturb the one that measures requests:
``python clients.py ws|sse PORT LIVE STALLED``. It prints ``ready``; for every line on its standard input it prints one
line of JSON with what the live clients have received since the line before; at the end of input it ends.
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

#: What a stalled client lets the kernel hold for it, in bytes.
TINY = 4096


class SseReader:
    """Takes a stream apart into (name, data) pairs; enough for what this demo's host sends."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        *blocks, self._rest = (self._rest + chunk).split(b"\n\n")
        return [event for event in map(self._event, blocks) if event is not None]

    @staticmethod
    def _event(block: bytes) -> tuple[str, str] | None:
        fields = dict(line.partition(": ")[::2] for line in block.decode().splitlines() if not line.startswith(":"))
        return (fields["event"], fields["data"]) if "data" in fields and "event" in fields else None


class WebSocketReader:
    """Takes unmasked text frames apart into (name, data) pairs."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[str, str]]:
        self._rest += chunk
        events = []
        while (frame := self._frame()) is not None:
            opcode, payload = frame
            if opcode == 1:
                message = json.loads(payload)
                events.append((message["event"], json.dumps(message["data"])))
        return events

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._rest) < 2:
            return None
        size, start = self._rest[1] & 127, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(self._rest[2:2 + width], "big"), 2 + width
        if len(self._rest) < start + size:
            return None
        opcode, payload = self._rest[0] & 15, bytes(self._rest[start:start + size])
        del self._rest[:start + size]
        return opcode, payload


def connect(kind: str, port: int, stalled: bool) -> tuple[socket.socket, bytes]:
    """Open one connection and read the response's head; return what came behind it too."""
    sock = socket.socket()
    if stalled:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY)
    sock.settimeout(30)
    sock.connect(("127.0.0.1", port))
    path, more = "/api/events/stream", "Accept: text/event-stream\r\n"
    if kind == "ws":
        key = base64.b64encode(os.urandom(16)).decode()
        path = "/ws"
        more = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{more}\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(4096)
        if not piece:
            raise ConnectionError(f"refused: {head!r}")
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    if head.split(b" ")[1] not in (b"101", b"200"):
        raise ConnectionError(f"refused: {head!r}")
    return sock, rest


class Ledger:
    """What the live clients have received since the last report."""

    def __init__(self, live: int) -> None:
        self._live = live
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self.events: Counter[str] = Counter()
        self.facts = [0] * self._live
        self.delays: list[float] = []

    def note(self, client: int, name: str, data: str) -> None:
        with self._lock:
            self.events[name] += 1
            if name == "fact_added":
                self.facts[client] += 1
                self.delays.append(time.time() - json.loads(data)["timestamp"])

    def report(self) -> str:
        with self._lock:
            told = {"events": sum(self.events.values()), "names": self.events, "facts": self.facts,
                    "delays": sorted(self.delays)}
            text = json.dumps(told)
            self._reset()
        return text


def main(kind: str, port: int, live: int, stalled: int) -> None:
    ledger = Ledger(live)
    selector = selectors.DefaultSelector()
    make: Callable[[], SseReader | WebSocketReader] = WebSocketReader if kind == "ws" else SseReader
    for client in range(live):
        sock, rest = connect(kind, port, stalled=False)
        reader = make()
        for name, data in reader.feed(rest):
            ledger.note(client, name, data)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, (client, reader))
    kept = [connect(kind, port, stalled=True) for _ in range(stalled)]
    threading.Thread(target=pump, args=(selector, ledger), daemon=True).start()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(ledger.report(), flush=True)
    del kept


def pump(selector: selectors.BaseSelector, ledger: Ledger) -> None:
    while True:
        for key, _ in selector.select():
            client, reader = key.data
            try:
                chunk = key.fileobj.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                chunk = b""
            if not chunk:
                selector.unregister(key.fileobj)
                continue
            for name, data in reader.feed(chunk):
                ledger.note(client, name, data)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
