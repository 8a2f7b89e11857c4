"""The recipe in greenlets: everything monkey-patched, gevent's own server."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

import gevent  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

from ..publisher import Publisher  # noqa: E402
from . import handlers  # noqa: E402
from .recipe import FRAMING, app, emit  # noqa: E402

if __name__ == "__main__":
    handlers.install(app)
    lag = handlers.Lag()
    gevent.spawn(Publisher(int(sys.argv[2]), emit, FRAMING, lag=lag.told).serve)
    gevent.spawn(lag.watch)
    WSGIServer(("127.0.0.1", int(sys.argv[1])), app, backlog=4096, log=None).serve_forever()
