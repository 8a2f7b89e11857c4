"""The workloads: one file each. ``all_workloads`` is their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..peers import Peer
from ..targets import Target

Values = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """One figure of a row.

    :ivar key: its name in the row's values.
    :ivar unit: what tables show it in, and ``scale`` how much of the row's unit that is.
    :ivar digits: decimal places in tables.
    :ivar higher: more is better; None if neither is.
    :ivar ratio: show it as a ratio to the C limit too.
    :ivar plot: draw it.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 1
    scale: float = 1
    higher: bool | None = False
    ratio: bool = False
    plot: bool = False


@dataclass(frozen=True)
class Scale:
    """How much of everything: a whole run, a quick one, or a tiny one that only shows that it works.

    :ivar clients: of the usual rows.
    :ivar many: of the rows that show how cost grows.
    :ivar seconds: how long a measurement lasts.
    :ivar runs: how often each row is repeated.
    """

    name: str
    clients: int = 1000
    many: int = 4000
    idle: int = 10_000
    seconds: float = 1.5
    runs: int = 3


FULL = Scale("full")
QUICK = Scale("quick", many=2000, idle=4000, seconds=0.75, runs=1)
TINY = Scale("tiny", clients=20, many=40, idle=40, seconds=0.2, runs=1)


def streams(peer: Peer) -> bool:
    """For cases about clients of SSE, beside what they take the place of: the usual clients of Flask-SocketIO."""
    return not peer.shared and (peer.kind == "sse" or peer.key == "flask-socketio")


def websockets(peer: Peer) -> bool:
    """For cases about clients of Socket.IO on WebSockets."""
    return peer.kind == "ws" and not peer.shared


def processes(peer: Peer) -> bool:
    """For cases about several processes with one Redis."""
    return peer.shared


@dataclass(frozen=True)
class Case:
    """One setting of a workload: with each peer it is one row.

    :ivar applies: which peers it is measured with; the others have no such row.
    :ivar reference: the key of the peer that ratios refer to.
    :ivar runs: how often it is measured at most: points of a curve, of which there are enough, do with one.
    """

    label: str
    parameters: dict[str, Any] = field(default_factory=dict)
    applies: Callable[[Peer], bool] = streams
    reference: str = "c"
    runs: int = 1_000


@dataclass(frozen=True)
class Workload:
    """A way to measure.

    :ivar measure: measures one peer: ``measure(peer, scale, **case.parameters)``; starts a server of its own.
    :ivar timeout: seconds after which a row is given up.
    :ivar targets: what this library has set itself; see :mod:`.targets`.
    """

    key: str
    title: str
    measure: Callable[..., Values]
    cases: Callable[[Scale], list[Case]]
    metrics: list[Metric]
    timeout: float = 60
    explanation: str = ""
    targets: list[Target] = field(default_factory=list)


def all_workloads() -> list[Workload]:
    """Return every workload, in the order in which they run and are reported."""
    from . import (
        w1_event_by_event,
        w1b_ladder,
        w2_paced,
        w3_memory,
        w5_stalled,
        w6_connect_storm,
        w7_resume_storm,
        w8_targets,
        w9_emit,
        w10_host,
        w11_idle,
        w12_burners,
        w13_growth,
        w14_interval,
        w15_processes,
    )

    modules = [w1_event_by_event, w1b_ladder, w2_paced, w3_memory, w5_stalled, w6_connect_storm, w7_resume_storm,
               w8_targets, w9_emit, w10_host, w11_idle, w12_burners, w13_growth, w14_interval,
               w15_processes]
    return [module.WORKLOAD for module in modules]
