"""Jobs that every open page sees, whichever process serves it: python app.py [PORT [ADDRESS]]"""

import os
import sys
import uuid

import redis
from flask import Flask, request

from hakgal_hybrid import HybridTransport

app = Flask("scale_out")
transport = HybridTransport(app)
queue = redis.Redis.from_url(os.environ["HYBRID_BACKPLANE"])  # of the workers; it need not be the same Redis


@app.post("/jobs")
def add_job():
    job = {"job": uuid.uuid4().hex[:8], "text": request.get_json()["text"]}
    transport.emit("job_added", {**job, "by": f"host {os.getpid()}"})  # first: the worker's events come after it
    queue.rpush("jobs", job["job"])
    return job, 202


@app.get("/")
def page():
    return """<!doctype html><title>Jobs</title>
    <input id=text placeholder="a job" autofocus><p id=notice></p><ul id=jobs></ul>
    <script>
      const added = id => jobs.appendChild(Object.assign(document.createElement("li"), {id}));
      const show = ({job, text, done, by}) => {
        const item = document.getElementById(job) || added(job);
        item.dataset.text = text || item.dataset.text || job;
        item.textContent = `${item.dataset.text}: ${done || 0} % (${by})`;
      };
      const events = new EventSource("/api/events/stream");
      for (const name of ["job_added", "job_progress"])
        events.addEventListener(name, event => show(JSON.parse(event.data)));
      events.addEventListener("notice", event => notice.textContent = JSON.parse(event.data).text);
      text.onchange = () => fetch("/jobs", {method: "POST", headers: {"Content-Type": "application/json"},
        body: JSON.stringify({text: text.value})}).then(() => text.value = "");
    </script>"""


if __name__ == "__main__":
    port, *address = sys.argv[1:] or ["5001"]
    transport.run(*address or ["127.0.0.1"], port=int(port))
