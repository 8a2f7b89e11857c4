"""A TCP proxy between one process and its Redis, which loses answers, cuts, freezes, and leads elsewhere."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

#: How the answers begin that something was appended, or a command claimed; no longer than this is all of it.
_ACKNOWLEDGED, _SHORT = (b"*2\r\n$2\r\nOK", b"*2\r\n$2\r\nGO"), 200


class Link:
    """The proxy of one process.

    :param port: the port of the server that it leads to.
    :ivar target: that port; it may be changed, for connections to come.
    :ivar swallow: how many acknowledgements are still to be lost, each with its connection.
    """

    def __init__(self, port: int) -> None:
        self.target, self.swallow, self._frozen = port, 0, False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target), 1)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            pair = near, far
            for end in pair:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append(pair)
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, pair, answers), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket],
              answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self._frozen and pair in self._pairs:
                    time.sleep(0.05)
                if answers and self.swallow > 0 and len(data) < _SHORT and data.startswith(_ACKNOWLEDGED):
                    self.swallow -= 1
                    break
                sink.sendall(data)
        _end(pair)
        for end in pair:
            end.close()
        with contextlib.suppress(ValueError):
            self._pairs.remove(pair)

    def cut(self) -> None:
        """End every connection."""
        for pair in list(self._pairs):
            _end(pair)

    def lead(self, port: int) -> None:
        """Lead to another server from now on.

        :param port: its port.
        """
        self.target = port
        self.freeze(False)
        self.cut()

    def freeze(self, on: bool) -> None:
        """Have connections stay open and pass nothing, or pass again what has come meanwhile.

        :param on: whether they are frozen.
        """
        self._frozen = on

    def close(self) -> None:
        """End everything."""
        self._frozen = False
        with contextlib.suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def _end(pair: tuple[socket.socket, socket.socket]) -> None:
    for end in pair:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
