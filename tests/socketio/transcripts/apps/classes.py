"""Class-based namespaces."""

from __future__ import annotations

from typing import Any

from flask import Flask, request

from transcripts.journal import note


def create(module: Any) -> tuple[Flask, Any]:
    """Return the app and its ``SocketIO``."""
    app = Flask("classes")
    app.config["SECRET_KEY"] = "only for tests"
    socketio = module.SocketIO(app, async_mode="threading")

    class Plain(module.Namespace):
        """The usual one."""

        def on_connect(self, auth: Any) -> None:
            note("connect", auth=auth)
            self.enter_room(request.sid, "lobby")
            self.save_session(request.sid, {"seen": 0})

        def on_disconnect(self, reason: str) -> None:
            note("disconnect", reason=reason)
            self.emit("gone", {"who": request.sid}, include_self=False)

        def on_look(self) -> list[Any]:
            with self.session(request.sid) as session:
                session["seen"] += 1
            rooms = self.rooms(request.sid)
            return [self.get_session(request.sid), len(rooms), "lobby" in rooms]

        def on_say(self, text: str) -> None:
            self.emit("said", text, room="lobby")
            self.send("sent", include_self=False)

        def on_ask(self, sid: str) -> None:
            self.emit("question", "?", room=sid, callback=lambda *args: note("acknowledged", args=args))

        def on_step_out(self) -> None:
            self.leave_room(request.sid, "lobby")

        def on_close(self) -> None:
            self.close_room("lobby")

        def on_kick(self, sid: str) -> None:
            self.disconnect(sid)

        def on_fail(self) -> None:
            raise LookupError("no error method")

        def on_use_functions(self) -> str:
            module.emit("from a function", {"namespace": request.namespace})
            module.join_room("extra")
            module.emit("to extra", 1, to="extra")
            return str(request.event["message"])

        def unregistered(self) -> None:
            note("must not be called")

    class Careful(module.Namespace):
        """One that deals with its own errors, and whose handlers take no reason."""

        def on_connect(self) -> Any:
            note("connect")

        def on_disconnect(self) -> None:
            note("disconnect")

        def on_fail(self, *args: Any) -> None:
            raise LookupError("dealt with")

        def on_shared(self) -> str:
            return "method"

        def error(self, error: Exception) -> Any:
            note("error", error=str(error))
            return f"the error was: {error}"

    class Overridden(module.Namespace):
        """One that does its own dispatching."""

        def trigger_event(self, event: str, *args: Any) -> Any:
            note("triggered", event=event, args=args if event not in ("connect", "disconnect") else None)
            return f"triggered {event}" if event != "connect" else None

    plain = Plain()
    socketio.on_namespace(plain)
    socketio.on_namespace(Careful("/careful"))
    socketio.on_namespace(Overridden("/overridden"))

    @socketio.on("shared", namespace="/careful")
    def shared() -> str:
        return "function"

    @app.get("/calls/<sid>")
    def call(sid: str) -> Any:
        """Ask a client by way of the namespace's own ``call``, from a thread."""
        socketio.start_background_task(lambda: note("called", answer=plain.call("question", "!", to=sid, timeout=5)))
        return {}

    return app, socketio
