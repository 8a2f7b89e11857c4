"""The torture of the shared log notices a rule that is missing. ``make torture ARGS=--mutants`` tries all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.torture.cases import MARKS, SEED
from support.torture.mutants import MUTANTS
from support.torture.running import torture

pytestmark = MARKS

#: Those that are noticed for certain, and soonest.
QUICK = ("no settling", "no refill", "no TWIN", "a new token for each try")


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_fit_the_code(name: str) -> None:
    """Each rule that is taken away is where it is looked for, once."""
    assert MUTANTS[name].text()


@pytest.mark.long
@pytest.mark.parametrize("name", QUICK)
def test_missing_rule_is_noticed(name: str, tmp_path: Path) -> None:
    """Without one of its rules the shared log does not pass."""
    mutant = MUTANTS[name]
    result = torture(mutant.scenario, tmp_path / "run", SEED, package=mutant.apply(tmp_path / "package"))
    assert result.bad
