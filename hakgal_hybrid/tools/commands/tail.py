"""``hakgal-hybrid tail URL``: the events of a host, as they come."""

from __future__ import annotations

import os
import sys
import threading
from datetime import datetime
from typing import Any

import click

from ...broker.event import glob_matcher
from ...errors import HybridError
from ..remote.stream import Events, Note, Received, Source
from .printing import harmless, shown
from .target import FAILED, Failure, Target, makers


def tail(target: Target, events: str | None, as_json: bool, namespace: str | None, snapshot: bool,  # noqa: DOC101, DOC103
         last_event_id: str, count: int | None, seconds: float | None, once: bool) -> None:
    """Print the events of a host as they come.

    Comes back after what was printed last when the connection is lost. A URL with a path is taken for an event stream
    of any server. Where events are missing a line says so. What happens to the connection is reported on standard
    error. Ends with Ctrl-C, --count or --for.

    Exit status 1 if no connection came about, or fewer events than --count.

    With --json each line is an object with a "type": event (event, data, id, ts, …), gap (detail, missed, reason),
    open or lost (detail, retry_s).

    \b
    Examples:
      hakgal-hybrid tail http://127.0.0.1:5001
      hakgal-hybrid tail http://127.0.0.1:5001 --events "kb_*,governor_update" --json
      hakgal-hybrid tail http://127.0.0.1:5001 --events fact_added --count 1 --for 60
    """  # noqa: D301 (click's mark for "do not wrap")
    source = Source.of(target.url)
    if source.ours:
        source = Source.of(target.url, envelope="1", events=events, namespace=namespace,
                           snapshot="1" if snapshot else None)
    wanted = glob_matcher(tuple(name.strip() for name in (events or "*").split(",") if name.strip()))
    stream = Events(source, headers=target.headers, last_event_id=last_event_id, once=once)
    timer = threading.Timer(seconds, stream.stop) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        succeeded = _print_all(stream, wanted, as_json, count)
    except HybridError as error:
        raise Failure.of(error) from error
    except BrokenPipeError:  # the reader of our output has had enough: `tail | head`
        succeeded = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        click.get_current_context().exit(130)
    finally:
        if timer is not None:
            timer.cancel()
    if not succeeded:
        click.get_current_context().exit(FAILED)


def _print_all(stream: Events, wanted: Any, as_json: bool, count: int | None) -> bool:
    """Return whether what was asked for came: a connection, and the events that were counted."""
    printed, opened = 0, False
    for item in stream:
        if isinstance(item, Note):
            opened = opened or item.kind == "open"
            _print_note(item, as_json)
        elif item.event != "hybrid_heartbeat" and (wanted(item.event) or item.event.startswith("hybrid_")):
            click.echo(_json_of(item) if as_json else _line_of(item))
            printed += not item.event.startswith("hybrid_")
            if count is not None and printed >= count:
                return True
        sys.stdout.flush()
    return opened and count is None


def _print_note(note: Note, as_json: bool) -> None:
    if as_json:
        document = note.data if isinstance(note.data, dict) else {}
        retry = {} if note.retry_s is None else {"retry_s": note.retry_s}
        click.echo(shown({**document, "type": note.kind, "detail": note.detail, **retry}))
        return
    after = "" if note.retry_s is None else f"; again in {note.retry_s:.1f} s"
    click.echo(f"-- {note.kind}: {harmless(note.detail)}{after} --", err=note.kind != "gap")


def _json_of(event: Received) -> str:
    return shown({"type": "event", "event": event.event, "data": event.data, "id": event.id, "ts": event.ts,
                  **event.more})


def _line_of(event: Received) -> str:
    at = datetime.now() if event.ts is None else datetime.fromtimestamp(event.ts / 1000)
    behind = f"  (stands for {event.more['conflated']} older)" if event.more.get("conflated") else ""
    return f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}  {harmless(event.event)}  {shown(event.data)}{behind}"


COMMANDS = {"tail": makers(
    "tail", tail,
    click.Option(["--events"], metavar="NAMES", help="Comma-separated names with * globs."),
    click.Option(["--json", "as_json"], is_flag=True, help="One JSON object a line."),
    click.Option(["--namespace"], help="The namespace to read; default /."),
    click.Option(["--snapshot"], is_flag=True, help="Begin with the newest event of each name."),
    click.Option(["--after", "last_event_id"], default="", metavar="ID", help="Begin after this event."),
    click.Option(["--count"], type=click.IntRange(1), help="End after so many events."),
    click.Option(["--for", "seconds"], type=click.FloatRange(0.1), metavar="SECONDS", help="End after this time."),
    click.Option(["--once"], is_flag=True, help="End when the connection is lost, instead of coming back."),
)}
