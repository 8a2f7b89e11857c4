import Card from "./Card.jsx";

const FIGURES = [
  ["mode", "Mode", String],
  ["decisions_made", "Decisions", (value) => value.toLocaleString("en")],
  ["success_rate", "Success rate", (value) => `${(100 * value).toFixed(1)} %`],
];

function stateOf(governor, pending) {
  if (pending) return pending === "start" ? "starting…" : "stopping…";
  if (governor?.running === undefined) return "unknown";
  return governor.running ? "running" : "stopped";
}

/** Whether the governor runs, and the commands for it. */
export default function Governor({ governor, pending, connected, onControl, onRefresh }) {
  const state = stateOf(governor, pending);
  const ready = connected && !pending;
  return (
    <Card
      title="Governor"
      aside={
        <span role="status" className={`pill ${pending ? "busy" : state}`}>
          <span className="dot" aria-hidden="true" />
          <span data-testid="governor-state">{state}</span>
        </span>
      }
    >
      <div className="row buttons">
        <button
          type="button"
          className="primary"
          disabled={!ready || governor?.running === true}
          onClick={() => onControl("start")}
        >
          Start
        </button>
        <button type="button" disabled={!ready || governor?.running === false} onClick={() => onControl("stop")}>
          Stop
        </button>
        <button type="button" disabled={!ready} onClick={onRefresh}>
          Refresh
        </button>
      </div>
      {governor?.error && (
        <p role="alert" className="note bad" data-testid="governor-error">
          {governor.error}
        </p>
      )}
      <dl className="pairs">
        {FIGURES.map(([name, label, format]) => (
          <div key={name}>
            <dt>{label}</dt>
            <dd data-testid={`governor-${name}`}>{governor?.[name] === undefined ? "–" : format(governor[name])}</dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}
