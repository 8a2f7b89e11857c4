"""Where the host's requests spend their time: the stacks of their threads, sampled for a while.

One stack says where a thread is, not how long it stays there. Places that many samples show are the slow ones.
"""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from types import CodeType, FrameType
from typing import Any

#: Bounds of what a caller may ask for, in seconds.
LONGEST_S, SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S = 10.0, 0.002, 0.1
#: Hotspots that are returned, and frames of each.
MAX_HOTSPOTS, MAX_FRAMES = 20, 12

_OURS = os.path.normcase(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_LIBRARIES = (_OURS, "<frozen", *(os.path.normcase(path) + os.sep for path in map(sysconfig.get_path, (
    "stdlib", "platstdlib", "purelib", "platlib"))))
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
#: A thread in one of these holds a WebSocket open: it waits for its client and keeps nobody waiting.
_WEBSOCKETS = ("flask_sock", "simple_websocket")


@dataclass(slots=True)
class Hotspot:
    """A function of the host in which requests were seen.

    :ivar where: file, line and name; the line is the one seen most.
    :ivar samples: how often a request was seen there; ``share`` is that part of all samples of requests.
    :ivar longest_ms: the longest time that one thread was seen there without a break.
    :ivar stack: the frames of the last sample, innermost last: what the function had called.
    """

    where: str
    samples: int = 0
    share: float = 0.0
    longest_ms: float = 0.0
    stack: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sampling:
    """What the samples show.

    :ivar seconds: how long the threads were sampled; every ``interval_ms``.
    :ivar rounds: how often all threads were looked at.
    :ivar requests: how often a thread was seen in a request.
    :ivar groups: the hotspots, the most frequent first.
    """

    seconds: float
    interval_ms: float
    rounds: int
    requests: int
    groups: list[Hotspot]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)


def current_frames() -> dict[int, FrameType]:
    """Return the innermost frame of each thread.

    Without a garbage collection meanwhile: Python up to 3.12 holds a lock there that a finalizer may wait for, for ever
    (https://github.com/python/cpython/issues/106883).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return sys._current_frames()
    finally:
        if enabled:
            gc.enable()


def sample(seconds: float, interval: float = 0.01) -> Sampling:
    """Sample the threads that are in a request of the host. The calling thread does not count.

    :param seconds: for how long.
    :param interval: seconds between two samples.
    """
    hotspots: dict[CodeType, Hotspot] = {}
    lines: dict[CodeType, Counter[int]] = {}
    since: dict[tuple[int, CodeType], float] = {}
    requests = rounds = 0
    started = now = time.monotonic()
    while now - started < seconds:
        rounds += 1
        seen = {}
        for thread, innermost in current_frames().items():
            frames = [] if thread == threading.get_ident() else request_frames(innermost)
            if not frames:
                continue
            requests += 1
            frame = next((frame for frame in reversed(frames) if is_hosts(frame.f_code)), frames[-1])
            code = frame.f_code
            hotspot = hotspots.setdefault(code, Hotspot(""))
            hotspot.samples += 1
            hotspot.stack = [described(item.f_code, item.f_lineno) for item in frames[-MAX_FRAMES:]]
            lines.setdefault(code, Counter())[frame.f_lineno or 0] += 1
            seen[thread, code] = since.get((thread, code), now)
            hotspot.longest_ms = max(hotspot.longest_ms, round((now - seen[thread, code]) * 1000, 1))
        since = seen
        time.sleep(interval)
        now = time.monotonic()
    for code, hotspot in hotspots.items():
        hotspot.where = described(code, lines[code].most_common(1)[0][0])
        hotspot.share = round(hotspot.samples / requests, 3)
    found = sorted(hotspots.values(), key=lambda hotspot: -hotspot.samples)[:MAX_HOTSPOTS]
    return Sampling(round(now - started, 3), interval * 1000, rounds, requests, found)


def request_frames(innermost: FrameType) -> list[FrameType]:
    """Return the frames of a thread inside Flask's handling of a request of the host.

    :param innermost: the frame that the thread is in.
    :return: outermost first; nothing if the thread is in no such request, or holds a WebSocket open.
    """
    stack: list[FrameType] = []
    frame: FrameType | None = innermost
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module == "flask.app" and frame.f_code.co_name in ("full_dispatch_request", "wsgi_app"):
            break
        if module.partition(".")[0] in _WEBSOCKETS:
            return []
        stack.insert(0, frame)
        frame = frame.f_back
    if frame is None:
        return []
    ours = any(os.path.normcase(item.f_code.co_filename).startswith(_OURS) for item in stack)
    return [] if ours and not any(is_hosts(item.f_code) for item in stack) else stack


def is_hosts(code: CodeType) -> bool:
    """Return whether code is the host's own: neither Python's, nor an installed package's, nor ours.

    :param code: the code of a frame.
    """
    path = os.path.normcase(code.co_filename)
    return not path.startswith(_LIBRARIES) and not any(part in path for part in _INSTALLED)


def described(code: CodeType, line: int | None) -> str:
    """Return the last two parts of a path, the line and the name of a function.

    :param code: the code of a frame.
    :param line: the number of the line.
    """
    parts = code.co_filename.replace("\\", "/").split("/")
    return f"{'/'.join(parts[-2:])}:{line} {code.co_name}"
