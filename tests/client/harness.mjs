/**
 * What the tests are made of: real servers (`client.app`), a proxy that misbehaves on demand, and browsers whose tabs
 * are contexts of Node's `vm`, so that they can crash and hang.
 *
 * PYTHON is the interpreter to run servers with; CLIENT_MODULES a folder with this folder's npm packages in it.
 */

import { execFileSync, spawn } from "node:child_process";
import { setMaxListeners } from "node:events";
import http from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import vm from "node:vm";

const HERE = dirname(fileURLToPath(import.meta.url));
const CLIENT = join(HERE, "../../hakgal_hybrid/web/static/client");

export const { EventSource } = createRequire(join(process.env.CLIENT_MODULES ?? HERE, "/"))("eventsource");
export const client = await import(join(CLIENT, "client.js"));

const SOON = 30_000;

/** Resolves to the first true value of `predicate`; rejects if there is none in time. */
export async function until(predicate, what = predicate.toString(), ms = SOON) {
  for (const ends = Date.now() + ms; ;) {
    const value = await predicate();
    if (value) return value;
    if (Date.now() > ends) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise(done => setTimeout(done, 5));
  }
}

/** Resolves to the arguments of an event, when it comes. */
export function event(emitter, name) {
  let args;
  emitter.once(name, (...got) => { args = got; });
  return until(() => args, `the event ${name}`);
}

/** Resolves to the arguments of what a noting socket is told under a name, whether it has been told before or not. */
export async function told(socket, name) {
  return (await until(() => socket.told.find(item => item[0] === name), `being told of ${name}`)).slice(1);
}

// -- servers

/** A server process of `client.app`; settings are environment variables. */
export class Server {
  static async start(settings = {}, port = 0) {
    const server = new Server();
    const environ = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(HYBRID|HAKGAL)_/.test(name)));
    server.process = spawn(process.env.PYTHON ?? "python3", ["-m", "client.app", "--port", String(port)], {
      cwd: join(HERE, ".."), stdio: ["ignore", "pipe", "pipe"],
      env: { ...environ, PYTHONPATH: join(HERE, ".."), PYTHONUNBUFFERED: "1", ...settings } });
    server.log = "";
    for (const pipe of [server.process.stdout, server.process.stderr]) pipe.on("data", data => { server.log += data; });
    const address = () => {
      if (server.process.exitCode !== null) throw new Error(`the server ended:\n${server.log}`);
      return server.log.match(/http:\/\/127\.0\.0\.1:(\d+)/);
    };
    server.port = Number((await until(address, "the server names its port", 30_000))[1]);
    server.url = `http://127.0.0.1:${server.port}`;
    server.key = settings.HAKGAL_API_KEY;
    return server;
  }

  async stop(signal = "SIGTERM") {
    if (this.process.exitCode !== null || this.process.signalCode) return;
    const ended = new Promise(done => this.process.once("exit", done));
    this.process.kill(signal);
    await ended;
  }

  async ask(path, body) {
    const headers = { "Content-Type": "application/json", ...(this.key && { "X-API-Key": this.key }) };
    const response = await fetch(this.url + path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  do(event, wish) {
    return this.ask("/do", { event, ...wish });
  }

  notes() {
    return this.ask("/notes");
  }

  status() {
    return this.ask("/api/hybrid/status");
  }
}

/** Stands between clients and a server. `rule` may say of a request how it shall fail. */
export class Proxy {
  static async start(port) {
    const proxy = new Proxy();
    proxy.target = port;
    proxy.requests = [];
    proxy.rule = () => undefined;
    proxy.silent = false;
    proxy.sockets = new Set();
    proxy.streams = new Set();
    proxy.server = http.createServer((request, response) => proxy.#handle(request, response));
    proxy.server.on("connection", socket => {
      proxy.sockets.add(socket);
      socket.on("close", () => proxy.sockets.delete(socket));
    });
    await proxy.listen(0);
    proxy.url = `http://127.0.0.1:${proxy.port}`;
    return proxy;
  }

  async listen(port) {
    await new Promise(done => this.server.listen(port, "127.0.0.1", done));
    this.port = this.server.address().port;
  }

  /** Cut every connection. */
  cut() {
    for (const socket of this.sockets) socket.destroy();
  }

  /** Cut the connections of streams. */
  cutStreams() {
    for (const response of this.streams) response.destroy();
  }

  /** Cut every connection and accept none. */
  async down() {
    const closed = new Promise(done => this.server.close(done));
    this.cut();
    await closed;
  }

  up() {
    return this.listen(this.port);
  }

  /**
   * The rule gets a request, whose URL it may change, and gives nothing, "refuse", "lose the answer", a function that
   * resolves when the answer may go on, or an answer: [status, body, headers].
   */
  async #handle(request, response) {
    const { method, url, headers } = request, chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks), path = url.split("?")[0].split("/").pop();
    const seen = { method, url, headers, path, body: body.length ? JSON.parse(body) : undefined };
    this.requests.push(seen);
    if (path === "stream") this.streams.add(response.on("close", () => this.streams.delete(response)));
    const verdict = await this.rule(seen);
    if (verdict === "refuse") return response.destroy();
    if (Array.isArray(verdict)) {
      const [status, problem = {}, more = {}] = verdict;
      return response.writeHead(status, { "Content-Type": "application/problem+json", ...more }).end(
        typeof problem === "string" ? problem : JSON.stringify(problem));
    }
    const onward = http.request({ host: "127.0.0.1", port: this.target, method, path: seen.url, headers, agent: false });
    onward.on("error", () => response.destroy());
    onward.on("response", async answer => {
      if (typeof verdict === "function") await verdict();
      if (verdict === "lose the answer") return answer.resume().on("end", () => response.destroy());
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.on("data", chunk => this.silent || response.write(chunk)).on("end", () => this.silent || response.end());
      answer.on("error", () => response.destroy());
    });
    response.on("close", () => onward.destroy());
    onward.end(body);
  }

  posts(path) {
    return this.requests.filter(request => request.path === path);
  }
}

/** A socket of its own manager, with what it was told. */
export function connect(url, options = {}) {
  return noting(client.io(url, { EventSource, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100, ...options }));
}

/** Note in `socket.told` the client's own events, in `socket.seen` those of the host. */
export function noting(socket) {
  socket.told = [];
  socket.seen = [];
  for (const name of ["connect", "disconnect", "connect_error", "gap"]) {
    socket.on(name, (...args) => socket.told.push([name, ...args]));
  }
  socket.onAny((...args) => socket.seen.push(args));
  return socket;
}

export const numbers = (socket, name) => socket.seen.filter(item => item[0] === name).map(item => item[1]);
export const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i);

// -- a browser whose tabs can crash and hang

const CLASSIC = new vm.Script(execFileSync(process.env.PYTHON ?? "python3", ["-c",
  "import sys; from hakgal_hybrid.web import assets; sys.stdout.buffer.write(assets.CLASSIC_SCRIPT)"],
  { cwd: join(HERE, "../.."), encoding: "utf8" }), { filename: "client.classic.js" });

/** Web Locks as the standard has them, for tabs of this process. */
class Locks {
  held = [];
  pending = [];

  request(tab, name, ...[options, callback]) {
    if (typeof options === "function") [options, callback] = [{}, options];
    return new Promise((resolve, reject) => {
      const lock = { name, tab, callback, resolve, reject };
      const refuse = () => reject(new DOMException("aborted", "AbortError"));
      if (options.signal?.aborted) return refuse();
      if (options.signal) setMaxListeners(0, options.signal);
      options.signal?.addEventListener("abort", () => {
        if (!this.pending.includes(lock)) return;
        this.pending = this.pending.filter(item => item !== lock);
        refuse();
      });
      if (options.steal) {
        this.pending.unshift(lock);
        for (const item of this.held.filter(item => item.name === name)) this.#release(item, () => item.tab.run(
          () => item.reject(new DOMException("stolen", "AbortError"))));
      } else {
        this.pending.push(lock);
      }
      this.#grant();
    });
  }

  query() {
    const told = locks => locks.map(({ name, tab }) => ({ name, clientId: tab.name, mode: "exclusive" }));
    return { held: told(this.held), pending: told(this.pending) };
  }

  /** A tab has gone. */
  forget(tab) {
    this.held = this.held.filter(lock => lock.tab !== tab);
    this.pending = this.pending.filter(lock => lock.tab !== tab);
    this.#grant();
  }

  #release(lock, then) {
    this.held = this.held.filter(item => item !== lock);
    then();
    this.#grant();
  }

  #grant() {
    for (const lock of [...this.pending]) {
      if (this.held.some(item => item.name === lock.name)) continue;
      this.pending = this.pending.filter(item => item !== lock);
      this.held.push(lock);
      lock.tab.note("is given the lock", lock.name.split(" ").at(-1));
      lock.tab.run(async () => {
        try {
          const value = await lock.callback(lock);
          if (this.held.includes(lock)) this.#release(lock, () => lock.resolve(value));
        } catch (error) {
          this.#release(lock, () => lock.reject(error));
        }
      });
    }
  }
}

/** How much is remembered of what happened in a browser. */
const MEMORY = 1500;

/**
 * What tabs of one browser share. `latency` gives how many ms what comes from outside takes to reach a tab; `history`
 * tells what happened, for whoever has to understand a failure.
 */
export class Browser {
  locks = new Locks();
  channels = new Set();
  tabs = new Set();
  latency = () => 0;
  history = [];
  #opened = 0;
  #begun = Date.now();

  note(who, ...what) {
    this.history.push([Date.now() - this.#begun, who, ...what].join(" "));
    if (this.history.length > MEMORY) this.history.shift();
  }

  open() {
    const tab = new Tab(this, `tab ${++this.#opened}`);
    this.tabs.add(tab);
    return tab;
  }

  close() {
    for (const tab of this.tabs) tab.crash();
  }
}

/** Tabs are patient for seconds, tests are not. */
const HASTE = 20;

/** A page that has loaded the client. Everything that comes to it from outside goes through `run`. */
class Tab {
  #waiting;      // what comes while it hangs
  #dead = false;
  #sources = new Set();
  #timers = new Set();
  #listeners = [];

  constructor(browser, name) {
    Object.assign(this, { browser, name });
    this.context = vm.createContext({
      console, URL, URLSearchParams, Headers, AbortController, AbortSignal, TextDecoder, ArrayBuffer, Uint8Array, btoa,
      atob, Blob, document: {}, navigator: { locks: this.#locks() }, BroadcastChannel: this.#channel(),
      EventSource: this.#eventSource(), fetch: (...args) => this.#fetch(...args),
      setTimeout: (call, ms) => this.#timer(setTimeout, call, ms), setInterval: (call, ms) => this.#timer(setInterval, call, ms),
      clearTimeout: timer => this.#clear(timer), clearInterval: timer => this.#clear(timer),
      addEventListener: (type, listener) => this.#listeners.push([type, listener]) });
    CLASSIC.runInContext(this.context);
  }

  connect(url, options = {}) {
    this.socket = noting(this.context.io(url, { reconnectionDelay: 20, reconnectionDelayMax: 100, ...options }));
    return this.socket;
  }

  get leads() {
    return this.socket.io.link.leading && this.socket.io.link.up;
  }

  get hangs() {
    return !!this.#waiting;
  }

  /** Do something in the page, now or when it does not hang any more. */
  run(call) {
    if (this.#dead) return;
    if (this.#waiting) this.#waiting.push(call);
    else call();
  }

  /** The clock goes ahead, as over a sleep of the machine. */
  jump(ms) {
    vm.runInContext(`{ const { now } = Date; Date.now = () => now() + ${ms}; }`, this.context);
  }

  note(...what) {
    this.browser.note(this.name, ...what);
  }

  hang() {
    this.note("hangs");
    this.#waiting ??= [];
  }

  wake() {
    this.note("wakes");
    const waiting = this.#waiting;
    this.#waiting = undefined;
    for (const call of waiting ?? []) this.run(call);
  }

  dispatch(type, details = {}) {
    this.note(type);
    for (const [name, listener] of this.#listeners) if (name === type) this.run(() => listener({ type, ...details }));
  }

  /** The process ends, without any farewell. */
  crash() {
    this.note("ends");
    this.#dead = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const source of this.#sources) source.close();
    for (const channel of this.browser.channels) if (channel.tab === this) this.browser.channels.delete(channel);
    this.browser.locks.forget(this);
    this.browser.tabs.delete(this);
  }

  /** As a person closes it. */
  close() {
    this.dispatch("pagehide", { persisted: false });
    this.crash();
  }

  #brought(promise) {
    const bring = call => setTimeout(() => this.run(call), this.browser.latency());
    return new Promise((resolve, reject) => promise.then(value => bring(() => resolve(value)),
      error => bring(() => reject(error))));
  }

  #fetch(url, options) {
    const answer = fetch(url, options), { sid } = JSON.parse(options.body);
    const path = url.split(/[/?]/).find((part, i, parts) => parts[i - 1] === "events");
    const note = what => this.note("posts", path, sid ?? "", what);
    answer.then(({ status }) => note(status), note);
    return this.#brought(answer);
  }

  #timer(set, call, ms) {
    // One that is cleared when it is due, but has not been run, is not run any more.
    const timer = set(() => this.run(() => this.#timers.has(timer) && call()), ms > 3000 ? ms / HASTE : ms);
    this.#timers.add(timer);
    return timer;
  }

  #clear(timer) {
    clearTimeout(timer);
    this.#timers.delete(timer);
  }

  #locks() {
    return { request: (name, ...rest) => this.browser.locks.request(this, name, ...rest),
      query: () => this.#brought(Promise.resolve().then(() => this.browser.locks.query())) };
  }

  #channel() {
    const tab = this, { channels } = this.browser;
    return class {
      heard = new Map();  // by whom, up to where

      constructor(name) {
        Object.assign(this, { name, tab });
        channels.add(this);
      }

      /** What one tab says another hears in order. */
      postMessage(message) {
        const text = JSON.stringify(message);
        tab.note("says", text.length > 300 ? `${text.slice(0, 300)}…` : text);
        for (const channel of channels) {
          if (channel === this || channel.name !== this.name) continue;
          const hear = () => channels.has(channel) && channel.onmessage({ data: JSON.parse(text) });
          const heard = this.heard.get(channel) ?? Promise.resolve();
          const wait = new Promise(done => setTimeout(done, tab.browser.latency()));
          this.heard.set(channel, heard.then(() => wait).then(() => channel.tab.run(hear)));
        }
      }

      close() {
        channels.delete(this);
      }
    };
  }

  #eventSource() {
    const tab = this;
    return class {
      constructor(url) {
        this.source = new EventSource(url);
        tab.note("opens a stream from", new URL(url).searchParams.get("last_event_id"));
        tab.#sources.add(this.source);
        this.source.onmessage = message => tab.run(() => this.closed || this.onmessage(message));
        this.source.onerror = error => {
          tab.note("has lost its stream", error.code ?? "");
          this.source.close();  // a page that hangs does not reconnect
          tab.run(() => this.closed || this.onerror(error));
        };
      }

      close() {
        this.closed = true;
        this.source.close();
        tab.#sources.delete(this.source);
      }
    };
  }
}
