// The governor's status and commands.

import { ask, Problem } from "./api.js";
import { $, announce, make, number, setLevel, setText } from "./page.js";

const WAIT_MS = 30_000;
const DONE = { start: "Started", stop: "Stopped", set_mode: "Mode set", status: "Asked" };

export class Governor {
  #withKey;
  #there = false;

  /** `withKey(call)` makes a call, and again once a key was given, if it takes one. */
  constructor(withKey) {
    this.#withKey = withKey;
    for (const button of $("governor-buttons").children)
      button.addEventListener("click", () => this.#command(button.value, {}));
    $("mode-form").addEventListener("submit", event => {
      event.preventDefault();
      this.#command("set_mode", { mode: $("mode").value });
    });
  }

  /** Show the card if there is a governor, and ask it when it comes; where there is none, nothing is asked. */
  show(there) {
    $("governor").hidden = !there;
    if (there && !this.#there) this.#refresh();
    this.#there = there;
  }

  /** Ask again as soon as it is shown, because the key is another one. */
  begin() {
    this.#there = false;
  }

  /** Ask for the status, without asking for a key. */
  async #refresh() {
    try {
      this.showStatus((await send({ action: "status" })).result);
    } catch (error) {
      this.#refused(error);
    }
  }

  showStatus(status) {
    if (status === null || typeof status !== "object") return;
    $("governor-body").hidden = false;
    $("governor-state").hidden = true;
    $("governor-facts").replaceChildren(...Object.entries(status).slice(0, 40).flatMap(([name, value]) => [
      make("dt", {}, name.replaceAll("_", " ")), make("dd", {}, worded(value))]));
    this.#fitButtons(status.running);
    const mode = $("mode");
    if (document.activeElement !== mode && typeof status.mode === "string") mode.value = status.mode;
  }

  /** What runs can be stopped, what does not can be started; both if the governor does not say. */
  #fitButtons(running) {
    const [start, stop] = $("governor-buttons").children, focused = document.activeElement;
    start.disabled = running === true;
    stop.disabled = running === false;
    start.classList.toggle("primary", running !== true);
    stop.classList.toggle("primary", running === true);
    if (focused === start && start.disabled) stop.focus();
    if (focused === stop && stop.disabled) start.focus();
  }

  #refused(error) {
    const text = error.wantsKey ? "Asking and commanding the governor need the key." : `Not known: ${error.message}`;
    this.#fitButtons(null);
    $("governor-state").hidden = false;
    setText($("governor-state"), text);
    // With a key it could be commanded: the buttons ask for it.
    $("governor-body").hidden = !error.wantsKey;
  }

  async #command(action, more) {
    const result = $("governor-result");
    setLevel(result, "");
    setText(result, "…");
    try {
      // The same for a repetition with the key; another one for each click.
      const idempotencyKey = crypto.randomUUID?.() ?? String(Math.random()).slice(2);
      const answer = await this.#withKey(() => send({ action, ...more }, idempotencyKey));
      setLevel(result, "good");
      const given = answer.result;
      setText(result, given === false ? `${action}: the governor declined (false)` : DONE[action] ?? action);
      if (given === false) setLevel(result, "warn");
      if (action === "status") this.showStatus(given);
      else await this.#refresh();
    } catch (error) {
      setLevel(result, "bad");
      setText(result, `${action}: ${error.message}`);
    }
    announce(`Governor: ${result.textContent}`);
  }
}

/** Give a command and wait for its outcome. */
async function send(command, idempotencyKey) {
  const headers = idempotencyKey ? { "Idempotency-Key": idempotencyKey } : {};
  let answer = await ask("../governor/control", { body: command, headers });
  const ends = Date.now() + WAIT_MS;
  while (answer.status === "accepted" || answer.status === "running") {
    if (Date.now() > ends) throw new Problem(0, "late", "it is still being carried out");
    await new Promise(resolve => setTimeout(resolve, 250));
    answer = await ask(`../governor/control/${encodeURIComponent(answer.id)}`);
  }
  if (answer.status === "failed") throw new Problem(500, "governor_failed", answer.error ?? "the governor raised");
  return answer;
}

function worded(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : make("code", {}, JSON.stringify(value));
}
