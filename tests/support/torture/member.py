"""One process of a run: emits, reads, or both, and writes down what it emits and what comes.

``python -m support.torture.member OPTIONS``, JSON. What is written down, each in a file of its own in the folder:
``NAME.emitted``, ``NAME.sent``, ``NAME.read``, ``NAME.states``, ``NAME.resumed``, and ``NAME.end`` at the end.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hakgal_hybrid import Emitter
from hakgal_hybrid.broker.backplane.listener import Arrived, Listener
from hakgal_hybrid.broker.backplane.outbox import Outbox
from hakgal_hybrid.broker.backplane.payloads import Control, event_payload
from hakgal_hybrid.broker.backplane.sender import Sender
from hakgal_hybrid.broker.backplane.shared_log import START, Position
from hakgal_hybrid.broker.backplane.tail import Hole
from hakgal_hybrid.broker.blocks import encode_entry
from hakgal_hybrid.broker.event import Event, is_marker
from hakgal_hybrid.broker.log import EventLog
from hakgal_hybrid.broker.segments import Segments
from hakgal_hybrid.broker.shared_broker import BackplaneStatistics, SharedBroker, SharedLimits
from hakgal_hybrid.commands.backplane.building import connect_to

from .hosting import host
from .parts import Options, Part, opened

#: How long a process may take at the end until everything that it has emitted has come, in seconds.
DRAIN_S = 60.0
#: How long a process that ends may take to send what waits, in seconds.
FLUSH_S = 20.0
#: How many ids of each other process are asked for at the end.
ASKED = 60
_BURSTS = (1, 1, 1, 2, 5, 20)
_PADDINGS = ("x" * 10, "x" * 200, "x" * 2000)


class Notes(Listener):
    """Writes down what comes, in order."""

    def __init__(self, options: Options, log: EventLog) -> None:
        self._log, self._file, self._states = log, opened(options, "read"), opened(options, "states")
        self.state: Callable[[], BackplaneStatistics] = BackplaneStatistics
        self.got: set[str] = set()
        self._name, self.mine, self.lossy = f"{options.name}:", False, False

    def _note(self, *words: object) -> None:
        self._file(" ".join(map(str, words)))

    def read(self, arrived: list[Arrived]) -> None:
        for event, seq, _, _ in arrived:
            self._take(self._log.id_of(seq), uid_of(event))

    def control(self, control: Control, at: Position, *, past: bool) -> None:
        self._take(str(at), control.data["uid"], "control")

    def _take(self, at: str, uid: str, kind: str = "event") -> None:
        self._note(kind, at, uid)
        self.got.add(uid)
        self.mine = self.mine or uid.startswith(self._name)

    def changed(self) -> None:
        found = self.state()
        self._states(f"{time.time():.3f} {threading.current_thread().name} {found.state} {found.sender.state} "
                     f"refilled {found.refilled} {found.error or ''}")

    def lost(self, hole: Hole, *, past: bool) -> None:
        self.lossy = True
        at = Position(hole.before.generation, max(0, hole.before.number - 1))
        self._note("gap", at, hole.reason, -1 if hole.missed is None else hole.missed)


def uid_of(event: Event) -> str:
    return str(json.loads(event.data)["uid"])


def _emitter(options: Options) -> Part:
    emitter = Emitter(options.url, "torture")

    def statistics() -> dict[str, Any]:
        found = emitter.statistics()
        return {"state": found.state, "resent": found.resent, "twins": found.twins, "dropped": found.outbox.dropped,
                "error": found.error}

    return Part(lambda uid, padding: emitter.emit("tick", {"uid": uid, "x": padding}),
                 lambda uid: emitter.flush(0.1), statistics, lambda: emitter.statistics().sent,
                 lambda: emitter.statistics().state == "live")


def _twin(options: Options) -> Part:
    """As an emitter, but all of them go by one name."""
    outbox = Outbox(max_events=10_000, max_bytes=1 << 24, clock=time.monotonic)
    connect = connect_to(options.url, "torture", "", options.log_events)("emitter", 0.0, "")
    sender = Sender(connect, outbox, position=lambda: START)
    sender.name = "same"

    def emit(uid: str, padding: str) -> None:
        outbox.put(event_payload(Event.create("tick", ({"uid": uid, "x": padding},)), 0))
        sender.ring()

    return Part(emit, lambda uid: sender.flush(0.1), lambda: {"twins": sender.statistics().twins},
                 lambda: sender.statistics().sent, lambda: True)


def _process(options: Options) -> Part:
    log = EventLog(epoch=-1, clock=time.monotonic, wall_ms=lambda: 0, encode=encode_entry, max_events=20_000,
                   max_bytes=1 << 28, max_event_bytes=1 << 16, segments=Segments())
    connect = connect_to(options.url, "torture", options.app, options.log_events)
    limits = SharedLimits(options.log_events, options.outbox_events, 1 << 24, 1 << 16, FLUSH_S)
    broker = SharedBroker(log, connect, limits, wall_ms=lambda: 0)
    notes = Notes(options, log)
    broker.listen(notes)
    notes.state = broker.statistics
    count = 0

    def emit(uid: str, padding: str) -> None:
        nonlocal count
        count += 1
        notes.lossy = False
        if count % 10:
            broker.publish(Event.create("tick", ({"uid": uid, "x": padding},)))
        else:  # something to be done takes its place among events
            broker.elsewhere("note", uid=uid)

    def statistics() -> dict[str, Any]:
        found = broker.statistics()
        return {"state": found.state, "resent": found.sender.resent, "twins": found.sender.twins,
                "dropped": found.sender.outbox.dropped, "refilled": found.refilled, "cuts": found.tail.cuts,
                "duplicates": found.tail.duplicates, "branches": found.tail.branches, "foreign": found.tail.foreign,
                "error": found.error}

    def begin() -> None:
        while broker.position() is None:
            broker.ready()
            if broker.statistics().state == "misconfigured":
                return
            time.sleep(0.02)

    def ready() -> bool:
        return notes.mine or (options.role == "reader" and (broker.position() or START) > START)

    def drained(uid: str) -> bool:
        sender = broker.statistics().sender
        sent = sender.state == "live" and not sender.outbox.events
        return uid in notes.got or (notes.lossy and sent) or options.role == "reader"

    return Part(emit, drained, statistics,
                 lambda: broker.statistics().sender.sent, ready,
                 lambda at: (broker.position() or START) >= at, lambda: _resume(options, log), begin)


def _resume(options: Options, log: EventLog) -> None:
    """Write down the log, and what a client is given here that comes with an id of another process."""
    write = opened(options, "resumed")
    _, entries = log.since(0)
    for entry in entries:
        what = "gap" if is_marker(entry.event) else uid_of(entry.event)
        write(f"entry {entry.seq} {log.id_of(entry.seq)} {what}")
    rnd = random.Random(options.seed)
    for path in sorted(Path(options.folder).glob("*.read")):
        lines = [line.split() for line in path.read_text().splitlines()]
        around = [index for index, line in enumerate(lines) if line[0] == "gap" or line[1].endswith("-1")]
        asked = {index + more for index in around[:ASKED] for more in (-2, -1, 0, 1)}
        asked.update(rnd.sample(range(len(lines)), min(ASKED, len(lines))))
        for index in sorted(asked & set(range(len(lines)))):
            if lines[index][0] == "event":
                place, gap = log.resume(lines[index][1])
                write(f"resume {path.stem} {index} {place} {gap.reason if gap else '-'}")
    newest = Position.parse(log.id_of(log.newest))
    for kind, at in (("newer", Position(newest.generation, newest.number + 5)), ("dead", Position(1, 5)),
                     ("later", Position(newest.generation + 7, 1))):
        gap = log.resume(str(at))[1]
        write(f"{kind} {gap.reason if gap else '-'}")


def main(text: str) -> None:
    options = Options(**json.loads(text))
    os.environ.update(HYBRID_OUTBOX_EVENTS=str(options.outbox_events), HYBRID_LOG_EVENTS=str(options.log_events),
                      HYBRID_FLUSH_S=str(FLUSH_S))
    part = {"emitter": _emitter, "twin": _twin, "host": host}.get(options.role, _process)(options)
    folder, rnd, ending = Path(options.folder), random.Random(options.seed), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    emitted, sent = opened(options, "emitted"), opened(options, "sent")
    number, uid, worst, is_ready = 0, "", 0.0, False

    def emit() -> None:
        nonlocal number, uid, worst
        number += 1
        uid = f"{options.name}:{number}"
        emitted(str(number))
        began = time.perf_counter()
        part.emit(uid, rnd.choice(_PADDINGS))
        worst = max(worst, time.perf_counter() - began)

    parent = os.getppid()
    part.begin()
    (folder / f"{options.name}.begun").touch()
    while not (folder / "go").exists() and os.getppid() == parent:
        time.sleep(0.02)
    while not ending.is_set():
        if os.getppid() != parent:  # nobody is left who would end it
            os._exit(1)
        if options.role != "reader":
            sent(str(part.sent()))
            for _ in range(rnd.choice(_BURSTS)):
                emit()
        if not is_ready and part.ready():
            is_ready = True
            (folder / f"{options.name}.ready").touch()
        if (folder / f"{options.name}.leave").exists():
            return  # what it has not sent is sent at the end of the interpreter
        time.sleep(min(1.0, rnd.expovariate(options.rate)))
    if options.role != "reader":
        emit()
    _wait(lambda: part.drained(uid), DRAIN_S)
    (folder / f"{options.name}.drained").touch()
    _wait((folder / "end").exists, DRAIN_S + 30)
    last = Position.parse((folder / "end").read_text()) if (folder / "end").exists() else START
    _wait(lambda: part.upto(last), 20)
    part.resumed()
    found = {**part.statistics(), "worst_emit_ms": round(worst * 1000, 2)}
    (folder / f"{options.name}.new").write_text(json.dumps(found))
    (folder / f"{options.name}.new").rename(folder / f"{options.name}.end")
    os._exit(0)  # what is to be seen was written down


def _wait(what: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
