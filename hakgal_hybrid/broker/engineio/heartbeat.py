"""Heartbeat: when a session of Engine.IO sends a ping, and how long it waits for the pong. Pure."""

from __future__ import annotations

from collections.abc import Callable

from .upper import EngineOptions

#: How late the ping of a client that does not poll may be noted as due (seconds), and the time of its pong not be put
#: off by that. A machine that has slept gives it the whole time.
LATE_S = 0.1


class Heartbeat:
    """The server's clock of one session: a ping, the pong, and the next ping one interval after it.

    :param options: how long things take.
    :param clock: monotonic seconds.
    :ivar options: how long things take.
    :ivar clock: monotonic seconds.
    :ivar due: the clock's reading at which something is to be done.
    :ivar ping: true while a ping is to be sent and has not been.
    """

    __slots__ = ("_awaiting", "clock", "due", "options", "ping")

    def __init__(self, options: EngineOptions, clock: Callable[[], float]) -> None:
        self.options, self.clock = options, clock
        self.ping = self._awaiting = False
        self.due = clock() + options.ping_interval_s

    def pause(self, seconds: float) -> None:
        """Do nothing for a while.

        :param seconds: for how long.
        """
        self.due = self.clock() + seconds

    def extend(self) -> None:
        """Begin anew with the time that is running: that of the pong, or that until the next ping."""
        options = self.options
        self.pause(options.ping_timeout_s if self._awaiting else options.ping_interval_s)

    def alive(self) -> None:
        """Note that the client has shown otherwise that it is alive. A pong that is awaited may take its time anew."""
        if self._awaiting:
            self.extend()

    def ask(self) -> bool:
        """Ask the client whether it is there, by a ping: it is time.

        :return: false if the client is taken for dead: its pong has not come.
        """
        if self._awaiting:
            return False
        self.ping = self._awaiting = True
        self.due = max(self.due, self.clock() - LATE_S) + self.options.ping_timeout_s
        return True

    def sent(self) -> None:
        """Note that the ping has left. The pong may take its time from now on."""
        self.ping = False
        self.extend()

    def ponged(self) -> None:
        """Note a pong. One that no ping has asked for means nothing."""
        if self._awaiting:
            self.ping = self._awaiting = False
            self.extend()
