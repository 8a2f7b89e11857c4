"""``python serve.py APP MODULE``: one of the apps, over the ``SocketIO`` of one of the two modules."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # the apps import their journal as "transcripts.journal"

from transcripts.journal import serve_journal


def main() -> None:
    """Serve until stopped; the server says on which port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    parser.add_argument("module", choices=["flask_socketio", "hakgal_hybrid.socketio"])
    parser.add_argument("--port", type=int, default=0)
    wish = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    app, socketio = importlib.import_module(f"transcripts.apps.{wish.app}").create(importlib.import_module(wish.module))
    serve_journal(app, socketio)
    socketio.run(app, host="127.0.0.1", port=wish.port, allow_unsafe_werkzeug=True)


if __name__ == "__main__":
    main()
