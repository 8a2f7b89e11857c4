"""Hides what Windows does not have from Python; beside ``GEVENT_LOOP=libuv``, which is its loop. On ``PYTHONPATH``."""

import os
import select
import socket

# These read the names as they are imported, and have a code of their own for Windows.
import gevent.socket  # noqa: F401
import psutil  # noqa: F401

pair, unix = socket.socketpair, getattr(socket, "AF_UNIX", None)
if unix is not None:
    socket.socketpair = lambda family=unix, *more: pair(family, *more)
for module, names in ((select, ("epoll",)), (os, ("fork", "register_at_fork")),
                      (socket, ("AF_UNIX", "SO_REUSEPORT", "TCP_USER_TIMEOUT"))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
