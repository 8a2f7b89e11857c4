import { API } from "../backend.js";

/** The head of the page: whether it is connected, as whom, where to, and with which key. */
export default function Connection({ state, sid, detail, readyMs, apiKey, onKey, onConnect, onDisconnect }) {
  const submit = (event) => {
    event.preventDefault();
    onKey(new FormData(event.currentTarget).get("key").trim());
    event.currentTarget.closest("details").open = false;
  };
  const wanted = state !== "disconnected";
  return (
    <header className="top">
      <div className="brand">
        <img src="/favicon.svg" alt="" width="32" height="32" />
        <div>
          <h1>Knowledge base</h1>
          <p className="muted">{API}</p>
        </div>
      </div>
      <div className="link">
        <p role="status" className={`pill ${state}`}>
          <span className="dot" aria-hidden="true" />
          <span data-testid="connection">{state}</span>
        </p>
        <p className="muted detail">
          {sid && (
            <>
              <span>
                id <code data-testid="sid">{sid}</code>
              </span>
              {readyMs !== null && <span data-testid="ready">data after {Math.round(readyMs)} ms</span>}
            </>
          )}
          {!sid && detail && <span data-testid="reason">{detail}</span>}
        </p>
      </div>
      <div className="tools">
        <details className="key">
          <summary className="button">API key{apiKey ? ": set" : ""}</summary>
          <form onSubmit={submit}>
            <label htmlFor="key">API key</label>
            <div className="row">
              <input id="key" name="key" type="password" autoComplete="off" defaultValue={apiKey} />
              <button type="submit">Use</button>
            </div>
            <p className="muted">Needed if the backend has one. It is kept until this tab is closed.</p>
          </form>
        </details>
        <button type="button" onClick={wanted ? onDisconnect : onConnect}>
          {wanted ? "Disconnect" : "Connect"}
        </button>
      </div>
    </header>
  );
}
