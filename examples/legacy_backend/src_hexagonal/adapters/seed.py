"""The facts a fresh database starts with: 3,776 of them, the same on every machine."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, islice

from adapters.seed_data import (
    COMPOUNDS,
    EARLIER_TO_LATER,
    ELEMENTS,
    LONGER_TO_SHORTER_WAVES,
    MOONS,
    NOBLE_GASES,
    ORGANISMS,
    PERIODS,
    PLANETS,
    QUANTITIES,
    TRAITS,
)

FACT_COUNT = 3776
_SHUFFLE_SEED = 20250814


def facts() -> list[str]:
    """Exactly 3,776 distinct statements of the form ``Predicate(Entity1, Entity2).``."""
    distinct = dict.fromkeys(f"{predicate}({one}, {two})." for predicate, one, two in _triples())
    statements = list(islice(distinct, FACT_COUNT))
    # Knowledge arrives in no order; a fixed seed keeps it the same everywhere.
    random.Random(_SHUFFLE_SEED).shuffle(statements)
    return statements


def _triples() -> Iterator[tuple[str, str, str]]:
    """More than enough; the pairs of elements come last and fill up to the number wanted."""
    yield from _organisms()
    yield from _physics()
    yield from _compounds()
    yield from _element_properties()
    yield from _element_pairs()


def _organisms() -> Iterator[tuple[str, str, str]]:
    for group, names in ORGANISMS.items():
        for name in names.split():
            yield "IsA", name, group
            for predicate, value in TRAITS[group]:
                yield predicate, name, value


def _physics() -> Iterator[tuple[str, str, str]]:
    for quantity, unit in QUANTITIES.items():
        yield "IsMeasuredIn", quantity, unit
    for planet, moons in MOONS.items():
        for moon in moons.split():
            yield "OrbitsAround", moon, planet
    for planet in PLANETS.split():
        yield "OrbitsAround", planet, "Sun"
    yield from _ordered("IsCloserToTheSunThan", PLANETS)
    yield from _ordered("IsEarlierThan", EARLIER_TO_LATER)
    yield from _ordered("HasLongerWavelengthThan", LONGER_TO_SHORTER_WAVES)


def _ordered(predicate: str, names: str) -> Iterator[tuple[str, str, str]]:
    for one, two in combinations(names.split(), 2):
        yield predicate, one, two


def _compounds() -> Iterator[tuple[str, str, str]]:
    for compound, elements in COMPOUNDS.items():
        yield "IsA", compound, "ChemicalCompound"
        for element in elements.split():
            yield "ContainsElement", compound, element


def _element_properties() -> Iterator[tuple[str, str, str]]:
    previous = ""
    for number, (name, symbol, period) in enumerate(_elements(), start=1):
        yield "IsA", name, "ChemicalElement"
        yield "HasAtomicNumber", name, str(number)
        yield "HasSymbol", name, symbol
        yield "BelongsToPeriod", name, f"Period{period}"
        yield "HasElectronsWhenNeutral", name, str(number)
        if name in NOBLE_GASES:
            yield "IsA", name, "NobleGas"
        if previous:
            yield "ComesDirectlyAfter", name, previous
        previous = name


def _element_pairs() -> Iterator[tuple[str, str, str]]:
    table = list(_elements())
    for (one, _, period), (two, _, other) in combinations(table, 2):
        if period == other:
            yield "SharesPeriodOfTheTableWith", one, two


def _elements() -> Iterator[tuple[str, str, int]]:
    """Name, symbol and period of each element, in the order of their atomic numbers."""
    last_of_period = [sum(PERIODS[: period + 1]) for period in range(len(PERIODS))]
    for number, entry in enumerate(ELEMENTS.split(), start=1):
        name, symbol = entry.split(":")
        period = next(i for i, last in enumerate(last_of_period, start=1) if number <= last)
        yield name, symbol, period
