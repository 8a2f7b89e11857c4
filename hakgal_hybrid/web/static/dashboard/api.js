// Asking the server. A key is kept here, in memory, and sent as a header; no URL ever holds it.

export const base = new URL(".", document.baseURI);
/** A URL of the host itself, whose paths begin where the prefix of ours does. */
export const hostURL = (path, prefix) => new URL(`../..${prefix.replace(/\/[^/]+/g, "/..")}/${path}`, base);

let key = "", wanted = false;

export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }

  /** True if a key, or another one, would help. */
  get wantsKey() {
    return ["key_required", "wrong_key", "foreign_host"].includes(this.code);
  }
}

/** True once the server has said that a key would help. */
export const keyIsWanted = () => wanted;
export const hasKey = () => key !== "";
export const auth = () => key === "" ? undefined : { apiKey: key };

export function setKey(value) {
  key = value;
}

/** The answer's JSON. `Problem` for a refusal, and for no answer at all (status 0). */
export async function ask(path, { body, headers = {}, timeout = 15000 } = {}) {
  const sent = key;
  let response;
  try {
    response = await fetch(new URL(path, base), {
      method: body === undefined ? "GET" : "POST", cache: "no-store", redirect: "error", signal: AbortSignal.timeout(timeout),
      headers: { ...(sent && { "X-API-Key": sent }), ...(body !== undefined && { "Content-Type": "application/json" }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    throw new Problem(0, "unreachable", error.name === "TimeoutError" ? "no answer in time" : "the server cannot be reached");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // no JSON: a proxy's page, or the host's
  }
  if (!response.ok || answer === null)
    throw noted(new Problem(response.status, answer?.code ?? "", answer?.detail ?? `answered ${response.status}`), sent);
  return answer;
}

function noted(problem, sent) {
  wanted ||= problem.wantsKey;
  // A wrong key is worse than none: without one, this machine may at least look.
  if (problem.code === "wrong_key" && sent === key) key = "";
  return problem;
}
