"""What a scenario is, and all that there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .accounts import Promise
from .links import Link
from .world import World


class Scenario(NamedTuple):
    """What is done, and what is promised nevertheless.

    :ivar group: what it is done to.
    """

    run: Callable[[World], object]
    promise: Promise
    group: str


SCENARIOS: dict[str, Scenario] = {}
WHOLE = Promise(whole=True)


def scenario(promise: Promise) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """Have a function be a scenario."""
    def add(run: Callable[[World], None]) -> Callable[[World], None]:
        SCENARIOS[run.__name__] = Scenario(run, promise, run.__module__.rpartition(".")[2])
        return run

    return add


def length(path: Path) -> int:
    """Return how many lines a file has."""
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def frozen(w: World, link: Link) -> None:
    link.freeze(True)
    w.nap(0.5, 4)
    link.freeze(False)


def paused(w: World, name: str) -> None:
    w.members[name].pause()
    w.nap(0.1, 4)
    w.members[name].go_on()


def deleted(w: World, key: str) -> None:
    with w.primary.client() as client:
        client.delete(key)


def full(w: World) -> None:
    with w.primary.client() as client:
        client.config_set("maxmemory", "1mb")
        w.nap(0.1, 2)
        client.config_set("maxmemory", 0)
