"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import accounting


@pytest.fixture(autouse=True)
def _every_stream_is_accounted_for() -> Iterator[None]:
    """Hold what every stream of a test has received against what its server has emitted."""
    yield
    accounting.settle()
