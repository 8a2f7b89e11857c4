"""APScheduler, a plain thread and a queue: three that emit from outside of any request. ``python jobs.py PORT``."""

import os
import queue
import sys
import threading

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading", cors_allowed_origins="*", ping_interval=10, ping_timeout=5)
work = queue.Queue()


def worker():
    """Take jobs from the queue, and report each."""
    while True:
        number = work.get()
        socketio.emit("finished", {"job": number, "result": number * number})


@app.get("/health")
def health():
    """Answer."""
    return {"jobs": len(scheduler.get_jobs())}


@app.post("/work/<int:number>")
def add(number):
    """Queue a job."""
    work.put(number)
    return {"queued": number}, 202


@socketio.on("later")
def later(seconds):
    """Run a job once, later."""
    socketio.start_background_task(_later, seconds)
    return "accepted"


def _later(seconds):
    socketio.sleep(seconds)
    with app.app_context():
        socketio.emit("now", {"app": app.name}, to=None)


scheduler = BackgroundScheduler(daemon=True)
scheduler.add_job(lambda: socketio.emit("tick", {"every": "0.2 s"}), "interval", seconds=0.2)

if __name__ == "__main__":
    threading.Thread(target=worker, daemon=True).start()
    scheduler.start()
    try:
        socketio.run(app, os.environ.get("HOST"), int(sys.argv[1]),
                     debug=True, use_reloader=False, allow_unsafe_werkzeug=True)
    finally:
        scheduler.shutdown()
