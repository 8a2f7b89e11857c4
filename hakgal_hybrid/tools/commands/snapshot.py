"""``hakgal-hybrid snapshot URL`` and ``hakgal-hybrid snapshot diff A B``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click

from ..measure.snapshot import Change, diff, load
from ..measure.snapshot_taking import take
from .printing import harmless, pretty, shown
from .target import FAILED, Target, for_flask, for_shell


def snapshot(target: Target, db: str | None, as_json: bool, output: str | None, timeout: float) -> None:  # noqa: DOC101, DOC103
    """Note what a host is like now, or how two such notes differ.

    Facts, size and time of the knowledge base, writes enabled, health, versions. Written as JSON, which is YAML too,
    or in YAML's own form where PyYAML is installed (a part of the extra "measure"). What could not be taken is null
    and has its reason under "notes". Exit status 1 if the host is not healthy.

    \b
    Examples:
      hakgal-hybrid snapshot http://127.0.0.1:5001
      hakgal-hybrid snapshot http://127.0.0.1:5001 --db data/kb.db --output before.yaml
      hakgal-hybrid snapshot diff before.yaml after.yaml
    """  # noqa: D301 (click's mark for "do not wrap")
    taken = take(target.url, db, key=target.key, timeout=timeout)
    plain = as_json or (output or "").endswith(".json")
    if not plain and not (output or "").endswith((".yaml", ".yml")):
        plain = importlib.util.find_spec("yaml") is None  # nobody has asked for YAML by name
    text = taken.to_json() if plain else taken.to_yaml()
    if output is None:
        click.echo(text, nl=False)
    else:
        Path(output).write_text(text, encoding="utf-8")
    if not taken.healthy:
        click.get_current_context().exit(FAILED)


PARAMS: list[click.Parameter] = [
    click.Option(["--db"], type=click.Path(), metavar="PATH", help="The SQLite file of the knowledge base."),
    click.Option(["--json", "as_json"], is_flag=True, help="JSON in place of YAML."),
    click.Option(["--output", "-o"], type=click.Path(dir_okay=False, writable=True),
                 help="Write to this file: JSON if its name ends in .json, YAML if in .yaml or .yml."),
    click.Option(["--timeout"], type=click.FloatRange(0.1, 600), default=30.0, show_default=True,
                 help="Seconds to wait for an answer."),
]


@click.command("diff")
@click.argument("before", type=click.Path(exists=True, dir_okay=False))
@click.argument("after", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="JSON in place of lines.")
def diff_command(before: str, after: str, as_json: bool) -> None:  # noqa: DOC101, DOC103
    """Say in what two snapshots differ; as diff(1) does, exit status 1 if they do, 0 if they do not.

    The times at which they were taken differ always, and do not count.

    \b
    Example:
      hakgal-hybrid snapshot diff before.yaml after.yaml
    """  # noqa: D301
    old, new = (load(Path(path).read_text(encoding="utf-8")) for path in (before, after))
    changes = diff(old, new)
    if as_json:
        click.echo(pretty([asdict(change) for change in changes]))
    else:
        for change in changes:
            click.echo(_line(change))
    if [change for change in changes if change.name not in ("taken_at", "health_ms")]:
        click.get_current_context().exit(1)


def _line(change: Change) -> str:
    by = "" if change.by is None else f"  ({change.by:+g})"
    return f"{harmless(change.name)}: {shown(change.before)} -> {shown(change.after)}{by}"


class _Snapshots(click.Group):
    """``take`` and ``diff``, of which ``take`` need not be said."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``take`` in front of what does not begin with a command.

        :param ctx: the context of the command.
        :param args: what was typed.
        """
        if not args and ctx.resilient_parsing:  # a shell asks what could be completed here
            return super().parse_args(ctx, args)
        if args[:1] and (args[0] in self.commands or args[0] in ctx.help_option_names):
            return super().parse_args(ctx, args)
        return super().parse_args(ctx, ["take", *args])


def _made(make: Callable[..., click.Command]) -> click.Command:
    take_command = make("take", snapshot, PARAMS)
    url = "URL" if take_command.params[0].required else "[URL]"
    return _Snapshots("snapshot", [take_command, diff_command], help=take_command.help,
                      subcommand_metavar=f"[take] {url} [OPTIONS] | diff BEFORE AFTER", options_metavar="")


COMMANDS = {"snapshot": (partial(_made, for_shell), partial(_made, for_flask))}
