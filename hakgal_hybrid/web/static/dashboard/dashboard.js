// The page that watches: asks for the status every two seconds, and puts the parts together.

import { ask, base, hasKey, hostURL, keyIsWanted, setKey } from "./api.js";
import { backplaneCheck, showBackplane } from "./backplane.js";
import { hint, showClients } from "./clients.js";
import { LiveEvents } from "./events.js";
import { checks, identity, showChecks, showTiles, verdict } from "./figures.js";
import { Governor } from "./governor.js";
import { History } from "./history.js";
import { $, announce, number, setLevel, setText } from "./page.js";
import { SelfTest } from "./selftest.js";

const POLL_MS = 2000, HEALTH_MS = 10_000;

const history = new History();
const events = new LiveEvents();
const governor = new Governor(withKey);
const selfTest = new SelfTest();
let host = null, hostAskedAt = 0, started = false, level = "", keyDeclined = false;

// -- the key -------------------------------------------------------------------------------------------------

let answerKey = null, asking = null;

/** Ask the reader for the key, once for all who need it; false if there will be none. */
function askForKey(reason) {
  const dialog = $("key-dialog");
  if (dialog.open) return asking;
  setText($("key-reason"), reason);
  $("key").value = "";
  dialog.showModal();
  $("key").focus();
  return asking = new Promise(resolve => { answerKey = resolve; });
}

function prepareKey() {
  const dialog = $("key-dialog");
  $("key-form").addEventListener("submit", () => {
    setKey($("key").value);
    $("key").value = "";
    answerKey?.(true);
  });
  $("key-cancel").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    answerKey?.(false);  // means nothing after the other
    showKeyButton();
  });
  $("key-button").addEventListener("click", async () => {
    if (hasKey()) {
      setKey("");
      announce("The key is forgotten");
      showKeyButton();
      begin();
    } else if (await askForKey("Commands, and reading from another machine, need the server's HAKGAL_API_KEY.")) {
      begin();
    }
  });
}

function showKeyButton() {
  $("key-button").hidden = !hasKey() && !keyIsWanted();
  setText($("key-button"), hasKey() ? "Forget key" : "Enter key");
}

async function withKey(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const ours = !$("key-dialog").open;
      if (!error.wantsKey || !await askForKey(`${error.message}. Enter the server's HAKGAL_API_KEY.`)) throw error;
      if (ours) begin();
    }
  }
}

// -- polling -------------------------------------------------------------------------------------------------

async function poll() {
  try {
    const status = await ask("status");
    if (!started) await start();
    // Where there is no governor, and no /health, nothing asks for them.
    governor.show(status.governor);
    selfTest.url = status.health ? hostURL("health", status.prefix) : new URL("status", base);
    if (!status.health) host = null;
    else if (Date.now() - hostAskedAt > HEALTH_MS) askHost(hostURL("health", status.prefix));
    const now = history.add(status);
    const found = [...checks(status, history, host), ...backplaneCheck(status)];
    showTiles(status, history, now);
    showChecks(found);
    showBackplane(status);
    setText($("identity"), identity(status));
    tell(...verdict(found));
    $("notice").hidden = true;
    showKeyButton();
    await showClients(events.id);
  } catch (error) {
    await refused(error);
  }
}

function tell(how, text) {
  setLevel($("health"), how);
  setText($("health").lastElementChild, text);
  if (level !== how && level !== "") announce(`Health: ${text}`);
  level = how;
}

async function refused(error) {
  showKeyButton();
  tell("bad", error.status === 0 ? "Not reachable" : "Refused");
  const notice = $("notice");
  setText(notice, error.status === 0 ? `The server does not answer (${error.message}). This page tries again.` : `${error.message}.`);
  notice.hidden = false;
  if (error.wantsKey && !keyDeclined) {
    if (await askForKey(`${error.message}.`)) begin();
    else keyDeclined = true;  // the button asks again
  }
}

/** What the host itself says, which must not hold up the rest: a blocked host answers late. */
async function askHost(url) {
  hostAskedAt = Date.now();
  const began = performance.now();
  try {
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(HEALTH_MS) });
    const took = performance.now() - began;
    host = response.ok ? { level: took > 1000 ? "bad" : took > 150 ? "warn" : "good", text: `/health in ${number(took)} ms` }
      : response.status === 404 || response.status === 405 ? null : { level: "bad", text: `/health answered ${response.status}` };
  } catch {
    host = { level: "bad", text: `/health did not answer in ${HEALTH_MS / 1000} s` };
  }
}

// -- beginning -----------------------------------------------------------------------------------------------

async function start() {
  started = true;
  await loadHistory().catch(() => {});  // the figures begin with this page then
  governor.begin();
  events.connect({
    onNeedsKey: reason => { setText($("events-state"), `Not connected: ${reason}`); },
    onEvent: (name, data) => { if (name === "governor_update") governor.showStatus(data); },
  });
}

async function loadHistory() {
  history.load(await ask("history"));
}

/** Begin anew, because the key is another one. */
function begin() {
  started = false;
  keyDeclined = false;
  poll();
}

async function pollForEver() {
  for (;;) {
    if (!document.hidden) await poll();
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && started) loadHistory().catch(() => {});  // what happened meanwhile
});
$("clients-limit").addEventListener("change", () => showClients(events.id).catch(() => {}));

window.addEventListener("resize", hint);

prepareKey();
pollForEver();
