"""What the app and its blueprints share."""

from flask_socketio import SocketIO

socketio = SocketIO(logger=False, engineio_logger=False)
