"""Upgrade requests: a WebSocket of the host runs in a thread of its own, on a plain blocking socket."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from typing import Any

from ..logs import get_logger
from .connection import hang_up
from .wsgi import Headers, end_to_end, head_bytes

logger = get_logger(__name__)

#: How long an answer that is no WebSocket may take to write (seconds).
_ANSWER_S = 10


class UpgradeSocket(socket.socket):
    """A socket that knows whether the app has answered on it itself, as WebSocket libraries do.

    :ivar answered: whether anything was sent on it.
    """

    answered = False

    def send(self, data: Any, flags: int = 0) -> int:
        """Send, and remember it.

        :param data: what to send.
        :param flags: as :meth:`socket.socket.send` takes them.
        :return: how many bytes were sent.
        """
        first, self.answered = not self.answered, True
        try:
            return super().send(data, flags)
        except OSError:
            if not first:
                raise
            # The answer to the handshake, and the client has gone. The kernel could as well have taken it: the library
            # then finds out as it reads, where it expects that, instead of failing as a view.
            return len(data)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything, and remember it.

        :param data: what to send.
        :param flags: as :meth:`socket.socket.sendall` takes them.
        """
        self.answered = True
        super().sendall(data, flags)


def start_upgrade(application: Any, environ: dict[str, Any], fileno: int,
                  ended: Callable[[], None]) -> UpgradeSocket:
    """Have an upgrade request answered in a thread of its own.

    :param application: the WSGI app.
    :param environ: the request.
    :param fileno: the number of its socket, which is the thread's from now on.
    :param ended: called when the thread is done with it.
    :return: the socket.
    """
    sock = UpgradeSocket(fileno=fileno)
    sock.setblocking(True)
    environ["werkzeug.socket"] = sock
    environ["wsgi.input"] = io.BytesIO()

    def run() -> None:
        try:
            answer_upgrade(application, environ, sock)
        finally:
            ended()

    try:
        threading.Thread(target=run, name="hakgal-hybrid-websocket", daemon=True).start()
    except RuntimeError:  # the system has none to give; the client sees that the connection ends
        logger.exception("no thread for a WebSocket")
        sock.close()
        ended()
    return sock


def answer_upgrade(application: Any, environ: dict[str, Any], sock: UpgradeSocket) -> None:
    """Run the app for an upgrade request, in its thread; if it did not answer on the socket itself, answer as HTTP.

    :param application: the WSGI app.
    :param environ: the request.
    :param sock: its socket, which is closed at the end.
    """
    started: list[tuple[str, Headers]] = []
    try:
        result = application(environ, lambda status, headers, exc_info=None: started.append((status, headers)))
        try:
            if started and not sock.answered:
                sock.settimeout(_ANSWER_S)
                sock.sendall(head_bytes(started[-1][0], [*end_to_end(started[-1][1]), ("Connection", "close")]))
                for chunk in result:
                    sock.sendall(chunk)
        finally:
            if hasattr(result, "close"):
                result.close()
    except OSError:
        logger.debug("a WebSocket's client went away")
    except Exception:
        logger.exception("the application raised in a WebSocket request")
    finally:
        hang_up(sock)
        sock.close()
