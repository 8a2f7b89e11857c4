"""Pages: log in by a form, which keeps the name and the room in the session; then the room."""

from flask import redirect, render_template, request, session, url_for

from ..extensions import socketio
from . import main


@main.get("/health")
def health():
    """Answer."""
    return {"ok": True, "class": type(socketio).__module__}


@main.route("/", methods=["GET", "POST"])
def index():
    """Ask who it is, and remember it."""
    if request.method == "GET":
        return render_template("index.html")
    session["name"], session["room"] = request.form["name"], request.form["room"]
    return redirect(url_for(".chat"))


@main.get("/chat")
def chat():
    """Show the room."""
    return render_template("chat.html", room=session["room"])


@main.post("/announce")
def announce():
    """Broadcast from a request."""
    socketio.emit("announcement", {"msg": request.json["msg"]}, namespace="/chat")
    return "", 204
