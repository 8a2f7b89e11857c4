"""pytest-flask wants a fixture ``app``; the fixtures ``hybrid_*`` come with hakgal_hybrid."""

import pytest
from flask import Flask, request

from hakgal_hybrid import HybridTransport


def create_app():
    app = Flask(__name__)
    app.config["SERVER_NAME"] = "127.0.0.1"  # live_server adds its port; Flask 2.3 answers 404 to any other name
    transport = HybridTransport(app)

    @app.post("/facts")
    def add_fact():
        statement = request.get_json()["statement"]
        transport.emit("fact_added", {"statement": statement})
        return {"statement": statement}, 201

    @transport.socketio.on("greet")
    def greet(data):
        transport.socketio.emit("greeted", {"name": data["name"]}, to=request.sid)
        return "hello"

    return app


@pytest.fixture
def app():
    return create_app()
