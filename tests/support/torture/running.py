"""Runs a scenario and returns its accounts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .accounts import account
from .scenarios import SCENARIOS
from .world import World


class Result(NamedTuple):
    """What became of a run.

    :ivar bad: what must not be. :ivar counts: how many of what. :ivar forget: deletes what was written down.
    """

    bad: list[str]
    counts: Counter[str]
    forget: Callable[[], object]


def torture(name: str, folder: Path, seed: int, *, long: bool = False, package: Path | None = None) -> Result:
    """Run a scenario, and hold what was read against what was emitted.

    :param name: the scenario.
    :param folder: where everything is written; it must not be there yet.
    :param seed: from which what happens by chance is made.
    :param long: whether each thing is done several times.
    :param package: the folder that holds the package to be tried, if that is not the one of the tests.
    """
    scenario = SCENARIOS[name]
    world = World(folder, seed, long=long, package=package)
    bad: list[str] = []
    try:
        for step in (lambda: scenario.run(world), world.settle):
            try:
                step()
            except AssertionError as error:
                bad.append(str(error))
    finally:
        world.close()
    accounts = account(world.run, scenario.promise)
    return Result([*bad, *accounts.bad, *world.said()], accounts.counts, lambda: shutil.rmtree(folder))
