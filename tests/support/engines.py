"""Engine.IO without a connection: a clock that is moved by hand, and something to carry that echoes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hakgal_hybrid.broker.engineio.packets import Framing, split_blocks
from hakgal_hybrid.broker.engineio.session import EngineSession
from hakgal_hybrid.broker.engineio.upper import EngineOptions


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Echo:
    """Sends each message back.

    :ivar log: what happened, and the messages that came.
    """

    def __init__(self) -> None:
        self.log: list[Any] = []
        self._messages: list[str | bytes] = []
        self._rest = b""
        self.session: EngineSession | None = None

    def opened(self, session: EngineSession) -> None:
        self.session = session
        self.log.append("opened")

    def message(self, message: str | bytes) -> None:
        self.log.append(message)
        self.send(message)

    def send(self, message: str | bytes) -> None:
        assert self.session is not None
        self._messages.append(message)
        self.session.notify()

    def take(self, framing: Framing, packets: int) -> bytes:
        messages, self._messages = self._messages, []
        blocks = self._rest + b"".join(map(framing.message, messages))
        if framing is Framing.WEBSOCKET:
            return blocks
        blocks, self._rest = split_blocks(blocks, packets)
        return blocks

    def when_room(self, call: Callable[[], object]) -> None:
        call()

    def shareable(self, framing: Framing) -> None:
        return None

    def left(self) -> None:
        pass

    busy = False

    def holds(self, size: int) -> bool:
        return True

    def oversized(self, size: int) -> None:
        self.log.append(("oversized", size))

    def closed(self, reason: str) -> None:
        self.log.append(("closed", reason))


def engine(clock: Callable[[], float] | None = None, *, websocket: bool = False,
           **options: Any) -> tuple[EngineSession, Echo]:
    """Return a session and what it carries."""
    echo = Echo()
    return EngineSession(echo, EngineOptions(**options), clock or Clock(), websocket=websocket), echo
