"""One client does as much as it can of what each may do a little: the others notice little, and memory is bounded."""

from __future__ import annotations

import collections
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faults import MINUTE, Client, Scene, allow_files, need
from support.servers import EMIT, Http

UP = "streams, host, status"
KEY = "known"
MIB = 1 << 20

pytestmark = [pytest.mark.once, pytest.mark.long]


class Peak:
    """The most memory that a process has held since this was made (MiB)."""

    def __init__(self, pid: int) -> None:
        need(sys.platform == "linux", "only Linux says how much a process has held at most")
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self.start = self.read()

    def read(self) -> float:
        [line] = [line for line in self._status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 1024

    @property
    def more(self) -> float:
        """How much more it has held than at the start."""
        return self.read() - self.start


@contextlib.contextmanager
def flood(threads: int, act: Callable[[], object]) -> Iterator[collections.Counter[object]]:
    """Have threads do something again and again; yield what came of it, counted."""
    ended, found = threading.Event(), collections.Counter[object]()

    def run() -> None:
        while not ended.is_set():
            try:
                result: object = act()
            except (OSError, ConnectionError) as error:
                result = type(error).__name__
            found[result] += 1

    crowd = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    try:
        yield found
    finally:
        ended.set()
        for thread in crowd:
            thread.join(60)


def post(scene: Scene, body: bytes, **headers: str) -> int:
    """Post a body to our server without a look at what comes meanwhile; return the status of the answer."""
    with Http(scene.server.port) as http:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        http.send(f"POST {EMIT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}"
                  f"Content-Length: {len(body)}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            http.send(body)
        return http.answer().status


FLOOD = {"X-API-Key": KEY, "X-Forwarded-For": "203.0.113.9"}
FAIR = {"X-API-Key": KEY, "X-Forwarded-For": "203.0.113.10"}


def test_one_address_opens_all_the_streams_it_can(fault: Any) -> None:
    """One address gets its share of the streams, and no more; another one gets a stream meanwhile, at once."""
    allow_files(4096)
    with fault("one address opens streams without end", UP, HAKGAL_API_KEY=KEY, kept_mib=128) as scene:
        held: list[Client] = []

        def open_one() -> bool:
            client = Client(scene.server.port, headers=FLOOD)
            if not client.connect():
                return False
            held.append(client)
            return True

        began, took = time.monotonic(), list[float]()
        with flood(16, open_one) as found:
            while time.monotonic() - began < max(6.0, MINUTE / 5):
                started = time.monotonic()
                with scene.server.opened(headers=FAIR):
                    took.append(time.monotonic() - started)
                time.sleep(0.2)  # how often another one comes
        taken = scene.server.status()["streams"]
        for client in held:
            client.hang_up(reset=True)
        scene.last(0.5)
        refused = scene.server.status()["refused"]
        scene.row.note = (f"{sum(found.values()):,} tried, {taken:,} streams open, {refused:,} refused; "
                          f"another address waits {max(took) * 1000:.0f} ms at most")
        assert taken < 2000


def test_one_address_opens_and_drops(fault: Any) -> None:
    """One address opens and drops streams without end: clients of others can still come back as who they were."""
    with fault("one address opens and drops streams without end", UP, HAKGAL_API_KEY=KEY, HYBRID_MAX_CLIENTS=500,
               HYBRID_RESUME_S=15, HYBRID_CONNECT_S=1, kept_mib=128) as scene:
        fair = []
        for _ in range(20):
            fair.append(scene.server.ask("POST", "/api/events/connect", {}, FAIR).json())
            with scene.server.opened(f"ticket={fair[-1]['ticket']}", headers=FAIR):
                pass

        def drop() -> bool:
            client = Client(scene.server.port, headers=FLOOD)
            came = client.connect()
            client.hang_up()
            return came

        with flood(8, drop) as found:
            scene.last(4)
            back = [scene.server.ask("POST", "/api/events/connect", {"sid": item["sid"], "token": item["token"]},
                                     FAIR).json()["resumed"] for item in fair]
        gave_way = scene.server.status()["refusals"].get("resume_gave_way", 0)
        scene.row.note = (f"{sum(found.values()):,} tried, {gave_way:,} of them gave up their way back; {sum(back)} of "
                          f"{len(back)} others could come back")
        assert found[True] > 500
        assert all(back)


@pytest.mark.parametrize("size", [MIB, 64 * MIB])
def test_large_bodies_of_one_who_may_not(fault: Any, size: int) -> None:
    """Large bodies of one who is not permitted are not read: they take no memory, and hold up nobody."""
    body = b"[" * size
    with fault(f"32 clients post {size // MIB} MiB without the key", UP, HAKGAL_API_KEY=KEY) as scene:
        peak = Peak(scene.pid)
        with flood(32, lambda: post(scene, body)) as found:
            scene.last(MINUTE / 2)
            more = peak.more
        scene.row.note = f"{found[401]:,} refused (401), {more:.0f} MiB more at most"
        assert found[401] > 0
        assert found[200] == 0
        assert more < 32, more  # less than the bodies that are being sent at a time


def test_large_bodies_of_one_who_may(fault: Any) -> None:
    """As many as there are threads post the most, of the worst JSON: the others are answered, memory stays bounded."""
    inside = b"[]," * ((MIB - 40) // 3)
    body = b'{"event": "echo", "data": [' + inside[:-1] + b"]}"
    with fault("32 clients post 1 MiB of small arrays with the key", UP, HAKGAL_API_KEY=KEY, kept_mib=240) as scene:
        peak = Peak(scene.pid)
        with flood(32, lambda: post(scene, body, X_API_Key=KEY)) as found:
            scene.last(MINUTE / 2)
            more = peak.more
        scene.row.note = f"{found[200]:,} handled, {more:.0f} MiB more at most"
        assert found[200] > 0
