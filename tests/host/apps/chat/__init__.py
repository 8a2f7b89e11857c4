"""A chat with rooms: an app factory, extensions in a module of their own, a blueprint with routes and events."""

from flask import Flask

from .extensions import socketio


def create_app(debug=False):
    """Make the app, as tutorials do."""
    app = Flask(__name__)
    app.debug = debug
    app.config["SECRET_KEY"] = "gjr39dkjn344_!67#"

    from .main import main as main_blueprint

    app.register_blueprint(main_blueprint)
    socketio.init_app(app, cors_allowed_origins="*", ping_timeout=30)
    return app
