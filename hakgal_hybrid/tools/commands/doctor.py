"""``hakgal-hybrid doctor URL``: why a backend is slow."""

from __future__ import annotations

import textwrap

import click

from ..doctor import Finding, Level, Options, Probe, examine
from .printing import harmless, pretty
from .target import FAILED, Target, makers

#: Exit status where the host let nothing be found out.
NOT_KNOWN = 3
_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red", Level.NOT_CHECKED: "blue"}


def doctor(target: Target, as_json: bool, strict: bool, probes: tuple[str, ...], requests: int, slow_ms: float,  # noqa: DOC101, DOC103
           connect_s: float, wait_s: float, hold_s: float, sample_s: float, origin: str, direct: str | None,
           probe_stall: bool, stall_requests: int, stall_paths: tuple[str, ...]) -> None:
    """Find out why a backend is slow, or why events come late.

    Each check with its evidence and a remedy. Name resolution and every address by itself; the speed of the host with
    nobody in the way; what its requests wait for (where this package is loaded there); what a proxy does to streams;
    resuming, CORS, heartbeats. A check that cannot be made says why.

    Exit status: 0 if there is no problem (with --strict: no warning either), 1 if there is one, 3 if that is not known
    because the host serves neither a probe nor a stream, or refuses the stream for want of a key.

    \b
    Examples:
      hakgal-hybrid doctor http://localhost:5001
      hakgal-hybrid doctor https://kb.example --direct http://127.0.0.1:5001 --json
      hakgal-hybrid doctor http://127.0.0.1:5001 --probe-stall --stall-path /ws
      hakgal-hybrid doctor http://127.0.0.1:5001 --probe 'POST /api/search {"query": "IsA"}'
    """  # noqa: D301 (click's mark for "do not wrap")
    options = Options(
        probes=tuple(map(Probe.of, probes)) or (Probe(),), requests=requests, slow_ms=slow_ms, connect_s=connect_s,
        wait_s=wait_s, hold_s=hold_s, sample_s=sample_s, origin=origin, direct=direct,
        probe_stall=probe_stall or bool(stall_paths), stall_requests=stall_requests, stall_paths=stall_paths)
    report = examine(target.url, options, key=target.key, on_finding=(lambda finding: None) if as_json else _show)
    if as_json:
        click.echo(pretty(report.to_dict()))
    else:
        left_out = sum(finding.level is Level.NOT_CHECKED for finding in report.findings)
        click.echo(f"\n{report.url}: {report.verdict} ({report.seconds:.1f} s; not checked: {left_out} of "
                   f"{len(report.findings)})")
    bad = (Level.PROBLEM, Level.WARNING) if strict else (Level.PROBLEM,)
    if any(finding.level in bad for finding in report.findings):
        click.get_current_context().exit(FAILED)
    if not report.known:
        click.get_current_context().exit(NOT_KNOWN)


def _show(finding: Finding) -> None:
    level = click.style(f"{finding.level.value:<11}", fg=_COLOURS[finding.level])
    click.echo(f"{level}  {finding.check:<12}  {harmless(finding.says)}")
    lines = [f"- {item}" for item in finding.evidence] + ([f"=> {finding.remedy}"] if finding.remedy else [])
    for line in lines:
        click.echo(textwrap.fill(harmless(line), 110, initial_indent=" " * 27, subsequent_indent=" " * 30))


COMMANDS = {"doctor": makers(
    "doctor", doctor,
    click.Option(["--json", "as_json"], is_flag=True, help="JSON in place of text."),
    click.Option(["--strict"], is_flag=True, help="Let warnings count as problems."),
    click.Option(["--probe", "probes"], multiple=True, metavar="'METHOD PATH [JSON]'",
                 help="What to time; may be repeated; default GET /health."),
    click.Option(["--requests"], type=click.IntRange(1, 1000), default=5, show_default=True, help="How often."),
    click.Option(["--slow-ms"], type=click.FloatRange(1), default=150.0, show_default=True,
                 help="What takes longer is slow."),
    click.Option(["--connect", "connect_s"], type=click.FloatRange(0.1, 60), default=3.0, show_default=True,
                 metavar="SECONDS", help="How long an address may take to accept."),
    click.Option(["--wait", "wait_s"], type=click.FloatRange(0.1, 600), default=5.0, show_default=True,
                 metavar="SECONDS", help="How long the first event of a stream may take."),
    click.Option(["--hold", "hold_s"], type=click.FloatRange(0.1, 3600), default=40.0, show_default=True,
                 metavar="SECONDS", help="How long a silent stream is watched for its heartbeat, at most."),
    click.Option(["--sample", "sample_s"], type=click.FloatRange(0.05, 10), default=3.0, show_default=True,
                 metavar="SECONDS", help="How long the host looks at its own threads."),
    click.Option(["--origin"], default="http://localhost:5173", show_default=True,
                 help="Web origin whose pages shall be able to read."),
    click.Option(["--direct"], metavar="URL", help="The host itself, where URL is a proxy's."),
    click.Option(["--probe-stall"], is_flag=True,
                 help="Open clients that do not read, and see whether everybody waits for them."),
    click.Option(["--stall-requests"], type=click.IntRange(1, 1_000_000), default=600, show_default=True,
                 help="Requests to make beside them, within a minute."),
    click.Option(["--stall-path", "stall_paths"], multiple=True, metavar="PATH",
                 help="A WebSocket of the host's own to do so on; implies --probe-stall."),
)}
