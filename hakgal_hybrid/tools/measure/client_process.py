"""The clients' process, seen from the one that measures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from ...errors import HybridError


class ClientsFailed(HybridError):
    """The dashboards could not connect, or their process ended."""

    code = "clients_failed"
    title = "The clients of the measurement failed"


def child_options() -> dict[str, Any]:
    """Keywords of ``Popen`` for a child that an interrupt at our terminal does not reach: we end it ourselves."""
    if os.name == "nt":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
    return {"start_new_session": True}


class ClientProcess:
    """Live clients (and later stalled ones) in a process of their own.

    :param kind: ``sse``, ``ws`` or ``socketio``.
    :param url: where the host is; ``http://`` may be left out.
    :param live: how many live clients there are.
    :param tag: what marks the facts of this run; only those are counted as facts.
    :param headers: sent with the request, by name.
    :param ws_path: where a host without Socket.IO has its WebSocket.
    :raises ClientsFailed: if they cannot connect.
    """

    def __init__(self, kind: str, url: str, live: int, *, tag: str, headers: dict[str, str] | None = None,
                 ws_path: str = "/ws") -> None:
        self.kind, self.live, self.stalled = kind, live, 0
        self._orders = 0
        self._process = subprocess.Popen([sys.executable, "-m", "hakgal_hybrid.tools.measure.clients"], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8",
                                         **child_options())
        try:
            self._ask({"do": "connect", "kind": kind, "url": url, "headers": headers, "ws_path": ws_path, "tag": tag,
                       "live": live})
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The clients' process."""
        return self._process.pid

    def stall(self, count: int) -> None:
        """Connect ``count`` clients that do not read.

        :param count: how many.
        """
        self._ask({"do": "stall", "count": count})
        self.stalled += count

    def report(self) -> dict[str, Any]:
        """Return what the live ones have received since the last report."""
        return self._ask({"do": "report"})

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._orders += 1
            self._process.stdin.write(json.dumps({**order, "number": self._orders}) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = {}
            while answer.get("number") != self._orders:  # an interrupt may have left an answer unread
                line = self._process.stdout.readline()
                if not line:
                    raise ClientsFailed("the process of the clients has ended")
                answer = json.loads(line)
        except (OSError, ValueError) as error:
            raise ClientsFailed(f"the process of the clients has ended: {error}") from error
        if "error" in answer:
            raise ClientsFailed(f"{self.kind} clients: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process, and with it every connection."""
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # it has ended already
                pass
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
