"""What ``import eventlet`` gives a host that is swapped: the names most hosts use, over native threads.

Nothing is patched, so real threads stay real threads. A host that begins with ``eventlet.monkey_patch()`` starts as it
is, also where eventlet is not installed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import sleep as _sleep
from typing import Any

from ..logs import get_logger

logger = get_logger(__name__)


def monkey_patch(*args: Any, **kwargs: Any) -> None:
    """Patch nothing, and log that nothing was patched.

    :param args: mean nothing.
    :param kwargs: mean nothing.
    """
    logger.info("eventlet.monkey_patch() does nothing: the app runs in native threads")


def sleep(seconds: float = 0) -> None:
    """Sleep in the calling thread.

    :param seconds: how long.
    """
    _sleep(seconds)


class Task(threading.Thread):
    """A function that runs in a daemon thread.

    :param delay: how many seconds after its start.
    :param function: the function.
    :param args: its arguments.
    :param kwargs: its keywords.
    """

    def __init__(self, delay: float, function: Callable[..., Any], args: tuple[Any, ...],
                 kwargs: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._call = (delay, function, args, kwargs)
        self._cancelled = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call the function, unless it was cancelled before."""
        delay, function, args, kwargs = self._call
        if self._cancelled.wait(delay):
            return
        try:
            self._result = function(*args, **kwargs)
        except BaseException as error:
            self._error = error
            raise

    def wait(self) -> Any:
        """Wait for the function's end.

        :return: what it has returned.
        :raises BaseException: what it has raised.
        """
        self.join()
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> None:
        """Do not call the function, if it has not begun."""
        self._cancelled.set()


def spawn(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Run a function in a daemon thread.

    :param function: the function.
    :param args: its arguments.
    :param kwargs: its keywords.
    :return: the thread, which can be waited for.
    """
    return Task(0, function, args, kwargs)


spawn_n = spawn


def spawn_after(seconds: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Run a function in a daemon thread, later.

    :param seconds: how much later.
    :param function: the function.
    :param args: its arguments.
    :param kwargs: its keywords.
    :return: the thread, which can be waited for.
    """
    return Task(seconds, function, args, kwargs)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # what looks over all modules asks for these
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise ImportError(f"eventlet.{name} is not to be had in the profiles HYBRID and DUAL, in which the app runs in "
                      f"native threads; use what threading has, or start it with APP_PROFILE=WEBSOCKET",
                      name="eventlet")
