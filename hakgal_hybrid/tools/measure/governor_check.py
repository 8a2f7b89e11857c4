"""The governor, controlled over HTTP: how long an answer takes, and whether it does what it says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .record import Run
from .timing import Timing

PATH = "/api/governor/control"
#: Each round is a start, a status and a stop.
ROUNDS = 10
#: How long a command that was accepted may take to be done, in seconds: a governor may block 5 s as it stops.
DONE_S = 10.0

Call = Callable[..., Timing]


def control(call: Call, run: Run, step: Callable[[], None], *, try_it: bool) -> None:
    """Measure the control of a host, or (``try_it`` false) note only whether there is one.

    A governor that runs already is neither started nor stopped.

    :param call: makes a request: method, path and JSON body.
    :param run: the record of a run.
    :param step: called after each request.
    :param try_it: whether the governor is started and stopped; otherwise only whether there is one is noted.
    """
    found = run.control
    try:
        first = call("POST", PATH, {"action": "status"})
    except OSError as error:
        found.evidence = f"POST {PATH} was not answered: {error}"
        return
    found.there = first.status in (200, 202)
    if not found.there:
        found.tried = first.status != 409  # there is no governor
        found.evidence = f"POST {PATH} is answered with status {first.status}{_detail(first)}"
        return
    if not try_it:
        found.evidence = f"POST {PATH} is answered with status {first.status}"
        return
    running = _running(first)
    actions = ("status",) * 3 if running else ("start", "status", "stop")
    seen: list[str] = []
    good = True
    for round_number in range(ROUNDS):
        for action in actions:
            answers: list[Timing] = []
            taken = found.samples.take(lambda action=action, answers=answers: _keep(  # type: ignore[misc]
                answers, call("POST", PATH, {"action": action})))
            good = good and taken and bool(answers) and _done(call, answers[0])
            if round_number == 0 and answers:
                seen.append(f"{action}: {answers[0].status} {_status_after(call, action)}".rstrip())
            step()
    found.works = good
    found.evidence = ("it ran already and was left alone; " if running else "") + "; ".join(seen)


def _keep(answers: list[Timing], timing: Timing) -> Timing:
    answers.append(timing)
    return timing


def _done(call: Call, answer: Timing) -> bool:
    """Whether a command is done; one that was only accepted is asked after until it is."""
    document: Any = answer.document
    deadline = time.monotonic() + DONE_S
    while _status(document) in ("accepted", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            document = call("GET", f"{PATH}/{document['id']}").document
        except OSError:
            return False
    return bool(_status(document) == "done")


def _status(document: Any) -> Any:
    return document.get("status") if isinstance(document, dict) else None


def _status_after(call: Call, action: str) -> str:
    """What the governor's status says after an action, for the report."""
    if action == "status":
        return ""
    try:
        running = _running(call("POST", PATH, {"action": "status"}))
    except OSError as error:
        return f"({error})"
    return "" if running is None else f"(then running is {str(running).lower()})"


def _running(answer: Timing) -> bool | None:
    result = answer.document.get("result") if isinstance(answer.document, dict) else None
    value = result.get("running") if isinstance(result, dict) else None
    return value if isinstance(value, bool) else None


def _detail(answer: Timing) -> str:
    detail = answer.document.get("detail") if isinstance(answer.document, dict) else None
    return f": {detail}" if detail else ""
