"""Flask-SQLAlchemy: a shared list, changed by events and by requests. Started by gunicorn or by name."""

import os

from flask import Flask, jsonify, request
from flask_socketio import SocketIO, emit
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()
socketio = SocketIO()


class Item(db.Model):
    """A thing to do."""

    id = db.Column(db.Integer, primary_key=True)
    title = db.Column(db.String(100), nullable=False)
    done = db.Column(db.Boolean, default=False)

    def as_dict(self):
        """What clients see."""
        return {"id": self.id, "title": self.title, "done": self.done}


def create_app():
    """Make the app and its tables."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="dev", SQLALCHEMY_DATABASE_URI=f"sqlite:///{os.environ['TODO_DB']}")
    db.init_app(app)
    socketio.init_app(app, async_mode="threading", message_queue=os.environ.get("NO_SUCH_QUEUE"))
    with app.app_context():
        db.create_all()

    @app.get("/health")
    def health():
        return {"items": Item.query.count()}

    @app.post("/items")
    def create():
        item = Item(title=request.json["title"])
        db.session.add(item)
        db.session.commit()
        socketio.emit("item_added", item.as_dict())
        return jsonify(item.as_dict()), 201

    return app


@socketio.on("connect")
def connected():
    """Send the list to the new client."""
    emit("items", [item.as_dict() for item in Item.query.order_by(Item.id)])


@socketio.on("finish")
def finish(number):
    """Mark one as done, and tell everybody."""
    item = db.session.get(Item, number)
    if item is None:
        return {"error": "no such item"}
    item.done = True
    db.session.commit()
    emit("item_changed", item.as_dict(), broadcast=True)
    return {"ok": True}
