"""What is done to processes and their connections while everybody emits."""

from __future__ import annotations

from collections.abc import Callable

from .accounts import Promise
from .scenario import WHOLE, deleted, length, paused, scenario
from .world import DESK, World


@scenario(WHOLE)
def flush_lagging(w: World) -> None:
    """Everything is deleted that one process has not read yet: it gets it from the others."""
    w.four(w.server())
    for _ in w.rounds(3):
        w.members["edge"].pause()
        w.nap(1, 1.5)
        w.cut(w.flush)
        w.nap(0, 2)
        w.members["edge"].go_on()
        w.nap(0.5, 1)


@scenario(WHOLE)
def flush_unread(w: World) -> None:
    """Everything is deleted that nobody has read yet: its emitter has it still."""
    w.four(w.server())
    for _ in w.rounds(3):
        for name in ("edge", "p1", "p2"):
            w.members[name].pause()
        w.nap(1, 1.5)
        w.flush()
        w.nap(0, 0.3)
        for name in ("edge", "p1", "p2"):
            w.members[name].go_on()
        w.cut(lambda: None) if not w.generation() else w.nap(3, 4)


@scenario(WHOLE)
def replies(w: World) -> None:
    """Answers that something has been appended are lost."""
    links = w.four(w.server())
    for _ in range(60 if w.long else 12):
        w.random.choice(links).swallow = w.random.choice((1, 1, 2))
        w.nap(0.05, 0.4)
        if w.random.random() < 0.2:
            w.random.choice(links).cut()


@scenario(WHOLE)
def half_open(w: World) -> None:
    """Connections stay open and pass nothing."""
    links = w.four(w.server())
    for link in links:
        link.freeze(True)
        w.nap(0.2, 5 if w.long else 1)
    w.nap(3, 3)
    for link in links:
        link.freeze(False)
    w.nap(1, 2)


@scenario(Promise(exact=True))
def trimmed(w: World) -> None:
    """A process reads later than the log reaches back; meanwhile an emitter begins of which it knows nothing."""
    w.options.update(log_events=100, rate=30)
    links = w.four(w.server())
    for number in w.rounds(3):
        w.members["edge"].pause()
        w.later("emitter", f"new{number}", links[3])
        w.ready(f"new{number}")
        w.nap(3, 4)
        w.members["edge"].go_on()
        w.nap(1, 2)


@scenario(Promise(exact=True))
def overflow(w: World) -> None:
    """Emitters have more than they can keep while Redis is away, and one of them begins with that."""
    w.options.update(outbox_events=60, rate=30)
    server = w.server()
    links = w.four(server)
    for number in w.rounds(2):
        def away(number: int = number) -> None:
            server.kill()
            w.later("emitter", f"new{number}", links[3])
            w.until(lambda: length(w.notes / f"new{number}.emitted") > 300, "it emits")
            server.start()

        w.cut(away)
        w.nap(0.5, 1)


@scenario(Promise(acknowledged=True))
def sender_killed(w: World) -> None:
    """Emitters are killed, with and without what Redis has not taken yet."""
    server = w.server()
    links = w.four(server)
    for number in range(4 if w.long else 2):
        names = [name for name, member in w.members.items() if member.alive and member.role != "reader"]
        name = w.random.choice(names)
        if number % 2:
            server.pause()
            w.nap(0.5, 1)
        w.kill(name)
        server.go_on()
        role = w.members[name].role
        w.later(role, f"n{number}{name}", links[3])
        w.ready(f"n{number}{name}")
        w.nap(0.5, 1.5)


@scenario(WHOLE)
def leaving(w: World) -> None:
    """Processes end of themselves, and have sent everything by then, even if everything was deleted just before."""
    links = w.four(w.server())
    for number in w.rounds(3):
        for role, name in (("emitter", f"e{number}"), ("both", f"b{number}")):
            w.later(role, name, links[3])
            w.ready(name)
            if role == "both":
                w.flush()
            w.leave(name)


@scenario(Promise())
def sender_killed_flush(w: World) -> None:
    """An emitter is killed, and everything is deleted."""
    w.four(w.server())
    w.nap(0.5, 1.5)
    w.kill(w.random.choice(("ext", "p1")))
    w.cut(w.flush)


@scenario(WHOLE)
def twins(w: World) -> None:
    """Several emitters go by one name."""
    links = w.four(w.server())
    for number in range(3):
        w.later("twin", f"twin{number}", links[3])
        w.nap(0, 1)
    w.ready("twin0", "twin1", "twin2")
    w.nap(0.5, 1)
    w.cut(w.flush)
    w.nap(0.5, 1)


@scenario(WHOLE)
def two_apps(w: World) -> None:
    """Another app has the same name: it is refused, and disturbs nobody."""
    links = w.four(w.server())
    w.later("both", "intruder", links[3], app="another")
    w.until(lambda: length(w.notes / "intruder.emitted") > 20, "it emits")
    w.nap(1, 2)
    assert not length(w.notes / "intruder.read"), "it is given the events of the first"
    w.kill("intruder")


@scenario(Promise())
def claims(w: World) -> None:
    """Commands are given while everything is deleted, executors are stopped and killed, and Redis is restarted."""
    server = w.server()
    links = [w.link(server) for _ in range(4)]
    names = ("runs0", "runs1", "runs2", "asks")
    for name, link in zip(names, links, strict=True):
        w.member("host", name, f"redis://127.0.0.1:{link.port}/0", rate=4)
    w.ready(*names)
    faults: list[Callable[[], object]] = [
        w.flush, lambda: deleted(w, DESK), lambda: (server.kill(), server.start()),
        lambda: paused(w, w.random.choice(names[:3])), lambda: w.random.choice(links).cut(),
        lambda: w.members["runs0"].alive and w.kill("runs0")]
    w.random.shuffle(faults)
    for fault in [*faults, *faults] if w.long else faults:
        for link in links:
            link.swallow = 1
        fault()
        w.nap(0.2, 1.5)
