import { useState } from "react";
import { addFact } from "../backend.js";
import Card from "./Card.jsx";

/** How many facts there are, the latest of them, and a form for one more. */
export default function KnowledgeBase({ count, latest, apiKey }) {
  const [answer, setAnswer] = useState(null);
  const [busy, setBusy] = useState(false);

  const submit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    setBusy(true);
    try {
      await addFact(new FormData(form).get("statement"), apiKey);
      setAnswer({ kind: "good", text: "Stored." });
      form.reset();
    } catch (error) {
      setAnswer({ kind: "bad", text: `Not stored: ${error.message}` });
    } finally {
      setBusy(false);
    }
  };

  return (
    <Card title="Facts">
      <p className="figure">
        <span className="big" data-testid="fact-count">
          {count === null ? "–" : count.toLocaleString("en")}
        </span>{" "}
        <span className="muted">in the knowledge base</span>
      </p>
      <form onSubmit={submit}>
        <label htmlFor="statement">Add a fact</label>
        <div className="row">
          <input
            id="statement"
            name="statement"
            required
            pattern="[A-Za-z]\w*\(\w+,\s*\w+\)\."
            title="Predicate(Entity1, Entity2)."
            placeholder="Likes(Ann, Tea)."
            autoComplete="off"
            spellCheck="false"
          />
          <button type="submit" className="primary" disabled={busy}>
            Add
          </button>
        </div>
        <p role="status" className={`note ${answer?.kind ?? ""}`} data-testid="fact-answer">
          {answer?.text}
        </p>
      </form>
      <h3 id="latest-facts">Latest</h3>
      {latest.length === 0 && <p className="muted">None seen yet.</p>}
      <ol className="facts" aria-labelledby="latest-facts" data-testid="latest-facts">
        {latest.map((statement, index) => (
          <li key={`${latest.length - index} ${statement}`}>
            <code>{statement}</code>
          </li>
        ))}
      </ol>
    </Card>
  );
}
