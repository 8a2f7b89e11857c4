"""A process with the whole extension, which gives commands, and carries them out if it has a governor."""

from __future__ import annotations

from typing import Any

from flask import Flask

from hakgal_hybrid import HybridTransport

from .parts import Options, Part, opened


class Governor:
    """Notes what it is asked for."""

    def __init__(self, options: Options) -> None:
        self._note = opened(options, "ran")

    def set_mode(self, mode: str, fence: int) -> str:
        self._note(f"{mode} {fence}")
        return mode

    def get_status(self) -> dict[str, Any]:
        return {}


def host(options: Options) -> Part:
    """Return what such a process does: it gives a command in place of each event."""
    app = Flask("torture")
    transport = HybridTransport(app, backplane=options.url, backplane_name="torture", flush_s=0, queue_s=4,
                                command_results=100_000)
    if not options.name.startswith("asks"):
        transport.governor = Governor(options)
    given, outcomes = dict[str, str](), opened(options, "outcomes")
    backplane = transport.node.backplane
    assert backplane is not None
    is_ready = False

    def give(uid: str, padding: str) -> None:
        body = {"action": "set_mode", "mode": uid}
        answer = app.test_client().post("/api/governor/control", json=body).get_json()
        if "id" in answer:
            given[answer["id"]] = uid

    def status(number: str) -> str:
        return str(app.test_client().get(f"/api/governor/control/{number}").get_json().get("status"))

    def drained(uid: str) -> bool:
        for number in list(given):
            if (found := status(number)) not in ("accepted", "running"):
                outcomes(f"{given.pop(number)} {found}")
        return not given

    def ready() -> bool:
        nonlocal is_ready
        is_ready = is_ready or any(status(number) == "done" for number in list(given)[-20:])
        return is_ready

    return Part(give, drained, dict, lambda: 0, ready)
