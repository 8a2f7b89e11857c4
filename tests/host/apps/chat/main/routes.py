"""Pages: log in by a form, which keeps the name and the room in the session."""

from flask import redirect, request, session

from ..extensions import socketio
from . import main


@main.get("/health")
def health():
    """Answer."""
    return {"ok": True, "class": type(socketio).__module__}


@main.post("/")
def index():
    """Remember who it is."""
    session["name"], session["room"] = request.form["name"], request.form["room"]
    return redirect("/health")


@main.post("/announce")
def announce():
    """Broadcast from a request."""
    socketio.emit("announcement", {"msg": request.json["msg"]}, namespace="/chat")
    return "", 204
