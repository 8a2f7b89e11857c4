"""What the host's requests are waiting for, seen by looking at the stacks of their threads for a while.

A stack says where a thread is, not how long it will stay: so it is looked at every few milliseconds, and what is seen
again and again is what the requests wait for.
"""

from __future__ import annotations

import dis
import os
import re
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

#: Bounds of what may be asked for, in seconds.
LONGEST_S, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S = 10.0, 0.002, 0.1
#: Groups that are told, and frames of each.
MAX_GROUPS, MAX_FRAMES = 20, 12

_LIBRARY = tuple(os.path.normcase(path) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
                 if (path := sysconfig.get_path(name)))
_HERE = os.path.normcase(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep

_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")
_EMITTING = re.compile(r"_*(emit|broadcast)(_|$)")
_BROADCASTERS = re.compile(r"socketio|engineio|websocket|ws_channel")
_DATABASE = {"execute", "executemany", "executescript", "commit", "rollback", "fetchone", "fetchall", "fetchmany",
             "connect", "close"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stack: ``calls`` are the names that its current line has looked up so far, oldest first."""

    path: str
    function: str
    line: int
    calls: tuple[str, ...] = ()
    uses_sqlite: bool = False

    @property
    def is_hosts(self) -> bool:
        """True for the host's own code: neither Python's, nor an installed package's, nor ours."""
        path = os.path.normcase(self.path)
        return not path.startswith((*_LIBRARY, _HERE, "<frozen")) and not _INSTALLED.search(path)

    def __str__(self) -> str:
        parts = self.path.replace("\\", "/").split("/")
        return f"{'/'.join(parts[-2:])}:{self.line} {self.function}"


@dataclass(slots=True)
class Group:
    """Samples in which requests waited for the same thing at the same place.

    :ivar kind: ``emit``: a client, while an event is sent; ``cpu_percent``: psutil's sleep; ``sleep``; ``sqlite``: the
        database or its lock; ``lock``; ``subprocess``; ``network``: another server; ``code``: nothing known, perhaps it
        computes.
    :ivar where: the innermost frame of the host's own code.
    :ivar longest_ms: longest time one thread was seen there without a break.
    """

    kind: str
    where: str
    samples: int = 0
    share: float = 0.0
    longest_ms: float = 0.0
    stack: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What was seen: ``requests`` are samples of threads that were in a request, ``rounds`` looks at all threads."""

    seconds: float
    interval_ms: float
    rounds: int
    requests: int
    groups: list[Group]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)


def sample(seconds: float, interval: float = 0.01, *,
           look: Callable[[], Mapping[int, FrameType]] = sys._current_frames) -> Sampling:
    """Look at the threads that are in a request of the host, again and again, for ``seconds``.

    The calling thread does not count, nor do threads that hold a WebSocket open.
    """
    groups: dict[tuple[str, str], Group] = {}
    since: dict[int, tuple[tuple[str, str], float]] = {}
    requests = rounds = 0
    started = now = time.monotonic()
    while now - started < seconds:
        rounds += 1
        seen = {}
        for ident, innermost in list(look().items()):
            frames = None if ident == threading.get_ident() else request_frames(innermost)
            if not frames:
                continue
            requests += 1
            kind, where = culprit(frames)
            key = (kind, str(where))
            group = groups.setdefault(key, Group(*key))
            group.samples += 1
            group.stack = [str(frame) for frame in frames[-MAX_FRAMES:]]
            begun = since[ident][1] if since.get(ident, (None, 0.0))[0] == key else now
            seen[ident] = (key, begun)
            group.longest_ms = max(group.longest_ms, round((now - begun) * 1000, 1))
        since = seen
        time.sleep(interval)
        now = time.monotonic()
    found = sorted(groups.values(), key=lambda group: -group.samples)[:MAX_GROUPS]
    for group in found:
        group.share = round(group.samples / requests, 3)
    return Sampling(round(now - started, 3), interval * 1000, rounds, requests, found)


def request_frames(innermost: FrameType) -> list[Frame]:
    """Return what the host runs in a request, outermost first; nothing if this thread is in none."""
    stack: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        name = frame.f_code.co_name
        if name in ("full_dispatch_request", "wsgi_app") and frame.f_globals.get("__name__") == "flask.app":
            break
        stack.append(frame)
        frame = frame.f_back
    if frame is None:
        return []
    frames = [_frame(item) for item in reversed(stack)]
    if any("flask_sock" in item.path or item.path.endswith("simple_websocket/ws.py") for item in frames):
        return []  # it waits for its client, which holds nobody up
    ours = [item for item in frames if not item.is_hosts and os.path.normcase(item.path).startswith(_HERE)]
    return frames if not ours or any(item.is_hosts for item in frames) else []


def culprit(frames: list[Frame]) -> tuple[str, Frame]:
    """Return what a request waits for, and the innermost frame of the host's own code."""
    last = frames[-1]
    where = next((frame for frame in reversed(frames) if frame.is_hosts), last)
    if any("psutil" in frame.path and frame.function in ("cpu_percent", "cpu_times_percent") for frame in frames):
        return "cpu_percent", where
    names = {*last.calls, last.function}
    if names & _DATABASE and any(frame.uses_sqlite for frame in frames[-3:]):
        return "sqlite", where
    if any(_EMITTING.match(frame.function) for frame in frames):
        return "emit", where
    if any(os.path.basename(frame.path) == "subprocess.py" and not frame.is_hosts for frame in frames[-3:]):
        return "subprocess", where  # which sleeps between its looks
    if "sleep" in names:
        return "sleep", where
    if any(_BROADCASTERS.search(os.path.basename(frame.path)) for frame in frames):
        return "emit", where
    for frame in reversed(frames):
        file = os.path.basename(frame.path)
        if file in ("socket.py", "ssl.py", "client.py") and not frame.is_hosts:
            return "network", where
        if file in ("threading.py", "queue.py") and not frame.is_hosts:
            return "lock", where
    if names & {"acquire", "wait", "join"}:
        return "lock", where
    return ("network" if names & {"recv", "getaddrinfo", "urlopen"} else "code"), where


def _frame(frame: FrameType) -> Frame:
    code, line = frame.f_code, frame.f_lineno or 0
    sqlite = sys.modules.get("sqlite3")
    uses = sqlite is not None and any(value is sqlite for value in list(frame.f_globals.values()))
    return Frame(code.co_filename, code.co_name, line, _names(code, frame.f_lasti, line), uses)


@lru_cache(4096)
def _names(code: CodeType, last: int, line: int) -> tuple[str, ...]:
    """The names that a line has loaded up to an instruction: calls of C functions have no frame of their own."""
    starts, current, names = dict(dis.findlinestarts(code)), None, []
    for item in dis.get_instructions(code):
        if item.offset > last:
            break
        current = starts.get(item.offset, current)
        if current == line and item.opname.startswith("LOAD_") and isinstance(item.argval, str):
            names.append(item.argval)
    return tuple(names[-8:])
