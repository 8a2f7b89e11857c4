"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import accounting


@pytest.fixture(autouse=True)
def _every_stream_is_accounted_for() -> Iterator[None]:
    """Hold what every stream of a test has received against what its server has emitted."""
    yield
    accounting.settle()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Write the names of the tests that failed, a line each, into the file that ``TESTS_FAILED`` names."""
    if "TESTS_FAILED" in os.environ:
        stats = terminalreporter.stats
        names = dict.fromkeys(report.nodeid for kind in ("failed", "error") for report in stats.get(kind, []))
        Path(os.environ["TESTS_FAILED"]).write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
