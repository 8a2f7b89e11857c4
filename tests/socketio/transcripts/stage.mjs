/**
 * What scenarios are made of: clients that note what they see, the server's journal, and steps. At the end of a step
 * everything that was under way has arrived, and the step's part of the transcript is written: so it does not depend
 * on how fast whom something reaches.
 */

const DEADLINE = 10_000;
const order = (one = "", two = "") => one < two ? -1 : +(one > two);

export class Stage {
  clients = [];
  #http = [];
  #jars = {};
  #journal = [];     // what the server wrote down in this step
  #read = 0;
  #barriers = 0;
  #names = new Map();
  #waiting = new Set();

  /** `options` are those that the transport needs; `restart` ends the server the hard way and starts another. */
  constructor(io, base, { options, write, restart }) {
    Object.assign(this, { io, base, options, write, restart });
  }

  /** A browser of its own; with `beside`, another namespace of the same page. */
  client(name, { nsp = "/", beside, ...options } = {}) {
    const opts = { forceNew: true, ...this.options, ...options };
    const socket = beside ? beside.socket.io.socket(nsp, options) : this.io(this.base + nsp, opts);
    const client = new Client(this, name, socket);
    this.clients.push(client);
    return client;
  }

  /** A client that has connected. */
  async join(name, options) {
    const client = this.client(name, options);
    await client.connected();
    return client;
  }

  /** Do something, and see what comes of it. */
  async step(title, act) {
    try {
      await act();
      await this.#settle();
    } catch (error) {
      error.message = `in step "${title}": ${error.message}`;
      this.#flush(title);
      throw error;
    }
    this.#flush(title);
  }

  async until(predicate, what) {
    if (predicate()) return;
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), DEADLINE);
      this.#waiting.add({ predicate, resolve, timer });
    });
  }

  changed() {
    for (const waiting of this.#waiting) {
      if (!waiting.predicate()) continue;
      this.#waiting.delete(waiting);
      clearTimeout(waiting.timer);
      waiting.resolve();
    }
  }

  /** Wait until the server has written down something so many times in this step. */
  async server(what, times = 1) {
    const ends = Date.now() + DEADLINE;
    while (this.#journal.filter(entry => entry.server === what).length < times) {
      if (Date.now() > ends) throw new Error(`the server did not write down ${what}`);
      await this.#pull("&wait=1");
    }
  }

  /** Ask for a page as a browser with cookies of its own would. */
  async get(path, visitor = "nobody") {
    const response = await fetch(this.base + path, { headers: this.cookies(visitor) });
    const set = response.headers.getSetCookie().map(cookie => cookie.split(";")[0]);
    if (set.length) this.#jars[visitor] = set.join("; ");
    this.#http.push({ visitor, path, status: response.status, body: await response.json() });
  }

  /** The headers that make a client the same visitor. */
  cookies(visitor) {
    return this.#jars[visitor] ? { Cookie: this.#jars[visitor] } : {};
  }

  /** The server is another one, whose journal begins anew. */
  forget() {
    this.#read = 0;
  }

  async #pull(query = "") {
    const response = await fetch(`${this.base}/_journal?since=${this.#read}${query}`);
    const entries = await response.json();
    this.#read += entries.length;
    this.#journal.push(...entries);
  }

  async #settle() {
    const present = this.clients.filter(client => client.socket.connected), number = ++this.#barriers;
    const namespaces = [...new Set(present.map(client => client.socket.nsp))];
    await fetch(`${this.base}/_barrier`, { method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ number, namespaces }) });
    const missing = () => present.filter(({ socket, barrier }) => socket.connected && barrier < number);
    await this.until(() => !missing().length, `everything to reach ${missing().map(client => client.name)}`);
    await this.#pull();
  }

  #flush(title) {
    const lines = [{ step: title }, ...this.#http.splice(0)];
    for (const client of this.clients) lines.push(...client.lines.splice(0), ...client.found.splice(0));
    // Handlers of one page's namespaces run side by side.
    lines.push(...this.#journal.splice(0).sort((one, two) => order(one.namespace, two.namespace)));
    for (const { id, sid } of lines) if (id ?? sid) this.#name(id ?? sid);
    for (const line of lines) {
      let text = JSON.stringify(line);
      for (const [sid, name] of this.#names) text = text.replaceAll(sid, name);
      this.write(text);
    }
  }

  #name(sid) {
    if (!this.#names.has(sid)) this.#names.set(sid, `<sid ${this.#names.size + 1}>`);
  }
}

class Client {
  lines = [];
  found = [];        // what the scenario finds out, at whatever moment
  barrier = 0;

  constructor(stage, name, socket) {
    Object.assign(this, { stage, name, socket });
    socket.on("connect", () => this.#note({ connect: true, id: socket.id, ...this.#state() }));
    socket.on("disconnect", reason => this.#note({ disconnect: reason, hasId: !!socket.id, ...this.#state() }));
    socket.on("connect_error", error => this.#note({
      connect_error: error.message, data: shown(error.data), isError: error instanceof Error, ...this.#state() }));
    socket.onAny((event, ...args) => event === "_barrier" ? this.#pass(args[0]) : this.#note({ event, args }));
  }

  #state() {
    const { connected, disconnected, active } = this.socket;
    return { connected, disconnected, active };
  }

  #note(line) {
    this.lines.push({ client: this.name, ...shown(line) });
    this.stage.changed();
  }

  #pass(number) {
    this.barrier = number;
    this.stage.changed();
  }

  /** Write down what the scenario itself finds out. */
  finds(what, value) {
    this.found.push({ client: this.name, finds: what, value: shown(value) });
  }

  /** Emit, and wait for the acknowledgement. */
  async ask(event, ...args) {
    let answered = false;
    this.socket.emit(event, ...args, (...answer) => {
      answered = true;
      this.#note({ ack: event, args: answer });
    });
    await this.stage.until(() => answered, `${this.name}'s ${event} to be acknowledged`);
  }

  /** Wait until an event has come so many times in this step. */
  async got(event, times = 1) {
    await this.stage.until(() => this.lines.filter(line => line.event === event).length >= times,
      `${event} to reach ${this.name}`);
  }

  async connected() {
    await this.#has("connect");
  }

  async disconnected() {
    await this.#has("disconnect");
  }

  async refused() {
    await this.#has("connect_error");
  }

  async #has(key) {
    await this.stage.until(() => this.lines.some(line => key in line), `${this.name}'s ${key}`);
  }

  /** Leave, and wait until the server knows. */
  async leave() {
    this.socket.disconnect();
    await this.stage.server("disconnect");
  }
}

/** What stands for a value in a transcript. */
export function shown(value) {
  if (value === undefined) return "<undefined>";
  if (typeof value === "string" && value.length > 1000) return { text: value.slice(0, 10), length: value.length };
  if (typeof value === "function") return "<acknowledge>";
  if (value instanceof Error) return { error: value.message };
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) {
    return { bytes: shown(Buffer.from(value).toString("hex")) };
  }
  if (Array.isArray(value)) return value.map(shown);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, shown(item)]));
}
