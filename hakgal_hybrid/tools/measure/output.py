"""What the host printed while it was measured: warnings and errors, counted, some of them shown."""

from __future__ import annotations

import re

from .hosts import Host
from .record import Log

#: More than this of a log is not read, counted from its end.
MAX_BYTES = 32 << 20
SHOWN = 10
_ERROR = re.compile(r"\b(?:ERROR|CRITICAL|FATAL)\b|^Traceback \(most recent call last\)|^\w*(?:Error|Exception): ")
_WARNING = re.compile(r"\bWARN(?:ING)?\b|\b\w*Warning: ")


def read_log(host: Host) -> Log:
    """Count what ``host`` has printed since the measurement began.

    :param host: the host that is measured.
    """
    if host.log is None:
        return Log(missing="the host was not started by measure, and no path of its log was given "
                           f"(--{host.mode}-log)")
    try:
        with host.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(min(host.log_from, size), size - MAX_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError as problem:
        return Log(missing=f"the log could not be read: {problem}")
    log = Log()
    for line in text.splitlines():
        log.read += 1
        error, warning = bool(_ERROR.search(line)), bool(_WARNING.search(line))
        log.errors += error
        log.warnings += warning and not error
        if (error or warning) and len(log.lines) < SHOWN:
            log.lines.append(line[:300])
    return log
