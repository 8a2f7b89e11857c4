"""``hakgal-hybrid bench URL``: how an event stream fares with many readers."""

from __future__ import annotations

from typing import Any

import click

from ..remote.load import Load
from ..remote.results import Result, Spread
from ..remote.stream import Source
from .printing import harmless, pretty
from .target import FAILED, Failure, Target, makers


def bench(target: Target, clients: int, stalled: int, seconds: float, events: str | None, stamp: str,  # noqa: DOC101, DOC103
          as_json: bool) -> None:
    """Read an event stream with many clients at once.

    Says what they got, how late, and what was lost. A URL without a path means the stream of this package; any other
    server's stream can be named in full. This command only reads: see to it that something is emitted meanwhile.
    Latency is counted where events carry a time stamp, and losses where they carry ids: an id that other clients got,
    and that no gap and no conflation accounts for.

    Exit status 1 if a client was refused, a stream ended too early or an event was lost.

    \b
    Examples:
      hakgal-hybrid bench http://127.0.0.1:5001
      hakgal-hybrid bench http://127.0.0.1:5001 --clients 1000 --stalled 10 --for 30
      hakgal-hybrid bench http://127.0.0.1:8080/sse --clients 200 --stamp sent_at --json
    """  # noqa: D301 (click's mark for "do not wrap")
    source = Source.of(target.url)
    if source.ours:
        source = Source.of(target.url, envelope="1", events=events)
    try:
        result = Load(source, headers=target.headers, stamp=stamp).run(clients, seconds, stalled=stalled)
    except OSError as error:
        raise Failure(f"{source.base.url} does not answer: {error or type(error).__name__}") from error
    click.echo(pretty(result.to_dict()) if as_json else _text(result))
    if result.refused or result.ended or result.losses.lost or not result.opened:
        click.get_current_context().exit(FAILED)


def _text(result: Result) -> str:
    losses = result.losses
    rows: list[tuple[str, Any]] = [
        ("clients", f"{result.opened} of {result.clients} open, {result.stalled} more that do not read"),
        *((f"refused: {why}", count) for why, count in result.refused.items()),
        *((f"ended too early: {why}", count) for why, count in result.ended.items()),
        ("time", f"{result.seconds:.1f} s"),
        ("events", f"{result.events}, {result.events_per_s:.1f} a second"),
        ("deliveries", f"{result.deliveries}, {result.deliveries_per_s:.1f} a second, {result.bytes} bytes"),
        ("first event", _spread(result.first_event, "no client got one")),
        ("latency", _spread(result.latency, "no event carried a time stamp")),
        ("losses", f"{losses.lost} lost; {losses.missing} missing, of which {losses.conflated} conflated and "
                   f"{losses.in_gaps} in announced gaps; {losses.repeated} repeated" if losses.counted
                   else "not counted: no ids, or too many"),
        ("behind at the end", f"{losses.behind} events at most" if losses.counted else "not known"),
        ("own processor", f"{result.own_cpu:.0%} of one" + (
            ": this program itself limited the rates" if result.own_cpu > 0.9 else "")),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{harmless(name):{width}}  {value}" for name, value in rows)


def _spread(spread: Spread, none: str) -> str:
    if not spread.n:
        return none
    return (f"p50 {spread.p50} ms, p95 {spread.p95} ms, p99 {spread.p99} ms, max {spread.max} ms "
            f"(n = {spread.n}, nearest rank)")


COMMANDS = {"bench": makers(
    "bench", bench,
    click.Option(["--clients"], type=click.IntRange(1, 100_000), default=100, show_default=True, help="Readers."),
    click.Option(["--stalled"], type=click.IntRange(0, 10_000), default=0, show_default=True,
                 help="More clients, which connect and do not read."),
    click.Option(["--for", "seconds"], type=click.FloatRange(0.1, 86400), default=10.0, show_default=True,
                 metavar="SECONDS", help="How long to read once all are open."),
    click.Option(["--events"], metavar="NAMES", help="Names with * globs (this package's stream only)."),
    click.Option(["--stamp"], default="timestamp", show_default=True, metavar="NAME",
                 help="Member of the data with the time of emission, for streams of others."),
    click.Option(["--json", "as_json"], is_flag=True, help="JSON in place of a table."),
)}
