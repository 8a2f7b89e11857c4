/** socket.io-client 4 over Server-Sent Events and POST: README.md. */

const RESERVED = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
const DEFAULTS = { reconnection: true, reconnectionAttempts: Infinity, reconnectionDelay: 1000,
  reconnectionDelayMax: 5000, randomizationFactor: 0.5, timeout: 20000 };
const OPTIONS = [...Object.keys(DEFAULTS), "ackTimeout", "auth", "autoConnect", "EventSource", "extraHeaders",
  "forceNew", "intervalMs", "multiplex", "path", "query", "shareStream", "withCredentials"];
const SPENT = ["unknown_event", "handler_failed", "bad_arguments", "bad_event_name", "bad_payload", "repeated_too_late",
  "not_authorized"];
const OWN_URL = undefined;  // the server that sends this file puts its URL here
const IN_FLIGHT = 4;  // of the six connections that a browser has

const failure = (message, more) => Object.assign(new Error(message), more);
const ignore = () => {};
const without = (list, item, at = list.indexOf(item)) => list.filter((_, i) => i !== at);
const aborted = signal => new Promise(done => signal.aborted ? done() : signal.addEventListener("abort", done));

// Event ids are "<life of the server>-<number>".
const lifeOf = id => id.split("-")[0];
const isAfter = (id, other) => lifeOf(id) !== lifeOf(other) || +id.split("-")[1] > +other.split("-")[1];

// -- values: binary ones are {"$binary": "<base64>"}; keys of that kind get one "$" more

function encode(value) {
  const isView = ArrayBuffer.isView(value);
  if (isView || value instanceof ArrayBuffer) {
    const bytes = isView ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value);
    return { $binary: btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join("")) };
  }
  const isBlob = globalThis.Blob && value instanceof Blob;
  if (isBlob || typeof value === "bigint") throw new TypeError(`${value} cannot be sent`);
  if (typeof value?.toJSON === "function") return encode(value.toJSON());
  if (Array.isArray(value)) return value.map(encode);
  if (!value || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(
    ([key, item]) => [key.replace(/^\$+binary$/, "$$$&"), encode(item)]));
}

function revive(_, value) {
  if (!value || typeof value !== "object" || Array.isArray(value)) return value;
  const entries = Object.entries(value);
  if (entries.length === 1 && entries[0][0] === "$binary") {
    return Uint8Array.from(atob(value.$binary), letter => letter.charCodeAt(0)).buffer;
  }
  return Object.fromEntries(entries.map(([key, item]) => [key.replace(/^\$(?=\$+binary$)/, ""), item]));
}

const decode = text => JSON.parse(text, text.includes('binary"') ? revive : undefined);

/** What a listener throws is reported, and stops nobody else. */
function notify(listeners, self, args) {
  for (const listener of listeners) {
    try {
      listener.apply(self, args);
    } catch (error) {
      setTimeout(() => { throw error; });
    }
  }
}

class Emitter {
  #listeners = new Map();

  on(event, listener) {
    this.#listeners.set(event, [...this.listeners(event), listener]);
    return this;
  }

  once(event, listener) {
    const once = (...args) => {
      this.off(event, once);
      listener.apply(this, args);
    };
    once.fn = listener;
    return this.on(event, once);
  }

  off(event, listener) {
    const listeners = this.listeners(event);
    if (event === undefined) this.#listeners.clear();
    else if (!listener) this.#listeners.delete(event);
    else this.#listeners.set(event, without(listeners, listeners.find(item => [item, item.fn].includes(listener))));
    return this;
  }

  listeners(event) {
    return this.#listeners.get(event) ?? [];
  }

  hasListeners(event) {
    return this.listeners(event).length > 0;
  }

  emitReserved(event, ...args) {
    notify(this.listeners(event), this, args);
    return this;
  }
}

const methods = Emitter.prototype;
methods.emit = methods.emitReserved;
methods.addEventListener = methods.on;
methods.removeListener = methods.removeAllListeners = methods.removeEventListener = methods.off;

/** Who a socket is to the server, and what it says: numbered, so that each event is run once, and in order. */
class Session {
  seen = false;
  #queue = new Set();
  #flying = 0;
  #next = 1;
  #spent = 0;
  #halted = false;   // a number was not taken: when the others have settled, the rest is numbered anew
  #closing = false;
  #over = false;
  #cut = new AbortController();

  constructor(socket, { sid, token, ticket, since, after }, key) {
    Object.assign(this, { socket, sid, token, ticket, since, after, key });
  }

  send(packet) {
    packet.number = 0;
    this.#queue.add(packet);
    this.#pump();
  }

  /** Send again what is under way: its connections may be dead. */
  renew() {
    this.#cut.abort();
    this.#cut = new AbortController();
  }

  close() {
    this.#closing = true;
    this.#pump();
  }

  /** Leave at once, even if the page goes away. */
  leave() {
    this.abandon();
    this.post("disconnect", {}, { keepalive: true }).catch(ignore);
  }

  /** Return what surely was not run. */
  abandon() {
    this.#over = true;
    this.#cut.abort();
    return [...this.#queue].filter(packet => !packet.number);
  }

  post(path, body, options) {
    const { sid, token, key, socket } = this;
    return socket.io._post(path, { sid, namespace: socket.nsp, ...body }, { token, key, ...options });
  }

  #pump() {
    for (const packet of this.#queue) {
      if (this.#over || this.#halted || this.#flying >= IN_FLIGHT) return;
      if (!packet.number) this.#deliver(packet);
    }
    if (this.#closing && !this.#over && !this.#queue.size) this.leave();
  }

  async #deliver(packet) {
    const { event, args } = packet, number = packet.number = this.#next++;
    this.#flying++;
    for (let tries = 1, delay; !this.#over; tries++) {
      const { signal } = this.#cut;
      const answer = await this.post("emit", { number, event, args }, { signal }).catch(() => ({ body: {} }));
      if (this.#over || !(delay = this.#judge(packet, answer, tries))) break;
      await new Promise(done => [setTimeout(done, delay), aborted(this.#cut.signal).then(done)]);
    }
    if (!--this.#flying && this.#halted && !this.#over) this.#goOn();
    this.#pump();
  }

  /** Return in how many ms to ask again, if the answer does not settle it. */
  #judge(packet, { status, body, wait }, tries) {
    const { code, detail, args, after, expected = 0 } = body;
    this.#spent = Math.max(this.#spent, expected - 1);
    if (status === 200 || SPENT.includes(code)) {
      this.#spent = Math.max(this.#spent, packet.number);
      if (status === 200) this.socket._await(after, () => packet.settle?.(null, args));
    } else if (code === "out_of_turn" || code === "bad_token" || (code === "gone" && tries === 1)) {
      this.#halted = code;
      return;
    } else if (code === "still_running") {
      return 200;
    } else if (!this.#closing && (!status || ((status === 429 || status >= 500) && tries < 20))) {
      return wait || Math.min(5000, 250 * 2 ** tries);
    } else {
      const error = failure(detail);
      this.#halted ||= true;
      console.warn(`hakgal-hybrid-client: an event was not taken: ${error.message}`);
      packet.settle?.(error);
    }
    this.#queue.delete(packet);
  }

  #goOn() {
    for (const packet of this.#queue) packet.number = 0;
    if (["bad_token", "gone"].includes(this.#halted)) return this.socket._lose();
    this.#next = this.#spent + 1;
    this.#halted = false;
  }
}

class Socket extends Emitter {
  connected = false;
  recovered = false;
  active = false;
  id;
  sendBuffer = [];
  flags = {};
  _session;
  #asking;
  #held;         // what came while we asked who we are
  #refusal;
  #lost;
  #acks = new Set();
  #awaiting = [];
  #retry;

  constructor(io, nsp, opts = {}) {
    super();
    Object.assign(this, { io, nsp, auth: opts.auth, _opts: opts });
  }

  get disconnected() {
    return !this.connected;
  }

  get volatile() {
    this.flags.volatile = true;
    return this;
  }

  connect() {
    if (this.connected) return this;
    this.active = true;
    if (!this.io._reconnecting) this.io.open();
    this._join();
    return this;
  }

  disconnect() {
    this._session?.close();
    return this.#end("io client disconnect");
  }

  compress() {
    return this;
  }

  timeout(ms) {
    this.flags.timeout = ms;
    return this;
  }

  send(...args) {
    return this.emit("message", ...args);
  }

  emit(event, ...args) {
    if (RESERVED.includes(event)) throw new Error(`"${event}" is a reserved event name`);
    const { volatile, timeout = this._opts.ackTimeout } = this.flags;
    this.flags = {};
    const ack = typeof args.at(-1) === "function" && args.pop();
    // Encoded now, because later the values may have changed.
    const packet = { event: String(event), args: encode(args), data: [event, ...args] };
    if (ack) this.#expect(packet, ack, timeout);
    if (this.connected) this.#send(packet);
    else if (!volatile) this.sendBuffer.push(packet);
    return this;
  }

  emitWithAck(event, ...args) {
    return new Promise((resolve, reject) => {
      const ack = (error, value) => error ? reject(error) : resolve(value);
      ack.withError = true;
      this.emit(event, ...args, ack);
    });
  }

  #send(packet) {
    if (packet.data) notify(this.listenersAnyOutgoing(), this, packet.data);
    packet.data = undefined;
    this._session.send(packet);
  }

  #expect(packet, ack, timeout) {
    const withError = ack.withError || timeout !== undefined;
    packet.settle = (error, args = []) => {
      clearTimeout(timer);
      if (!this.#acks.delete(packet)) return;
      if (withError || !error) notify([ack], this, withError ? [error, ...args] : args);
    };
    const timer = timeout !== undefined && setTimeout(() => {
      this.sendBuffer = without(this.sendBuffer, packet);
      packet.settle(new Error("operation has timed out"));
    }, timeout);
    this.#acks.add(packet);
  }

  _failAcks() {
    this.#awaiting = [];
    for (const packet of this.#acks) {
      if (!this.sendBuffer.includes(packet)) packet.settle(new Error("socket has been disconnected"));
    }
  }

  /** The stream is open: come, or come back. */
  async _join() {
    const { link } = this.io;
    if (this.io._readyState !== "open") return;
    if (this.connected && !link.carries(this._session)) this._leave("transport close");
    if (this.connected || this.#asking) return;
    try {
      if (!this.#refusal && !(link.sids && link.carries(this._session))) await this._ask(link.ticket);
    } catch (error) {
      return this.#tryLater(error);
    }
    if (this.connected || this.#asking) return;
    if (this.#refusal) return this.#deny();
    if (this.io._readyState !== "open" || !link.carries(this._session)) return;
    this.#held ??= [];
    link.place(this._session.since);
    this._await(this._session.after, () => this.#arrive());
  }

  /** Call when all that the server emitted before it answered has been delivered. */
  _await(after, call) {
    this.#awaiting.push({ after, call });
    this._settle();
  }

  _settle() {
    const due = this.#awaiting.filter(({ after }) => !after || this.io.link.hasSeen(after));
    this.#awaiting = this.#awaiting.filter(item => !due.includes(item));
    for (const { call } of due) call();
  }

  async _ask(stream, anywhere) {
    const asking = this.#asking = {}, { io, nsp: namespace } = this;
    this.#held ??= [];
    try {
      const auth = typeof this.auth === "function" ? await new Promise(done => this.auth(done)) : this.auth;
      const { sid, token } = this._session ?? {}, key = auth?.apiKey;
      const signal = AbortSignal.timeout(io._timeout || 20000);
      const body = { namespace, auth: encode(auth) ?? null, sid, token, stream, anywhere };
      const answer = await io._post("connect?" + new URLSearchParams(io.opts.query), body, { key, signal });
      return this.#answered(answer, key, asking === this.#asking);
    } finally {
      if (asking === this.#asking) this.#asking = undefined;
    }
  }

  #answered({ status, body, wait }, key, wanted) {
    const { code, detail, message, data } = body;
    if (!body.sid && body.ticket) return wanted && this.io.link.follow(body.ticket);
    if (!body.sid) {
      // Without a code it was not our server: a proxy, say, while that is not up.
      if (status >= 500 || ["bad_ticket", "gone"].includes(code) || [408, 429, code || 404, 200].includes(status)) {
        throw failure(detail, { wait });
      }
      const error = code === "connection_refused" ? [message, data] : [detail, body];
      if (wanted) this.#refusal = failure(error[0], { data: error[1] });
      return false;
    }
    const session = body.resumed && this._session || new Session(this, body, key), isNew = session !== this._session;
    if (!wanted) return isNew && session.leave();
    if (isNew) this.#renounce();
    if (this.io.link.admits(session)) return this._session = session;
    session.leave();
    throw new Error("the stream has changed");
  }

  #renounce() {
    if (!this._session) return;
    if (this._session.seen) this.#lost ??= this._session.since;
    this.sendBuffer.unshift(...this._session.abandon());
    this._session = undefined;
    this._failAcks();
  }

  #arrive() {
    if (this.connected) return;
    const session = this._session, { after } = session, held = this.#held, lost = this.#lost;
    this.id = session.sid;
    this.recovered = session.seen;
    this.connected = session.seen = true;
    this.#held = this.#lost = undefined;
    session.renew();
    for (const envelope of held) if (after && envelope.id && !isAfter(envelope.id, after)) this._receive(envelope);
    for (const packet of this.sendBuffer.splice(0)) this.#send(packet);
    this.io.link.tell();
    this.emitReserved("connect");
    if (lost) {
      const reason = lifeOf(lost) === lifeOf(session.since) ? "lapsed" : "restarted";
      this.emitReserved("gap", { missed: null, reason, resume_from: session.since });
    }
    for (const envelope of held) this._receive(envelope);
  }

  #tryLater(error) {
    this.emitReserved("connect_error", error);
    if (!this.active || !this.io._reconnection) return;
    this.#retry = setTimeout(() => this._join(), Math.max(error.wait ?? 0, this.io._delay(1)));
  }

  #deny() {
    const error = this.#refusal;
    this.#refusal = undefined;
    this.#renounce();
    this.#destroy();
    this.emitReserved("connect_error", error);
  }

  _leave(reason, details) {
    if (!this.connected) return;
    this.connected = false;
    this.id = undefined;
    this.emitReserved("disconnect", reason, details);
  }

  _lose() {
    this.#renounce();
    this._leave("transport close");
    if (this.active) this._join();
  }

  _suspend() {
    const session = this._session;
    this.#renounce();
    session?.leave();
  }

  #end(reason) {
    this._session = undefined;
    this.#destroy();
    this._leave(reason);
    this._failAcks();
    return this;
  }

  #destroy() {
    this.active = false;
    this.#asking = this.#held = undefined;
    clearTimeout(this.#retry);
    if (!this.io._active.length) this.io._close();
  }

  _receive(envelope) {
    const { event, args, id, to, namespace, ack } = envelope, session = this._session;
    if (this.#held) return this.#held.push(envelope);
    if (!this.connected || (to && !to.includes(session.sid)) || (id && !isAfter(id, session.since))) return;
    session.since = id ?? session.since;
    if (event === "hybrid_gap") {
      this.emitReserved("gap", ...args);
    } else if (event === "hybrid_disconnect" && args[0].sid === session.sid) {
      session.abandon();
      this.#end("io server disconnect");
    } else if (namespace === this.nsp && !event.startsWith("hybrid_")) {
      const all = ack ? [...args, this.#callback(ack)] : args;
      notify(this.listenersAny(), this, [event, ...all]);
      this.emitReserved(event, ...all);
    }
  }

  #callback(ack) {
    return (...args) => {
      if (ack) this._session?.post("ack", { ack, args: encode(args) }).catch(ignore);
      ack = undefined;
    };
  }
}

Socket.prototype.open = Socket.prototype.connect;
Socket.prototype.close = Socket.prototype.disconnect;
for (const kind of ["Any", "AnyOutgoing"]) {
  const changes = change => function (listener) {
    this["_" + kind] = change(this["_" + kind] ?? [], listener);
    return this;
  };
  Object.assign(Socket.prototype, {
    ["on" + kind]: changes((list, item) => [...list, item]),
    ["prepend" + kind]: changes((list, item) => [item, ...list]),
    ["off" + kind]: changes((list, item) => item ? without(list, item) : []),
    ["listeners" + kind]() {
      return this["_" + kind] ?? [];
    },
  });
}

const managers = new Set();

class Manager extends Emitter {
  nsps = {};
  engine = Object.assign(new Emitter(), { transport: { name: "sse" } });
  _readyState = "closed";
  _reconnecting = false;
  #attempts = 0;
  #skip = false;
  #done;
  #timer;
  #waiting;

  constructor(uri, opts) {
    super();
    if (uri && typeof uri === "object") [uri, opts] = [undefined, uri];
    const { base, query } = locate(uri, opts);
    this.uri = base;
    this.opts = { query, ...opts };
    this._autoConnect = this.opts.autoConnect !== false;
    for (const [name, usual] of Object.entries(DEFAULTS)) {
      const given = this.opts[name];
      this["_" + name] = given === 0 && name !== "randomizationFactor" ? usual : given ?? usual;
    }
    this.link = new Link(this);
    hint(this.opts);
  }

  socket(nsp, opts) {
    const socket = this.nsps[nsp] ??= new Socket(this, nsp, opts);
    if (this._autoConnect && !socket.active) socket.connect();
    return socket;
  }

  /** The first socket's client will bring the stream. */
  open(done) {
    if (this._readyState !== "closed" || !this._active.length) return this;
    this._readyState = "opening";
    this.#skip = false;
    this.#done = done;
    if (this._timeout) this.#timer = setTimeout(() => this.#failed(new Error("timeout")), this._timeout);
    managers.add(this);
    this.link.open();
    return this;
  }

  /** False while the server gets no events of other processes. */
  get live() {
    return this.link.live;
  }

  get _active() {
    return Object.values(this.nsps).filter(socket => socket.active);
  }

  async _post(path, body, { key, token, ...options }) {
    const { extraHeaders, withCredentials } = this.opts, headers = new Headers(extraHeaders);
    headers.set("Content-Type", "application/json");
    if (key && !headers.has("X-API-Key")) headers.set("X-API-Key", key);
    if (token) headers.set("X-Hybrid-Token", token);
    const response = await fetch(`${this.uri}/api/events/${path}`, {
      method: "POST", headers, body: JSON.stringify(body), credentials: withCredentials ? "include" : "same-origin",
      ...options });
    const text = await response.text(), wait = 1000 * response.headers.get("Retry-After") || 0;
    const { status } = response, detail = `${status < 500 ? "refused" : "down"}: ${status} ${text.slice(0, 200)}`;
    return { status, body: { detail, ...text[0] === "{" && decode(text) }, wait };
  }

  _delay(attempts) {
    const jitter = 1 + this._randomizationFactor * (2 * Math.random() - 1);
    return Math.min(this._reconnectionDelay * 2 ** attempts * jitter, this._reconnectionDelayMax);
  }

  _up() {
    if (this._readyState === "closed") return this._hurry();
    if (this._readyState === "opening") {
      clearTimeout(this.#timer);
      this._readyState = "open";
      this.emitReserved("open");
      this.#done?.();
    }
    for (const socket of this._active) socket._join();
  }

  _down(reason, error) {
    if (this._readyState === "opening") this.#failed(error);
    else if (this._readyState === "open") this.#closed(reason, error);
  }

  #failed(error) {
    clearTimeout(this.#timer);
    this.link.drop();
    this._readyState = "closed";
    for (const socket of this._active) socket.emitReserved("connect_error", error);
    this.emitReserved("error", error);
    if (this.#done) this.#done(error);
    else this.#reconnect(error.wait);
    this.#rest();
  }

  #closed(reason, details) {
    clearTimeout(this.#timer);
    this.#attempts = 0;
    this._readyState = "closed";
    for (const socket of this._active) socket._leave(reason, details);
    this.emitReserved("close", reason, details);
    this.#reconnect(details?.wait);
    this.#rest();
  }

  #reconnect(wait = 0) {
    if (this._reconnecting || this.#skip || !this._reconnection) return;
    if (this.#attempts >= this._reconnectionAttempts) {
      this.#attempts = 0;
      this.emitReserved("reconnect_failed");
    } else {
      this._reconnecting = true;
      this.#waiting = setTimeout(() => this._hurry(), Math.max(wait, this._delay(this.#attempts++)));
    }
  }

  _hurry() {
    if (!this.#waiting) return;
    this.#waiting = clearTimeout(this.#waiting);
    this.emitReserved("reconnect_attempt", this.#attempts);
    if (this.#skip) return;
    this.open(error => {
      const attempt = this.#attempts;
      this._reconnecting = false;
      this.#attempts = error ? attempt : 0;
      if (!error) return this.emitReserved("reconnect", attempt);
      this.#reconnect(error.wait);
      this.emitReserved("reconnect_error", error);
    });
  }

  #rest() {
    if (this._readyState !== "closed" || this._reconnecting) return;
    managers.delete(this);
    this.link.close();
    for (const socket of Object.values(this.nsps)) socket._failAcks();
  }

  _close() {
    this.#skip = true;
    this._reconnecting = false;
    this.#waiting = clearTimeout(this.#waiting);
    if (managers.has(this)) this.#closed("forced close");
  }

  _suspend(persisted) {
    for (const socket of this._active) socket._suspend();
    this.link.close();
    if (persisted && this._readyState !== "closed") this.#closed("transport close");
  }
}

Manager.prototype.connect = Manager.prototype.open;
Manager.prototype.disconnect = Manager.prototype._close;
for (const name of Object.keys(DEFAULTS)) {
  Manager.prototype[name] = function (value) {
    if (value === undefined) return this["_" + name];
    this["_" + name] = value;
    return this;
  };
}

/** The way to the stream, which this tab opens itself (`leading`) or hears of from the one that does. */
class Link {
  up = false;
  leading = false;
  live = true;
  ticket;
  sids;            // whom the stream carries, as far as we know
  #position;       // id of the last event seen
  #early = [];     // what came before that was known
  #origin;         // name of the source that brought it
  #attempt;
  #source;
  #timer;

  constructor(manager) {
    this.manager = manager;
  }

  open() {
    if (!this.tabs) this.tabs = new Tabs(this);
    else if (this.leading) this.#begin();
    else if (this.up) this.manager._up();
  }

  close() {
    this.drop();
    clearTimeout(this.#timer);
    this.tabs?.leave();
    this.tabs = undefined;
    this.leading = this.up = false;
    this.#position = undefined;
  }

  carries(session) {
    return session?.ticket === this.ticket && this.sids?.includes(session.sid) !== false;
  }

  /** Does a new client ride on our stream, or bring the one that we shall open? */
  admits({ ticket, since, sid }) {
    if (this.leading && !this.up) {
      if (ticket !== this.ticket) this.#change(ticket);
      this.#position ??= since;
    }
    this.sids?.push(sid);
    return ticket === this.ticket;
  }

  /** Our stream has another ticket now: there are several processes, and it is, or will be, at another one. */
  follow(ticket) {
    if (ticket !== this.ticket) this.#change(ticket);
    return true;
  }

  hasSeen(id) {
    return !!this.#position && !isAfter(id, this.#position);
  }

  place(since) {
    this.#position ??= since;
    for (const relay of this.#early.splice(0)) this.#take(relay);
  }

  refresh() {
    if (this.leading && this.up) this.#openStream();
    else this.manager._hurry();
  }

  offline() {
    if (this.leading && this.up) this.#fall("transport close", new Error("network connection lost"));
  }

  freeze() {
    if (this.leading && this.tabs.shared) this.deposed();
  }

  lead() {
    this.leading = true;
    clearTimeout(this.#timer);
    this.#announce();
    if (this.manager._readyState === "open") this.#openStream();
    else if (this.manager._readyState === "opening") this.#begin();
  }

  deposed() {
    this.leading = false;
    this.drop();
    this.tabs.queue();
  }

  /** Connect one socket, which brings the ticket, then open the stream. */
  async #begin() {
    const attempt = this.#attempt = {};
    for (const socket of this.manager._active) {
      try {
        const found = await socket._ask(this.ticket ?? this.tabs.ticket, true);
        if (attempt !== this.#attempt) return socket._join();
        if (found) return this.#openStream();
      } catch (error) {
        return attempt === this.#attempt && this.#fall("transport error", error);
      }
    }
    this.manager._up();
  }

  #openStream(from = this.#position) {
    const { opts, uri, _timeout } = this.manager, EventSource = opts.EventSource ?? globalThis.EventSource;
    if (!EventSource) throw new Error("no EventSource: give one as an option");
    const query = new URLSearchParams({ ticket: this.ticket, envelope: 1, snapshot: "gap", anywhere: 1 });
    if (opts.intervalMs !== undefined) query.set("interval_ms", opts.intervalMs);
    if (from) query.set("last_event_id", from);
    this.drop();
    const stream = new EventSource(`${uri}/api/events/stream?${query}`, { withCredentials: !!opts.withCredentials });
    const source = this.#source = { stream, name: Math.random(), at: from };
    stream.onmessage = ({ data }) => source === this.#source && this.#receive(data, decode(data));
    stream.onerror = () => source === this.#source && this.#fall("transport close");
    this.#allow(_timeout || 20000);
  }

  drop() {
    clearInterval(this.#source?.timer);
    this.#source?.stream.close();
    this.#source = this.#attempt = undefined;
  }

  #allow(limit) {
    const source = this.#source;
    clearInterval(source.timer);
    const timer = setInterval(() => this.#check(), Math.min(limit / 5, 5000));
    Object.assign(source, { limit, timer, heard: Date.now() });
  }

  /** By the clock, because timers know nothing of the machine's sleep. */
  #check() {
    if (Date.now() - this.#source?.heard > this.#source?.limit) this.#fall("ping timeout");
  }

  #receive(text, envelope) {
    const { event, id, data } = envelope, source = this.#source;
    source.heard = Date.now();
    if (event === "hybrid_open") return this.#opened(data);
    if (event === "hybrid_status") return this.#announce(this.#status(data.live));
    if (event === "hybrid_bye" || event === "hybrid_busy") {
      return this.#fall("transport close", failure(data.detail ?? "the server stops", { wait: data.retry_ms }));
    }
    const relay = { kind: "event", ticket: this.ticket, name: source.name, after: source.at, id, text };
    source.at = id ?? source.at;
    this.tabs.post(relay);
    this.#take(relay, envelope);
  }

  #opened({ sids, ticket, heartbeat_s, live }) {
    if (ticket) this.follow(ticket);
    this.#allow(2500 * heartbeat_s);
    this.up = true;
    this.sids = sids;
    this.#status(live);
    this.#announce(sids);
    this.manager._up();
  }

  #announce(sids) {
    this.tabs.post({ kind: this.up ? "up" : "pong", ticket: this.ticket, sids, live: this.live });
  }

  /** Whether the server gets events of other processes; without a backplane it says nothing of it. */
  #status(live = true) {
    if (live === this.live) return;
    this.live = live;
    for (const socket of this.manager._active) socket.emitReserved("hybrid_status", { live });
  }

  /** The stream is lost, unless another tab has taken it over. */
  async #fall(reason, error = new Error(reason)) {
    const { tabs } = this;
    this.drop();
    if (!await tabs.leads() || tabs !== this.tabs || this.#source || this.#attempt) return;
    this.up = false;
    tabs.post({ kind: "down", reason, message: error.message, wait: error.wait });
    this.manager._down(reason, error);
  }

  heard(news) {
    const { kind, ticket, sids, reason, message, wait } = news, isOurs = ticket === this.ticket;
    if (kind === "mine") return this.tabs.know(news);
    if (kind === "rewind") return news.name === this.#source?.name && this.#openStream(news.after);
    if (kind === "hello") this.tell();
    if (kind === "hello" || kind === "probe") {
      this.#check();
      return this.leading && this.#announce();
    }
    if (!this.leading) {
      this.listen();
      if (kind === "down") {
        this.up = false;
        this.sids = undefined;
        this.manager._down(reason, failure(message, { wait }));
      } else if (kind === "up") {
        if (!isOurs) this.#change(ticket);
        this.up = true;
        this.sids = sids ?? this.sids;
        this.#status(news.live);
        this.manager._up();
      } else if (kind === "event" && !(this.up && isOurs)) {
        this.tabs.post({ kind: "probe" });
      }
    }
    // Even if we lead: the frozen do not know.
    if (kind === "event" && isOurs) this.#take(news);
  }

  #change(ticket) {
    this.ticket = ticket;
    this.#position = this.sids = undefined;
    this.#early = [];
  }

  /** A leader that stays silent even when it is asked is deposed. */
  listen() {
    clearTimeout(this.#timer);
    const patience = 4000 + 1000 * Math.random();
    this.#timer = setTimeout(() => {
      this.tabs.post({ kind: "probe" });
      this.#timer = setTimeout(() => this.tabs.queue(true), patience);
    }, patience);
  }

  tell() {
    const sessions = this.manager._active.map(socket => socket._session).filter(Boolean);
    const ids = sessions.map(({ sid, token }) => [sid, token]);
    this.tabs.post({ kind: "mine", ticket: this.ticket, ids, others: [...this.tabs.others] });
  }

  /** Take every event once. If we have not seen what came before it, the stream must begin again where we are. */
  #take(relay, envelope = decode(relay.text)) {
    if (this.manager._readyState !== "open") return;
    const { id, after, name } = relay, { event } = envelope, position = this.#position;
    if (position === undefined) return this.#early.push(relay);
    if (after && isAfter(after, position)) {
      const wish = { kind: "rewind", name, after: position };
      this.tabs.post(wish);
      return this.heard(wish);
    }
    const isNew = id && isAfter(id, position);
    if (isNew) [this.#position, this.#origin] = [id, name];
    // A snapshot has no ids: it is new if the gap before it was.
    const isKnown = id ? !isNew : name !== this.#origin;
    if (event === "hybrid_heartbeat") this.manager.emitReserved("ping");
    else if (isKnown && event !== "hybrid_disconnect") return;
    for (const socket of this.manager._active) {
      socket._receive(envelope);
      socket._settle();
    }
  }
}

/** The tabs that want a stream: one holds the lock for it, and each one of its own, which tells when it has gone. */
class Tabs {
  id = Math.random();
  ticket;                 // of a stream that somebody rides on
  others = new Map();     // their clients, to be ended if they crash
  #gone = new AbortController();
  #claim;
  #channel;

  constructor(link) {
    const { opts, uri } = link.manager;
    this.link = link;
    this.name = `hakgal-hybrid ${uri} ${!!opts.withCredentials}`;
    this.shared = opts.shareStream !== false && globalThis.document && navigator.locks && globalThis.BroadcastChannel;
    this.#join().catch(() => this.shared = false).then(() => this.shared || this.#gone.signal.aborted || link.lead());
  }

  async #join() {
    if (!this.shared) return;
    await new Promise((granted, refused) => {
      navigator.locks.request(this.#lockOf(this.id), () => {
        granted();
        return aborted(this.#gone.signal);
      }).catch(refused);
    });
    if (this.#gone.signal.aborted) return;
    this.#channel = new BroadcastChannel(this.name);
    this.#channel.onmessage = ({ data }) => this.link.heard(data);
    this.queue();
  }

  #lockOf(tab) {
    return `${this.name} ${tab}`;
  }

  post(message) {
    this.#channel?.postMessage({ from: this.id, ...message });
  }

  queue(steal = false) {
    this.post({ kind: "hello" });
    this.link.listen();
    this.#claim?.abort();
    const { signal } = this.#claim = new AbortController();
    let held = false;
    navigator.locks.request(this.name, steal ? { steal } : { signal }, () => {
      if (signal.aborted) return;
      held = true;
      this.link.lead();
      return aborted(signal);
    }).catch(() => held && !signal.aborted && this.link.deposed());
  }

  async leads() {
    if (!this.shared) return true;
    const { held } = await navigator.locks.query();
    const holder = name => held.find(lock => lock.name === name)?.clientId;
    return holder(this.name) === holder(this.#lockOf(this.id));
  }

  know({ from: tab, ids, ticket, others = [] }) {
    this.ticket = ticket ?? this.ticket;
    // Of one that hangs only others can tell.
    for (const [other, ids] of others) if (other !== this.id && !this.others.has(other)) this.know({ from: other, ids });
    const isKnown = this.others.has(tab);
    if (isKnown || ids.length) this.others.set(tab, ids);
    if (isKnown || !ids.length) return;
    navigator.locks.request(this.#lockOf(tab), { signal: this.#gone.signal }, () => this.#mourn(tab)).catch(ignore);
  }

  /** A tab has gone, and perhaps has not ended its clients. If we fail, the next one gets the lock. */
  async #mourn(tab) {
    const ids = this.others.get(tab), { manager } = this.link;
    this.others.delete(tab);
    const key = manager._active[0]?._session?.key;
    for (const [sid, token] of ids) await manager._post("disconnect", { sid }, { token, key });
    if (ids.length) this.post({ kind: "mine", from: tab, ids: [] });
  }

  leave() {
    this.post({ kind: "mine", ids: [] });
    this.#gone.abort();
    this.#claim?.abort();
    this.#channel?.close();
  }
}

for (const [event, react] of Object.entries({
  pagehide: (manager, { persisted }) => manager._suspend(persisted),
  pageshow: manager => manager._hurry(),
  online: manager => manager.link.refresh(),
  offline: manager => manager.link.offline(),
  freeze: manager => manager.link.freeze(),
})) globalThis.addEventListener?.(event, details => managers.forEach(manager => react(manager, details)), true);

/** Where the server's URLs begin: as the path says (Socket.IO's own part of it left out), or as this file was sent. */
function prefixOf(origin, path) {
  if (path) return `/${path}`.replace(/\/+$|^\/+(?=\/)/g, "").replace(/\/socket\.io$/, "");
  const [, home = ""] = /^(.*)\/api\/hybrid\/client(?:\.classic)?\.js/.exec(OWN_URL) ?? [];
  return home.startsWith(origin + "/") ? home.slice(origin.length) : "";
}

function locate(uri, { path } = {}) {
  const { location } = globalThis, http = String(uri || "/").replace(/^ws(?=s?:)/, "http");
  const full = http.replace(/^(?!\/|https?:)/, `${location?.protocol ?? "https:"}//`);
  const { origin, pathname, searchParams } = new URL(full, location?.href ?? "http:localhost");
  return { base: origin + prefixOf(origin, path), nsp: decodeURI(pathname), query: Object.fromEntries(searchParams) };
}

let hinted = false;

function hint(opts) {
  const ignored = Object.keys(opts).filter(name => !OPTIONS.includes(name));
  if (hinted || !ignored.length) return;
  hinted = true;
  console.info(`hakgal-hybrid-client ignores the options ${ignored.join(", ")}`);
}

const cache = {};

function io(uri, opts = {}) {
  if (uri && typeof uri === "object") [uri, opts] = [undefined, uri];
  const { base, nsp } = locate(uri, opts), known = cache[base];
  const isNew = opts.forceNew || opts.multiplex === false || (known && nsp in known.nsps);
  const manager = isNew ? new Manager(uri, opts) : cache[base] ??= new Manager(uri, opts);
  return manager.socket(nsp, opts);
}

Object.assign(io, { io, connect: io, Manager, Socket });

export { io, io as connect, Manager, Socket, io as default };
