"""Start the chat: ``python run_chat.py PORT``."""

import os
import sys

from chat import create_app
from chat.extensions import socketio

app = create_app()

if __name__ == "__main__":
    socketio.run(app, host=os.environ.get("HOST", "127.0.0.1"), port=int(sys.argv[1]),
                 debug=False, allow_unsafe_werkzeug=True)
