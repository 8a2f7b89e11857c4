"""Runs jobs, as a worker of Celery would, and emits how far each of them is: python worker.py"""

import os
import signal
import sys
import time

import redis

from hakgal_hybrid import Emitter

queue = redis.Redis.from_url(os.environ["HYBRID_BACKPLANE"])
emitter = Emitter()  # HYBRID_BACKPLANE and HYBRID_BACKPLANE_NAME say where to


def run(job):
    for done in (25, 50, 75, 100):
        time.sleep(0.2)  # in place of work
        emitter.emit("job_progress", {"job": job, "done": done, "by": f"worker {os.getpid()}"})


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # an orderly end, at which the emitter sends what it has
    while True:
        try:
            _, job = queue.blpop("jobs")
        except redis.RedisError:  # away: the emitter keeps what it has, and here there is nothing to do meanwhile
            time.sleep(1)
        else:
            run(job.decode())
