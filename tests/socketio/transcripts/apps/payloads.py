"""What can be sent: texts, numbers, structures, bytes, several values."""

from __future__ import annotations

from typing import Any

from flask import Flask

from transcripts.journal import note

THINGS: dict[str, Any] = {
    "nothing": None, "text": "Grüße, 世界 🎈 \u2028 \x00 </script>", "empty text": "", "number": 42, "float": 0.1,
    "whole float": 2.0, "big": 2**53, "negative": -1, "true": True, "false": False,
    "list": [1, [2, [3]]], "empty list": [],
    "dict": {"a": {"b": [None, True]}, "ä": 1, "": 2, "1": 3}, "empty dict": {}, "tuple": ("one", 2, None),
    "tuple of one": ("one",), "tuple of lists": ([1], [2]), "empty tuple": (), "list in tuple": ([1, 2],),
    "tuple in a list": [(1, 2)], "bytes": b"\x00\x01\xfe\xff", "no bytes": b"",
    "bytes in a dict": {"file": {"name": "a.bin", "data": b"\x80"}, "also": [b"1", [b"2"]]},
    "bytes in a tuple": (b"first", {"second": b"2"}, "third"), "one byte in text": "\xff",
    "placeholder": {"_placeholder": True, "num": 0}, "dollar": {"$binary": "YQ==", "$$binary": 1, "$": 2},
    "large": "x" * 100_000, "large bytes": bytes(range(256)) * 400, "key that is a number": {1: "one"}}


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("payloads")
    socketio = module.SocketIO(app, async_mode="threading")

    @socketio.on("get")
    def get(name: str) -> Any:
        module.emit("thing", THINGS[name])
        socketio.emit("thing", THINGS[name])
        return THINGS[name]

    @socketio.on("put")
    def put(*args: Any) -> Any:
        note("put", args=args, types=[type(value).__name__ for value in args])
        return args

    @socketio.on("message")
    def message(*args: Any) -> str:
        note("message", args=args)
        module.send(args[0])
        return "message"

    @socketio.on("json")
    def json(*args: Any) -> str:
        note("json", args=args)
        module.send(args[0], json=True)
        return "json"

    @socketio.on("send all")
    def send_all() -> None:
        socketio.send("to all")
        socketio.send({"to": "all"}, json=True)
        socketio.send(b"bytes")
        module.send("to all others", broadcast=True, include_self=False)
        module.send({"to": "all others"}, json=True, broadcast=True, include_self=False)

    @socketio.event
    def my_event(*args: Any) -> Any:
        module.emit("my_response", {"args": args})
        return len(args)

    @socketio.on("naïve event ☃")
    def strange(*args: Any) -> None:
        module.emit("naïve answer ☃", *args)

    return app, socketio
