"""Parts of the server, on a gevent loop of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import gevent

T = TypeVar("T")


def on_a_loop(function: Callable[[], T]) -> T:
    """Run a function on a loop, and in a thread, of its own, which end with it; return what it returns."""

    def run() -> T:
        try:
            return function()
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)
