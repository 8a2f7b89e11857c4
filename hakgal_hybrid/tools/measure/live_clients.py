"""The live and the stalled clients of a run, and what its live ones have received."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from .channel_detection import detect_channel
from .client_process import ClientProcess, ClientsFailed
from .hosts import Host
from .load import LATE_MS, MAX_SETTLE_S, SETTLE_S, Options
from .process_monitor import cpu_of
from .record import Deliveries, Run


class LiveClients:
    """The clients of one run: none, or a :class:`ClientProcess`.

    :param host: whom they connect to.
    :param options: how many there are.
    :param run: the record that is filled.
    :param tag: what marks the facts of this run.
    """

    def __init__(self, host: Host, options: Options, run: Run, tag: str) -> None:
        self._host, self._options, self._run, self._tag = host, options, run, tag
        self._process: ClientProcess | None = None

    @property
    def connected(self) -> bool:
        """Whether there are any."""
        return self._process is not None

    def connect(self) -> None:
        """Connect the live ones; why they cannot is noted in the record."""
        host, options, run = self._host, self._options, self._run
        kind = options.after_clients if host.mode == "after" else detect_channel(host.base, options)
        if kind == "none":
            run.trouble["connect"] = ("the host has no push channel that is known here: neither Socket.IO nor a "
                                      f"WebSocket at {options.ws_path}")
            return
        try:
            self._process = ClientProcess(kind, host.base.url, options.clients, tag=self._tag,
                                          headers=options.headers, ws_path=options.ws_path)
        except ClientsFailed as error:
            run.trouble["connect"] = error.detail
            return
        run.transport, run.opened = kind, options.clients

    def stall(self) -> bool:
        """Connect the ones that do not read.

        :return: whether there are any; why there are none is noted in the record.
        """
        if self._process is None:
            return False
        try:
            self._process.stall(self._options.stalled)
        except ClientsFailed as error:
            self._run.trouble["stall"] = error.detail
            return False
        return True

    def close(self) -> None:
        """Disconnect all of them."""
        if self._process is not None:
            self._process.close()
        self._process = None

    def cpu(self) -> float:
        """Return the CPU seconds that their process has used."""
        return cpu_of(self._process.pid) if self._process is not None else 0.0

    def forget(self) -> None:
        """Count anew from here."""
        if self._process is not None:
            self._process.report()

    def note(self, deliveries: Deliveries, facts: int) -> None:
        """Wait until everything has arrived, and note what it was.

        :param deliveries: the record that is filled.
        :param facts: how many facts were stored since :meth:`forget`.
        """
        if self._process is None:
            return
        began = time.monotonic()
        with contextlib.suppress(ClientsFailed):
            seen = self.settled(facts)
            deliveries.events, deliveries.names, deliveries.untimed = seen["events"], seen["names"], seen["untimed"]
            deliveries.delays_ms = seen["delays"] if self._run.local_clock else []
            deliveries.closed = seen["closed"]
            deliveries.facts_sent = facts
            deliveries.facts_missing = sum(max(0, facts - got) for got in seen["facts"])
            deliveries.waited_s = time.monotonic() - began if deliveries.facts_missing else 0.0

    def settled(self, facts: int) -> dict[str, Any]:
        """Wait until every live client has all facts and nothing more comes, or the time is up.

        As long as facts are missing, or what comes is late, and something still comes, the time begins anew: slow is
        not lost, and its CPU belongs to this phase.

        :param facts: how many facts each live client is to get.
        :return: the sum of the reports of the clients' process meanwhile.
        """
        assert self._process is not None
        total = self._process.report()
        deadline = time.monotonic() + SETTLE_S
        last = time.monotonic() + MAX_SETTLE_S
        quiet = 0
        while (quiet < 3 or min(total["facts"], default=facts) < facts) and time.monotonic() < deadline:
            time.sleep(0.05)
            more = self._process.report()
            quiet = 0 if more["events"] else quiet + 1
            late = self._run.local_clock and max(more["delays"], default=0.0) > LATE_MS
            if more["events"] and (late or min(total["facts"], default=facts) < facts):
                deadline = min(time.monotonic() + SETTLE_S, last)
            total["events"] += more["events"]
            total["untimed"] += more["untimed"]
            total["delays"] += more["delays"]
            total["closed"] = more["closed"]
            for name, count in more["names"].items():
                total["names"][name] = total["names"].get(name, 0) + count
            total["facts"] = [a + b for a, b in zip(total["facts"], more["facts"], strict=True)]
        return total
