"""``status``, ``control``, ``emit`` and ``publish``: what is asked of a running host, and answered."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any

import click

from ...errors import ConfigurationError
from .printing import pretty, shown
from .target import FAILED, Failure, Target, makers

CONTROL, STATUS = "/api/governor/control", "/api/hybrid/status"
EMIT, PUBLISH = "/api/events/emit", "/api/events/publish"

#: Time between two questions whether a command is done, in seconds.
_POLL_S = 0.1


def status(target: Target) -> None:  # noqa: DOC101, DOC103
    """Print what the transport of a host counts, as JSON.

    \b
    Example:
      hakgal-hybrid status http://127.0.0.1:5001
    """  # noqa: D301 (click's mark for "do not wrap")
    click.echo(pretty(target.ask("GET", STATUS).json()))


def control(target: Target, action: str, mode: str | None, wait: float) -> None:  # noqa: DOC101, DOC103
    """Start or stop the governor of a host, set its mode, or ask it.

    Waits until the command is done. Exit status 1 if it failed, if the governor answered false (start while it runs,
    say), or if it is not done in time; it is carried out then nevertheless.

    \b
    Examples:
      hakgal-hybrid control http://127.0.0.1:5001 start
      hakgal-hybrid control http://127.0.0.1:5001 set_mode balanced
      HAKGAL_API_KEY=… hakgal-hybrid control https://kb.example stop --wait 60
    """  # noqa: D301
    if (action == "set_mode") != (mode is not None):
        raise click.UsageError("set_mode takes a mode, and no other action does")
    body = {"action": action, **({} if mode is None else {"mode": mode})}
    # With the key a repetition by whatever is between us and the host is not carried out twice.
    answer = target.ask("POST", CONTROL, body, {"Idempotency-Key": uuid.uuid4().hex})
    outcome, deadline = _object(answer.json()), time.monotonic() + wait
    while outcome.get("status") in ("accepted", "running"):
        if time.monotonic() >= deadline:
            raise Failure(f"{action} is not done after {wait:g} s; it goes on as {CONTROL}/{outcome.get('id')}")
        time.sleep(_POLL_S)
        outcome = _object(target.ask("GET", f"{CONTROL}/{outcome.get('id')}").json())
    if outcome.get("status") != "done":
        raise Failure(f"{action} failed: {outcome.get('error', 'the host does not say why')}")
    result = outcome.get("result")
    click.echo(pretty(result) if isinstance(result, dict) else shown(result))
    if result is False:
        click.get_current_context().exit(FAILED)


def emit(target: Target, event: str, payload: str | None, namespace: str) -> None:  # noqa: DOC101, DOC103
    """Send an event to a host as a client would.

    Its handler runs, and what that returns and emits to us is printed. JSON is the payload; "-" reads it from
    standard input; without one the handler is called without arguments. The first line that is printed is what the
    handler returned, each further one an event that it emitted to its caller.

    \b
    Examples:
      hakgal-hybrid emit http://127.0.0.1:5001 kb_metrics_request
      hakgal-hybrid emit http://127.0.0.1:5001 reasoning_request '{"query": "IsA"}'
      hakgal-hybrid emit http://127.0.0.1:5001 reasoning_request - < query.json
    """  # noqa: D301
    body = {"event": event, "namespace": namespace, **_args_of(payload)}
    document = _object(target.ask("POST", EMIT, body).json())
    click.echo(shown({"ack": document.get("ack")}))
    for answered in document.get("events", []):
        click.echo(shown(answered))


def publish(target: Target, event: str, payload: str | None, namespace: str,  # noqa: DOC101, DOC103
            to: tuple[str, ...]) -> None:
    """Send an event to the clients of a host, as its own emit does.

    JSON is the payload; "-" reads it from standard input; without one the event has no arguments. The id of the event
    is printed.

    \b
    Examples:
      hakgal-hybrid publish http://127.0.0.1:5001 build_finished '{"ok": true}'
      hakgal-hybrid publish http://127.0.0.1:5001 note '"hello"' --to ops
      HAKGAL_API_KEY=… hakgal-hybrid publish https://kb.example report - < report.json
    """  # noqa: D301
    body = {"event": event, "namespace": namespace, **_args_of(payload), **({"to": list(to)} if to else {})}
    click.echo(shown(_object(target.ask("POST", PUBLISH, body).json()).get("id")))


def _args_of(payload: str | None) -> dict[str, Any]:
    """Return the arguments of an event, as the body of a request has them."""
    if payload is None:
        return {}
    try:
        return {"args": [json.loads(sys.stdin.read() if payload == "-" else payload)]}
    except ValueError as error:
        raise ConfigurationError(f"the payload is not valid JSON: {error}; a text needs quotes of its own, such as "
                                 "'\"hello\"'") from error


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Failure("the host's answer is no JSON object; is this the URL of a host that has this package?")
    return document


COMMANDS = {
    "status": makers("status", status),
    "control": makers(
        "control", control,
        click.Argument(["action"], type=click.Choice(["start", "stop", "status", "set_mode"])),
        click.Argument(["mode"], required=False),
        click.Option(["--wait"], type=click.FloatRange(0, 3600), default=30.0, show_default=True,
                     help="Seconds to wait until it is done.")),
    "emit": makers(
        "emit", emit, click.Argument(["event"]), click.Argument(["payload"], required=False, metavar="[JSON]"),
        click.Option(["--namespace"], default="/", show_default=True, help="The namespace of the handler.")),
    "publish": makers(
        "publish", publish, click.Argument(["event"]), click.Argument(["payload"], required=False, metavar="[JSON]"),
        click.Option(["--namespace"], default="/", show_default=True, help="The namespace of the event."),
        click.Option(["--to"], multiple=True, help="A room or a sid; may be repeated. Default: everybody.")),
}
