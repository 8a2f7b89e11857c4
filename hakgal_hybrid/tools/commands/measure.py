"""``measure``: a host before and after, under the same load (see :mod:`hakgal_hybrid.tools.measure`)."""

from __future__ import annotations

import copy

import click


def _measure() -> click.Command:
    from ..measure.command import measure

    return measure


def _for_flask() -> click.Command:
    command = copy.copy(_measure())
    command.help = (command.help or "").replace("hakgal-hybrid measure", "flask --app app hybrid measure")
    return command


COMMANDS = {"measure": (_measure, _for_flask)}
