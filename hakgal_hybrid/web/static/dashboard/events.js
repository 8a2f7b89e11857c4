// Events as they come: the newest first, a bounded number of them, rendered a few times a second however many come.

import { io } from "../client.js";
import { auth } from "./api.js";
import { $, announce, make, number, setText } from "./page.js";

/** How many events are kept, and how many of those that match are shown. */
const KEPT = 500, SHOWN = 100;
/** How much of an event is kept: a page left open for days must not grow. */
const MAX_TEXT = 20_000;
const RENDER_MS = 250;

export class LiveEvents {
  #socket = null;
  #kept = [];
  #fresh = [];
  #count = 0;
  #hidden = 0;
  #paused = false;
  #accepts = () => true;

  constructor() {
    $("events-filter").addEventListener("input", () => this.#filter($("events-filter").value));
    $("events-pause").addEventListener("click", () => this.#pause(!this.#paused));
    $("events-clear").addEventListener("click", () => this.#clear());
    setInterval(() => this.#render(), RENDER_MS);
  }

  get id() {
    return this.#socket?.id;
  }

  /** Connect, with the key if there is one; again, if there is another one. */
  connect({ onNeedsKey, onEvent }) {
    this.#socket?.disconnect();
    const socket = this.#socket = io({ auth: auth(), forceNew: true });
    const told = text => { if (socket === this.#socket) setText($("events-state"), text); };
    const cutOff = "This server's backplane is away: events of other processes do not come now.";
    const live = () => told(socket.io.live ? "" : cutOff);
    socket.on("connect", live);
    socket.on("hybrid_status", () => { if (socket.connected) live(); });
    socket.on("disconnect", reason => told(`Not connected (${reason}). ${socket.active ? "Trying again …" : ""}`));
    socket.on("connect_error", error => {
      told(`Not connected: ${error.message}. ${socket.active ? "Trying again …" : ""}`);
      if (!socket.active && /key/i.test(error.message)) onNeedsKey(error.message);
    });
    socket.on("gap", gap => this.#take("gap", [gap], true));
    socket.onAny((name, ...args) => {
      this.#take(name, args);
      onEvent(name, args[0]);
    });
  }

  #take(name, args, gap = false) {
    this.#count++;
    const item = { at: new Date(), name: String(name), text: textOf(args), gap };
    if (this.#paused) {
      this.#hidden++;
      return;
    }
    this.#kept.push(item);
    if (this.#kept.length > KEPT) this.#kept.shift();
    this.#fresh.push(item);
    if (this.#fresh.length > SHOWN) this.#fresh.shift();
  }

  #pause(paused) {
    this.#paused = paused;
    this.#hidden = paused ? 0 : this.#hidden;
    setText($("events-pause"), paused ? "Resume" : "Pause");
    $("events-pause").classList.toggle("primary", paused);
    announce(paused ? "Events are paused" : `Events go on; ${this.#hidden} were not kept`);
  }

  #clear() {
    this.#kept = [];
    this.#fresh = [];
    $("events").replaceChildren();
    announce("The list of events is empty");
  }

  #filter(text) {
    this.#accepts = matcher(text);
    this.#fresh = [];
    $("events").replaceChildren(...this.#kept.filter(item => this.#accepts(item.name)).slice(-SHOWN).reverse().map(line));
  }

  #render() {
    const list = $("events");
    const fresh = this.#fresh.filter(item => this.#accepts(item.name));
    this.#fresh = [];
    // Who reads in the list, by keyboard or by scrolling, is not pushed away.
    const before = list.scrollHeight, reading = list.scrollTop > 0;
    list.prepend(...fresh.reverse().map(line));
    while (list.children.length > SHOWN) list.lastElementChild.remove();
    if (reading) list.scrollTop += list.scrollHeight - before;
    setText($("events-count"), this.#paused ? `${number(this.#count)} received; paused, ${number(this.#hidden)} since then`
      : `${number(this.#count)} received, the newest ${number(list.children.length)} shown`);
  }
}

/** What a comma-separated list with `*` accepts, as `events=` of the stream does; an empty one accepts all. */
export function matcher(text) {
  const globs = text.split(",").map(part => part.trim()).filter(Boolean);
  if (!globs.length) return () => true;
  const patterns = globs.map(glob => new RegExp(`^${glob.split("*").map(part => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join(".*")}$`, "is"));
  return name => patterns.some(pattern => pattern.test(name));
}

function textOf(args) {
  const value = args.length === 1 ? args[0] : args;
  let text;
  try {
    text = JSON.stringify(args.length ? value : null, (_, item) => item instanceof ArrayBuffer ? `${item.byteLength} bytes` : item);
  } catch {
    text = String(value);
  }
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}… (${number(text.length)} characters)` : text;
}

function line({ at, name, text, gap }) {
  const details = make("details", {}, make("summary", {},
    make("time", { datetime: at.toISOString() }, `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`),
    make("span", { class: "name" }, name), make("span", { class: "preview" }, text.slice(0, 300))));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(make("pre", { tabindex: "0" }, pretty(text)));
  });
  return make("li", { class: gap ? "gap" : null }, details);
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;  // it was cut
  }
}
