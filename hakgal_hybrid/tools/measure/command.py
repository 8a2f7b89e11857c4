"""``hakgal-hybrid measure``: the whole protocol against a host before and after, and its report."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...errors import ConfigurationError

if TYPE_CHECKING:
    from .hosts import Host, Target
    from .runner import OpenHost

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("target", metavar="[MODULE:CLASS]", required=False)
@click.option("--app-dir", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Where the module of a target is.")
@click.option("--before-url", metavar="URL", help="The host before, which runs already.")
@click.option("--after-url", metavar="URL", help="The host after, which runs already.")
@click.option("--clients", default=20, show_default=True, type=click.IntRange(0, 5000), help="Live dashboards.")
@click.option("--stalled", default=1, show_default=True, type=click.IntRange(0, 1000),
              help="Dashboards that connect and stop reading.")
@click.option("--after-clients", default="sse", show_default=True, type=click.Choice(["sse", "socketio"]),
              help="What the dashboards are after the migration: readers of streams, or unmodified Socket.IO clients.")
@click.option("--rate", default=50.0, show_default=True, type=click.FloatRange(0.1, 10_000),
              help="Events a second that each live dashboard is sent while CPU is counted.")
@click.option("--requests", default=50, show_default=True, type=click.IntRange(1, 100_000),
              help="Timed requests of each endpoint.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.5, 3600),
              help="How long the events are kept up while CPU is counted.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="'METHOD /path [JSON]'",
              help="Time this one instead of the usual ones; {n} in the JSON is the number of the request.")
@click.option("--set", "sets", multiple=True, metavar="KEY=JSON", help="Keyword for the class, in every mode.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Environment of a target, every mode.")
@click.option("--before-env", multiple=True, metavar="NAME=VALUE", help="The same, before the migration only.")
@click.option("--reference-env", multiple=True, metavar="NAME=VALUE",
              help="Measure the CPU of a third host too: the one before, with these on top.")
@click.option("--db", type=_FILE, help="The knowledge base: a target gets a copy; of a running host it is read.")
@click.option("--db-env", default="HAKGAL_DB", show_default=True,
              help="The variable that tells a target where its knowledge base is.")
@click.option("--before-log", type=_FILE, help="What the running host before logs to.")
@click.option("--after-log", type=_FILE, help="What the running host after logs to.")
@click.option("--ws-path", default="/ws", show_default=True, help="Where a host without Socket.IO has its WebSocket.")
@click.option("--write/--no-write", default=None,
              help="Store facts to cause events. Default: only in a knowledge base of the measurement's own.")
@click.option("--control/--no-control", default=True, help="Start and stop the governor over HTTP.")
@click.option("--assert", "thresholds", multiple=True, metavar="FIGURE<VALUE",
              help="Also fail unless this holds, such as 'p95<150ms' or 'before.p95>1s'.")
@click.option("--out", default="report", show_default=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder for report.md, report.json, report.html and the plots.")
def measure(target: str | None, out: Path, **options: Any) -> None:  # noqa: DOC101, DOC103
    """Measure a host before and after the migration.

    Prints what was found, and writes it as report.md, report.json and report.html. A MODULE:CLASS is started in both
    modes, one after the other. Two URLs are measured as they are. Each host gets the same load: live dashboards,
    stalled ones, events, requests. A key is taken from HAKGAL_API_KEY.

    Exit status 0 if every target that must be met and applies is met (and every --assert), 1 if not, 130 after Ctrl-C,
    which keeps what was measured. Less CPU, for one, is no target where the host before was not slow.

    \b
    Examples:
      hakgal-hybrid measure hexagonal_api_enhanced_clean:HexagonalAPI --app-dir src_hexagonal
      hakgal-hybrid measure --before-url http://127.0.0.1:5001 --after-url http://127.0.0.1:5002
      hakgal-hybrid measure app:Api --clients 50 --assert 'p95<150ms' --assert 'cpu_events_change<=-30%'
    """  # noqa: D301 (click's mark for "do not wrap")
    from .document import Plan, document, known_figures
    from .extras import need
    from .report import write
    from .targets import Threshold
    from .terminal import bars, show

    for module in ("psutil", "rich", "matplotlib", "socketio"):  # now, not when there is something to lose
        need(module, "measure")
    load = _load(options)
    known = known_figures()
    plan = Plan(command=" ".join(["hakgal-hybrid", *map(_quoted, sys.argv[1:])]), load=_shown(options),
                rollback=_rollback(target, options),
                thresholds=[Threshold.of(text, known) for text in options["thresholds"]])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        modes, open_host = _hosts(target, options, Path(folder))
        from .runner import run_hosts

        with bars() as progress:
            runs = run_hosts(modes, open_host, load, progress, plan)
        report = document(plan, runs)
        paths = write(report, out)
    show(report)
    click.echo("\n" + "\n".join(str(path) for path in paths))
    sys.exit(130 if report["interrupted"] else 0 if report["holds"] else 1)


# -- options -----------------------------------------------------------------------------------------------------


def _load(options: dict[str, Any]) -> Any:
    from ..remote.request import key_headers
    from .load import Options
    from .timing import Endpoint

    same = {name: options[name] for name in ("clients", "stalled", "rate", "requests", "seconds", "write", "control",
                                             "ws_path", "after_clients")}
    key = _pairs(options["variables"], "--env").get("HAKGAL_API_KEY")
    return Options(**same, endpoints=tuple(map(Endpoint.of, options["endpoints"])), headers=key_headers(key))


def _shown(options: dict[str, Any]) -> dict[str, Any]:
    """The load, for the report."""
    from .load import ENDPOINTS, MAX_STALL_REQUESTS, PACE_S, PARALLEL, WORK_REQUESTS

    endpoints = options["endpoints"] or [f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS]
    return {"live clients": options["clients"], "stalled clients": options["stalled"],
            "clients after the migration": {"sse": "event streams", "socketio": "Socket.IO"}[options["after_clients"]],
            "events per second and client": options["rate"], "seconds of events": options["seconds"],
            "requests per endpoint": options["requests"], "endpoints": ", ".join(endpoints),
            "requests of one endpoint under way": PARALLEL,
            "least seconds between two of one thread": PACE_S, "requests over which CPU is counted": WORK_REQUESTS,
            "requests to fill a stalled client, at most": MAX_STALL_REQUESTS}


def _pairs(values: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise ConfigurationError.bad_value(option, value, "NAME=VALUE")
        pairs[name] = text
    return pairs


def _hosts(target: str | None, options: dict[str, Any], folder: Path) -> tuple[list[str], OpenHost]:
    """Return the modes in the order in which they are measured, and how each one's host is come by."""
    urls = {"before": options["before_url"], "after": options["after_url"]}
    if target is not None and not any(urls.values()):
        modes = ["before", "after", *(["reference"] if options["reference_env"] else [])]
        return modes, _starter(_target(target, options), folder)
    if target is None and all(urls.values()):
        return ["before", "after"], _finder(urls, options)
    raise ConfigurationError("measure needs either MODULE:CLASS or both --before-url and --after-url")


def _target(target: str, options: dict[str, Any]) -> Target:
    from .hosts import Target

    return Target(target, options["app_dir"].resolve(), options["sets"], _pairs(options["variables"], "--env"),
                  _pairs(options["before_env"], "--before-env"), _pairs(options["reference_env"], "--reference-env"),
                  options["db"], options["db_env"], options["after_clients"] == "socketio")


def _starter(target: Target, folder: Path) -> OpenHost:
    from .hosts import started

    return lambda mode: started(target, mode, folder)


def _finder(urls: dict[str, str], options: dict[str, Any]) -> OpenHost:
    from .hosts import running

    @contextlib.contextmanager
    def find(mode: str) -> Iterator[Host]:
        yield running(mode, urls[mode], db=options["db"], log=options[f"{mode}_log"])

    return find


def _rollback(target: str | None, options: dict[str, Any]) -> dict[str, str]:
    """The rollback of the migration, in two shells."""
    sets = "".join(f" --set {_quoted(value)}" for value in options["sets"])
    start = (f"hakgal-hybrid run {target} --app-dir {_quoted(str(options['app_dir']))}{sets}" if target
             else "# the host's own start command, with enable_websocket=True")
    variables = {"APP_PROFILE": "WEBSOCKET", "ENABLE_SSE": "false", "ENABLE_WS_SPECIAL": "true"}
    return {"PowerShell": "\n".join([*(f'$env:{name} = "{value}"' for name, value in variables.items()), start]),
            "bash": "\n".join([f"export {' '.join(f'{name}={value}' for name, value in variables.items())}", start])}


def _quoted(argument: str) -> str:
    from .hosts import quoted

    return quoted(argument)
