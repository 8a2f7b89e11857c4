"""Which scenarios are tests of ``make test``, and which of ``make compat``."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from .scenarios import SCENARIOS

#: Another one has other things happen.
SEED = int(os.environ.get("TORTURE_SEED", "1"))
#: Those that take least time, and prove different things.
QUICK = ("replies", "flushall")
MARKS = [pytest.mark.once, pytest.mark.timeout(240),
         pytest.mark.skipif(sys.platform == "win32", reason="processes are stopped by signals that Windows lacks")]


def cases(group: str) -> list[Any]:
    """Return the scenarios of one kind, as parameters of a test.

    :param group: the module that they are in.
    """
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.long)
            for name, scenario in SCENARIOS.items() if scenario.group == group]
