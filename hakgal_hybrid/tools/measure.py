"""``measure``: a host before and after, under the same load (see :mod:`hakgal_hybrid.measure`)."""

from __future__ import annotations

import click


def _measure() -> click.Command:
    from ..measure.command import measure

    return measure


COMMANDS = {"measure": (_measure, _measure)}
