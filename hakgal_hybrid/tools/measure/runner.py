"""Conducting a measurement: every host in turn, and what is kept if it ends early."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...errors import HybridError
from .document import MODES, Plan
from .hosts import Host
from .load import Options
from .phases import Progress
from .protocol import Measurement
from .record import Run

#: How a host is come by, for a mode.
OpenHost = Callable[[str], "contextlib.AbstractContextManager[Host]"]


def run_hosts(modes: Sequence[str], open_host: OpenHost, options: Options, progress: Progress,
            plan: Plan) -> dict[str, Run | None]:
    """Measure every host in turn; ``plan`` notes if it was interrupted, or failed, and what there is by then is kept.

    :param modes: ``before``, ``after``, ``reference``, in any order.
    :param open_host: gives the host of a mode.
    :param options: the load.
    :param progress: shows how far it is.
    :param plan: what was to be done.
    """
    runs: dict[str, Run | None] = dict.fromkeys(MODES)
    with interrupts():
        try:
            for mode in modes:
                with _starting(progress, mode, open_host) as host:
                    quiet_only = mode == "reference"
                    run = runs[mode] = Run(mode, host.base.url, host.started, options.clients,
                                           0 if quiet_only else options.stalled)
                    Measurement(host, options, run, progress).measure(quiet_only=quiet_only)
        except KeyboardInterrupt:
            plan.interrupted = True
        except HybridError as error:
            plan.failed = error.detail
    return runs


@contextlib.contextmanager
def _starting(progress: Progress, mode: str, open_host: OpenHost) -> Iterator[Host]:
    progress.phase(mode, "start", 1)
    with open_host(mode) as host:
        progress.step()
        yield host


@contextlib.contextmanager
def interrupts() -> Iterator[None]:
    """Take a request to terminate (and Ctrl-Break, on Windows) for an interrupt: what was measured is kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {}
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            number = getattr(signal, name)
            before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
