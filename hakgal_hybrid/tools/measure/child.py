"""The start of a host that ``measure`` starts: ``hakgal-hybrid run`` as it is, and beside it a sampler of lag.

``python -m hakgal_hybrid.tools.measure.child FILE MODULE run …``. As soon as the host's module has been imported, a
thread asks every 20 ms by how much a sleep of 20 ms came too late, and appends that to ``FILE``. In an ordinary
process this is the lag of a thread (scheduler and interpreter lock); in one that eventlet has patched, the "thread" is
a greenlet, and its lag is that of eventlet's loop. The host is not changed; nothing of it is called.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
import time
from typing import TextIO

import wrapt

from ...monitoring.patching import eventlet_patched

#: How often the sampler wakes up, and how often it writes, in seconds.
INTERVAL_S = 0.02
WRITE_S = 0.5


def main(arguments: list[str]) -> None:
    """Note who we are, wait for the host's module, and become ``hakgal-hybrid``.

    :param arguments: the file of the sampler, the module of the host, and a command of ``hakgal-hybrid``.
    """
    path, module, *command = arguments
    record = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (it stays open as long as the process)
    record.write(json.dumps({"pid": os.getpid()}) + "\n")
    wrapt.register_post_import_hook(lambda _: start(record), module)
    sys.argv = ["hakgal-hybrid", *command]
    runpy.run_module("hakgal_hybrid", run_name="__main__", alter_sys=True)


def start(record: TextIO) -> None:
    """Begin to sample, with whatever ``threading`` is by now.

    :param record: the file that is written to.
    """
    record.write(json.dumps({"sampler": "eventlet" if eventlet_patched("thread") else "thread"}) + "\n")
    threading.Thread(target=sample, args=(record,), name="hakgal-hybrid-lag-sampler", daemon=True).start()


def sample(record: TextIO) -> None:
    """Measure lag for ever; a line is the time and the lags in milliseconds since the line before.

    :param record: the file that is written to.
    """
    lags: list[float] = []
    write_at = time.monotonic() + WRITE_S
    while True:
        asked = time.perf_counter()
        time.sleep(INTERVAL_S)
        lags.append(round(max(0.0, time.perf_counter() - asked - INTERVAL_S) * 1000, 3))
        if time.monotonic() >= write_at:
            record.write(json.dumps([round(time.time(), 3), lags]) + "\n")
            lags, write_at = [], time.monotonic() + WRITE_S


if __name__ == "__main__":
    main(sys.argv[1:])
