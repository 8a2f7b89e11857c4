"""The recipe for a client in Python loses nothing when its server is killed and starts again."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.servers import SOON, TESTS, Server, wait_until

RECIPE = TESTS.parent / "examples" / "python_client" / "follow.py"


class Follower:
    """The recipe, run as its users run it: a line for each event."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.got: list[tuple[str, str, Any]] = []
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                event_id, name, data = line.split(" ", 2)
                self.got.append((event_id, name, json.loads(data)))

    def named(self, name: str) -> list[Any]:
        return [data for _, found, data in self.got if found == name]

    def wait_for(self, number: int, name: str) -> None:
        wait_until(lambda: len(self.named(name)) >= number, SOON, f"{number} {name}, of {self.got}")


@contextlib.contextmanager
def following(*arguments: str) -> Iterator[Follower]:
    """Run the recipe until the end of a block."""
    process = subprocess.Popen([sys.executable, str(RECIPE), *arguments], stdout=subprocess.PIPE, text=True)
    follower = Follower(process)
    try:
        yield follower
    finally:
        process.kill()
        process.wait()
        follower.thread.join()


def test_it_has_everything_after_a_restart(tmp_path: Path) -> None:
    """What was emitted before it came back, after the number that it was given, and once."""
    settings = {"HYBRID_JOURNAL": tmp_path / "journal.sqlite3", "HYBRID_RETRY_MS": 100}
    with Server("ours", **settings) as first:
        with following(f"http://127.0.0.1:{first.port}") as client:
            client.wait_for(1, "hybrid_open")
            first.emit("note", 3)
            client.wait_for(3, "note")
            wait_until(lambda: first.status()["journal"]["waiting"] == 0, what="the journal to have everything")
            first.process.kill()
            first.ended(SOON)
            with Server("ours", "--port", str(first.port), **settings) as second:
                second.emit("note", 4, first=3)
                client.wait_for(7, "note")
                assert [data["i"] for data in client.named("note")] == list(range(7))
                ids = [event_id for event_id, name, _ in client.got if name == "note"]
                assert len(set(ids)) == 7
                with following(f"http://127.0.0.1:{first.port}", ids[4]) as later:
                    later.wait_for(2, "note")
                    assert [data["i"] for data in later.named("note")] == [5, 6]


def test_it_ends_with_its_client_and_where_it_is_refused() -> None:
    """It does not come back to a host that has ended it, nor to one that wants a key."""
    with Server("ours", HAKGAL_API_KEY="k") as host:
        url = f"http://127.0.0.1:{host.port}"
        with following(url, "", "k") as client:
            client.wait_for(1, "hybrid_open")
            [opened] = client.named("hybrid_open")
            host.ask("POST", "/kick", {"sid": opened["sid"]})
            assert client.process.wait(SOON) == 0
            client.thread.join()
            assert client.got[-1][1] == "hybrid_disconnect"
        with following(url, "", "wrong") as client:
            assert client.process.wait(SOON) == 1


@pytest.mark.parametrize("status", [502, 503, 504])
def test_it_comes_back_to_a_proxy_that_has_no_host(status: int) -> None:
    """An error page of a proxy is like a cut; the stream comes when the proxy has a host again."""
    asked: list[str] = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Last-Event-ID", ""))
            if len(asked) == 2:
                self.send_error(status)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Content-Length", "1000000")  # less comes: a cut
            self.end_headers()
            self.wfile.write(b"retry: 20\nid: 1-%d\nevent: news\ndata: %d\n\n" % (len(asked), len(asked)))

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with following(f"http://127.0.0.1:{server.server_address[1]}") as client:
                client.wait_for(2, "news")
        finally:
            server.shutdown()
            thread.join()
    assert asked[:3] == ["", "1-1", "1-1"]
    assert client.named("news")[:2] == [1, 3]
