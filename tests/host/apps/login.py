"""Flask-Login: only those who are logged in may connect; handlers know the user. Started by ``flask run``."""

import functools

from flask import Flask, request
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user, logout_user
from flask_socketio import SocketIO, disconnect, emit

app = Flask(__name__)
app.config["SECRET_KEY"] = "top-secret!"
login_manager = LoginManager(app)
socketio = SocketIO(app)


class User(UserMixin):
    """Somebody with a name."""

    def __init__(self, name):
        self.id = name


@login_manager.user_loader
def load_user(name):
    """Find a user."""
    return User(name)


def authenticated_only(handler):
    """End the client of whoever is not logged in, as Flask-SocketIO's documentation does."""

    @functools.wraps(handler)
    def wrapped(*args, **kwargs):
        if not current_user.is_authenticated:
            return disconnect()
        return handler(*args, **kwargs)

    return wrapped


@app.get("/health")
def health():
    """Answer."""
    return {"ok": True}


@app.post("/login")
def log_in():
    """Log in."""
    login_user(User(request.form["name"]))
    return "", 204


@app.post("/logout")
@login_required
def log_out():
    """Log out."""
    logout_user()
    return "", 204


@socketio.on("connect")
def connect():
    """Let in who is logged in."""
    if not current_user.is_authenticated:
        return False
    emit("my response", {"message": f"{current_user.id} has joined"}, broadcast=True)
    return None


@socketio.on("whoami")
@authenticated_only
def whoami():
    """Answer with the user's name."""
    return current_user.id
