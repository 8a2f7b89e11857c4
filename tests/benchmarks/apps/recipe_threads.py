"""The recipe in threads: Werkzeug's server."""

from __future__ import annotations

import logging
import sys
import threading

from ..publisher import Publisher
from .recipe import FRAMING, app, emit

if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    threading.Thread(target=Publisher(int(sys.argv[2]), emit, FRAMING).serve, daemon=True).start()
    app.run("127.0.0.1", int(sys.argv[1]), threaded=True)
