"""A list that grows on every open page, with Turbo: start it with ``python app.py`` and open http://127.0.0.1:5001/."""

import threading
import uuid

from flask import Flask, Response, render_template, request

from hakgal_hybrid import Html, HybridTransport

app = Flask(__name__)
transport = HybridTransport(app)
rows = []  # in place of your database
lock = threading.Lock()  # so that a page and its stream agree on where one ends and the other begins


@app.get("/")
def page():
    with lock:
        return render_template("page.html", rows=list(rows), last_event_id=transport.last_event_id)


@app.post("/rows")
def add_row():
    with lock:
        rows.append({"id": uuid.uuid4().hex, "text": request.form["text"]})
        transport.emit("row", Html(render_template("_added.html", row=rows[-1])))  # never waits for a reader
    return Response(render_template("_empty_form.html"), mimetype="text/vnd.turbo-stream.html")


if __name__ == "__main__":
    transport.run()
