import Card from "./Card.jsx";

function Result({ query, confidence, duration_ms, supporting_facts }) {
  const percent = Math.round(confidence * 100);
  return (
    <div className="result" data-testid="reasoning-result">
      <p>
        <code data-testid="reasoning-query">{query}</code>
      </p>
      <div className="gauge">
        <span id="confidence">Confidence</span>
        <span className="value" data-testid="confidence">
          {percent} %
        </span>
        <div
          role="meter"
          className="bar"
          aria-labelledby="confidence"
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={percent}
        >
          <span style={{ width: `${percent}%` }} />
        </div>
      </div>
      <p className="muted">
        {supporting_facts.length === 1 ? "1 supporting fact" : `${supporting_facts.length} supporting facts`} in{" "}
        {duration_ms.toFixed(1)} ms
      </p>
      <ul className="facts">
        {supporting_facts.slice(0, 4).map((fact) => (
          <li key={fact}>
            <code>{fact}</code>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** A question to the reasoner, and its answer. */
export default function Reasoning({ result, pending, connected, onAsk }) {
  const submit = (event) => {
    event.preventDefault();
    onAsk(new FormData(event.currentTarget).get("query"));
  };
  return (
    <Card title="Reasoning" aside={pending !== null && <span className="muted">thinking…</span>}>
      <form onSubmit={submit}>
        <label htmlFor="query">How well do the facts support</label>
        <div className="row">
          <input
            id="query"
            name="query"
            required
            placeholder="IsA(Platypus, Mammal)."
            autoComplete="off"
            spellCheck="false"
          />
          <button type="submit" className="primary" disabled={!connected}>
            Ask
          </button>
        </div>
      </form>
      <div aria-live="polite">
        {result ? <Result {...result} /> : <p className="muted">Nothing asked yet.</p>}
      </div>
    </Card>
  );
}
