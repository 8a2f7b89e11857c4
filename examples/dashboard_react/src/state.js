/** What the page knows, and how each event changes it. */

const LATEST_FACTS = 5;
const LOG_ENTRIES = 300;

export const initialState = {
  connection: { state: "connecting", sid: null, detail: null, readyMs: null },
  factCount: null,
  latestFacts: [],
  load: null,
  traffic: null,
  governor: null,
  pendingAction: null,
  reasoning: null,
  pendingQuery: null,
  log: [],
  logged: 0,
};

// Why a socket was closed for good; after anything else it comes back by itself.
const FINAL = ["io client disconnect", "io server disconnect"];

function disconnected(state, reason) {
  const connection = FINAL.includes(reason)
    ? { state: "disconnected", detail: reason }
    : { state: "reconnecting", detail: reason };
  return { ...state, connection: { sid: null, readyMs: null, ...connection }, pendingAction: null, pendingQuery: null };
}

/** Events of the socket itself. */
export const CONNECTION = {
  connect: (state, sid) => ({ ...state, connection: { state: "connected", sid, detail: null, readyMs: null } }),
  disconnect: disconnected,
  connect_error: (state, error) => disconnected(state, error.message),
};

/** Events of the backend that are shown somewhere else than in the log. */
export const BACKEND = {
  initial_data: (state, data) => ({
    ...state,
    factCount: data.metrics.fact_count,
    latestFacts: data.facts.slice(0, LATEST_FACTS),
  }),
  fact_added: (state, data) => ({
    ...state,
    latestFacts: [data.statement, ...state.latestFacts].slice(0, LATEST_FACTS),
  }),
  kb_update: (state, data) => ({ ...state, factCount: data.fact_count }),
  kb_metrics: (state, data) => ({ ...state, factCount: data.fact_count }),
  system_load_update: (state, load) => ({ ...state, load }),
  system_status_update: (state, traffic) => ({ ...state, traffic }),
  governor_update: (state, data) => ({
    ...state,
    governor: { ...state.governor, error: null, ...data },
    pendingAction: null,
  }),
  reasoning_result: (state, reasoning) => ({ ...state, reasoning, pendingQuery: null }),
};

/** What the page itself does. */
const PAGE = {
  connecting: (state) => ({ ...state, connection: { ...initialState.connection } }),
  ready: (state, readyMs) => ({ ...state, connection: { ...state.connection, readyMs } }),
  control: (state, pendingAction) => ({ ...state, pendingAction }),
  ask: (state, pendingQuery) => ({ ...state, pendingQuery }),
  log: (state, entry) => ({
    ...state,
    log: [{ ...entry, number: state.logged + 1 }, ...state.log].slice(0, LOG_ENTRIES),
    logged: state.logged + 1,
  }),
  clear: (state) => ({ ...state, log: [], logged: 0 }),
};

const ALL = { ...CONNECTION, ...BACKEND, ...PAGE };

export const reduce = (state, { type, data }) => ALL[type](state, data);
