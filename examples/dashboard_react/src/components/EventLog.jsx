import { useState } from "react";
import Card from "./Card.jsx";

const PREVIEW = 300;

const time = (date) => date.toLocaleTimeString("en-GB");

function text(args, indent) {
  return args.map((argument) => JSON.stringify(argument, null, indent) ?? "undefined").join(", ");
}

function Entry({ direction, name, args, at }) {
  return (
    <li data-event={name} data-direction={direction}>
      <details>
        <summary>
          <time dateTime={at.toISOString()}>{time(at)}</time>
          <span className={`arrow ${direction}`} aria-label={direction === "in" ? "received" : "sent"} role="img">
            {direction === "in" ? "↓" : "↑"}
          </span>
          <span className="name">{name}</span>
          <span className="preview">{text(args).slice(0, PREVIEW)}</span>
        </summary>
        <pre>{text(args, 2)}</pre>
      </details>
    </li>
  );
}

/** Everything that came and went, newest first. */
export default function EventLog({ entries, total, onClear }) {
  const [filter, setFilter] = useState("");
  const shown = entries.filter(({ name }) => name.includes(filter.trim()));
  return (
    <Card
      title="Events"
      className="log"
      aside={
        <span className="muted">
          <span data-testid="event-total">{total}</span> in all
        </span>
      }
    >
      <div className="row">
        <label htmlFor="filter" className="hidden">
          Show events whose name contains
        </label>
        <input
          id="filter"
          type="search"
          placeholder="Filter by name"
          value={filter}
          onChange={(event) => setFilter(event.target.value)}
        />
        <button type="button" onClick={onClear}>
          Clear
        </button>
      </div>
      {/* Not live: it would read out every event. */}
      <div role="log" aria-live="off" aria-label="Events, newest first" tabIndex={0} className="entries">
        <ol>
          {shown.map((entry) => (
            <Entry key={entry.number} {...entry} />
          ))}
        </ol>
      </div>
    </Card>
  );
}
