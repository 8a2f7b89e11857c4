"""What a test's own thread has logged: threads of earlier tests may log something meanwhile."""

from __future__ import annotations

import logging
import threading

import pytest


def own_records(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return what was logged in the calling thread."""
    return [record for record in caplog.records if record.thread == threading.get_ident()]
