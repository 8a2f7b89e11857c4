"""Notes that appear on every open page: start it with ``python app.py`` and open http://127.0.0.1:5001/."""

from flask import Flask, request

from hakgal_hybrid import HybridTransport

app = Flask(__name__)
transport = HybridTransport(app)


@app.post("/notes")
def add_note():
    transport.emit("note_added", {"text": request.get_json()["text"]})  # never waits for a reader
    return {"ok": True}, 201


@app.get("/")
def page():
    return """<!doctype html><title>Notes</title><input id=text autofocus><ul id=notes></ul><script>
      new EventSource("/api/events/stream?snapshot=1").addEventListener("note_added", event => {
        const item = document.createElement("li"); item.textContent = JSON.parse(event.data).text; notes.append(item)});
      text.onchange = () => fetch("/notes", {method: "POST", headers: {"Content-Type": "application/json"},
        body: JSON.stringify({text: text.value})}).then(() => text.value = "");
    </script>"""


if __name__ == "__main__":
    transport.run()
