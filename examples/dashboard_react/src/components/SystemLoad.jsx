import Card from "./Card.jsx";

const GAUGES = [
  ["cpu", "CPU"],
  ["memory", "Memory"],
  ["gpu", "GPU"],
  ["gpu_memory", "GPU memory"],
];

function Gauge({ name, label, percent }) {
  const known = typeof percent === "number";
  const level = !known ? "" : percent >= 90 ? "bad" : percent >= 70 ? "warn" : "";
  return (
    <div className="gauge">
      <span id={`gauge-${name}`}>{label}</span>
      <span className="value" data-testid={`load-${name}`}>
        {known ? `${percent.toFixed(1)} %` : "n/a"}
      </span>
      <div
        role="meter"
        className={`bar ${level}`}
        aria-labelledby={`gauge-${name}`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={known ? percent : 0}
        aria-valuetext={known ? `${percent.toFixed(1)} percent` : "not measured"}
      >
        <span style={{ width: known ? `${Math.min(100, percent)}%` : 0 }} />
      </div>
    </div>
  );
}

/** The load of the backend's machine, and what it has served. */
export default function SystemLoad({ load, traffic }) {
  return (
    <Card title="System load" aside={!load && <span className="muted">no measurement yet</span>}>
      <div className="gauges">
        {GAUGES.map(([name, label]) => (
          <Gauge key={name} name={name} label={label} percent={load?.[name]} />
        ))}
      </div>
      <dl className="pairs">
        <div>
          <dt>Requests</dt>
          <dd data-testid="requests-served">{traffic?.requests_served?.toLocaleString("en") ?? "–"}</dd>
        </div>
        <div>
          <dt>Clients</dt>
          <dd data-testid="clients">{traffic?.connected_clients ?? "–"}</dd>
        </div>
      </dl>
    </Card>
  );
}
