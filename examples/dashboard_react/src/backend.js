/** Where the backend is: `?api=` in the page's address, else VITE_API at build time, else where the page came from. */
export const API = (
  new URLSearchParams(window.location.search).get("api") ||
  import.meta.env.VITE_API ||
  window.location.origin
).replace(/\/+$/, "");

// A key belongs to one backend, so that a link with another ?api= does not send it there.
const KEY_NAME = `api-key ${API}`;

/** The API key of this backend, kept until the tab is closed. */
export const loadApiKey = () => sessionStorage.getItem(KEY_NAME) ?? "";

export const saveApiKey = (key) => sessionStorage.setItem(KEY_NAME, key);

/** Store a fact; throws an Error that says why it was not stored. */
export async function addFact(statement, apiKey) {
  const response = await fetch(`${API}/api/facts`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(apiKey && { "X-API-Key": apiKey }) },
    body: JSON.stringify({ statement }),
  });
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Error(answer.message ?? answer.error ?? answer.detail ?? `the backend answered ${response.status}`);
  }
}
