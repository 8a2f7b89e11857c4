/** The API: what a frontend written for socket.io-client 4 calls, against a real server. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { EventSource, Proxy, Server, client, connect, event, noting, numbers, range, until } from "./harness.mjs";

const { io, Manager, Socket } = client;
let server, proxy;

before(async () => {
  server = await Server.start({ HYBRID_HEARTBEAT_S: "1", HYBRID_MAX_MESSAGE_BYTES: "20000" });
  proxy = await Proxy.start(server.port);
});

after(async () => {
  await proxy.down();
  await server.stop();
});

/** A test with a connected socket, which is disconnected in the end. */
function testConnected(name, options, run = options) {
  test(name, async () => {
    const socket = connect(proxy.url, typeof options === "function" ? {} : options);
    try {
      await event(socket, "connect");
      await run(socket);
    } finally {
      socket.disconnect();
    }
  });
}

const silently = { autoConnect: false, EventSource };

test("the path says what the server's URLs begin with", () => {
  const base = path => new Manager("http://path.test/chat", { ...silently, path }).uri;
  for (const path of [undefined, "", "/", "/socket.io", "/socket.io/", "socket.io"]) assert.equal(base(path), "http://path.test");
  for (const path of ["/live/socket.io", "live/socket.io/", "//live//", "/live"]) assert.equal(base(path), "http://path.test/live");
  assert.equal(base("/a/b/socket.io/"), "http://path.test/a/b");
  const options = path => ({ ...silently, path });
  const [root, live] = ["/socket.io", "/live/socket.io"].map(path => io("http://path.test/chat", options(path)));
  assert.notEqual(root.io, live.io);
  assert.equal(live.nsp, "/chat");
  assert.equal(io("http://path.test/news", options("/live")).io, live.io);
});

test("the module's names", () => {
  assert.equal(client.default, io);
  assert.equal(client.connect, io);
  assert.equal(io.io, io);
  assert.equal(io.connect, io);
  assert.equal(io.Manager, Manager);
  assert.equal(io.Socket, Socket);
});

test("URLs name a server and a namespace", () => {
  globalThis.location = new URL("http://page.test:81/folder/page.html?not=this");
  try {
    for (const [url, base, nsp, query = {}] of [
      [undefined, "http://page.test:81", "/"],
      ["", "http://page.test:81", "/"],
      ["/chat", "http://page.test:81", "/chat"],
      ["//other.test/chat", "http://other.test", "/chat"],
      ["http://other.test:80", "http://other.test", "/"],
      ["https://other.test/chat/room?a=1&b=2", "https://other.test", "/chat/room", { a: "1", b: "2" }],
      ["ws://other.test:90", "http://other.test:90", "/"],
      ["wss://other.test", "https://other.test", "/"],
      ["other.test:90/chat", "http://other.test:90", "/chat"],
      ["localhost:3000", "http://localhost:3000", "/"],
    ]) {
      const socket = io(url, { ...silently, forceNew: true });
      assert.deepEqual([socket.io.uri, socket.nsp, socket.io.opts.query], [base, nsp, query], url);
    }
    assert.equal(io({ ...silently, forceNew: true }).io.uri, "http://page.test:81");
  } finally {
    delete globalThis.location;
  }
});

test("namespaces of one URL share a manager, the same one twice does not", () => {
  const first = io("http://share.test", silently);
  assert.equal(io("http://share.test/chat", silently).io, first.io);
  assert.notEqual(io("http://share.test", silently).io, first.io);
  assert.notEqual(io("http://share.test/new", { ...silently, forceNew: true }).io, first.io);
  assert.notEqual(io("http://share.test/new", { ...silently, multiplex: false }).io, first.io);
  const manager = new Manager("http://share.test", silently);
  assert.equal(manager.socket("/a"), manager.socket("/a"));
  assert.equal(manager.socket("/a").nsp, "/a");
});

test("a manager tells and takes its settings", () => {
  const manager = new Manager("http://share.test", { ...silently, reconnectionAttempts: 3, timeout: false });
  assert.equal(manager.reconnection(), true);
  assert.equal(manager.reconnectionAttempts(), 3);
  assert.equal(manager.reconnectionDelay(), 1000);
  assert.equal(manager.reconnectionDelayMax(), 5000);
  assert.equal(manager.randomizationFactor(), 0.5);
  assert.equal(manager.timeout(), false);
  assert.equal(manager.reconnection(false).reconnection(), false);
});

test("one hint in total for options without a meaning", () => {
  const hints = [];
  const { info } = console;
  console.info = (...args) => hints.push(args.join(" "));
  try {
    io("http://hint.test", { ...silently, path: "/socket.io", transports: ["websocket"], timeout: 1, auth: {} });
    io("http://hint2.test", { ...silently, upgrade: false });
  } finally {
    console.info = info;
  }
  assert.equal(hints.length, 1);
  assert.match(hints[0], / transports/);
  assert.doesNotMatch(hints[0], /path/);
});

test("listeners", () => {
  const socket = io("http://listeners.test", silently), called = [];
  const note = name => (...args) => called.push([name, ...args]);
  const a = note("a"), b = note("b"), any = note("any");
  assert.equal(socket.on("x", a).once("x", b).onAny(any).prependAny(note("first")), socket);
  assert.deepEqual(socket.listeners("x").map(item => item.fn ?? item), [a, b]);
  assert.equal(socket.hasListeners("x"), true);
  assert.equal(socket.hasListeners("y"), false);
  assert.equal(socket.listenersAny().length, 2);
  socket.off("x", b);
  assert.deepEqual(socket.listeners("x"), [a]);
  socket.on("x", a).removeListener("x", a);
  assert.deepEqual(socket.listeners("x"), [a], "one registration is one");
  socket.off("x", () => {});
  assert.deepEqual(socket.listeners("x"), [a]);
  socket.removeAllListeners("x");
  assert.deepEqual(socket.listeners("x"), []);
  socket.on("x", a).on("y", b).off();
  assert.equal(socket.hasListeners("x") || socket.hasListeners("y"), false);
  assert.deepEqual(socket.offAny(any).listenersAny().length, 1);
  assert.deepEqual(socket.offAny().listenersAny(), []);
  assert.deepEqual(socket.onAnyOutgoing(a).prependAnyOutgoing(b).listenersAnyOutgoing(), [b, a]);
  assert.deepEqual(socket.offAnyOutgoing(b).listenersAnyOutgoing(), [a]);
  assert.deepEqual(socket.offAnyOutgoing().listenersAnyOutgoing(), []);
});

test("reserved names and impossible values fail where they are emitted", () => {
  const socket = io("http://reserved.test", silently), cycle = {};
  cycle.again = cycle;
  for (const name of ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"]) {
    assert.throws(() => socket.emit(name), new RegExp(`"${name}" is a reserved event name`));
  }
  for (const value of [10n, new Blob(["x"]), cycle]) assert.throws(() => socket.emit("echo", value));
  assert.deepEqual(socket.sendBuffer, []);
});

testConnected("connecting", async socket => {
  assert.equal(socket.connected, true);
  assert.equal(socket.disconnected, false);
  assert.equal(socket.active, true);
  assert.equal(socket.recovered, false);
  assert.match(socket.id, /^[\w-]{20}$/);
  assert.equal((await server.notes()).connects.at(-1).sid, socket.id);
  const { id } = socket;
  assert.equal(socket.connect(), socket);
  assert.equal(socket.open().id, id);
  assert.equal(socket.disconnect(), socket);
  assert.equal(socket.id, undefined);
  assert.equal(socket.active, false);
  assert.deepEqual(socket.told.at(-1), ["disconnect", "io client disconnect", undefined]);
  await until(async () => (await server.notes()).disconnects.some(item => item.sid === id && item.reason === "client disconnect"));
  socket.connect();
  await event(socket, "connect");
  assert.notEqual(socket.id, id);
  assert.equal(socket.recovered, false);
  assert.deepEqual(socket.told.map(item => item[0]), ["connect", "disconnect", "connect"], "nothing was missed");
});

test("it does not connect by itself if it shall not", async () => {
  const socket = connect(proxy.url, { autoConnect: false });
  assert.equal(socket.active, false);
  socket.emit("note", "buffered");
  socket.volatile.emit("note", "dropped");
  assert.equal(socket.sendBuffer.length, 1);
  const opened = event(socket.io, "open");
  socket.open();
  await opened;
  assert.equal(await socket.emitWithAck("note", "after"), "after");
  const { calls } = await server.notes();
  assert.deepEqual(calls.filter(call => ["buffered", "dropped", "after"].includes(call)), ["buffered", "after"]);
  socket.close();
});

testConnected("acknowledgements", async socket => {
  const acked = [];
  socket.emit("echo", 1, "two", { three: [4] }, (...args) => acked.push(args));
  await until(() => acked.length);
  assert.deepEqual(acked, [[1, "two", { three: [4] }]]);
  assert.equal(await socket.emitWithAck("echo", 5), 5);
  assert.equal(await socket.emitWithAck("ask", 5), undefined, "a handler that returns nothing");
  assert.equal(await socket.timeout(5000).emitWithAck("echo", 6), 6);
  const answer = await new Promise(done => socket.timeout(5000).emit("echo", 7, (...args) => done(args)));
  assert.deepEqual(answer, [null, 7]);
  assert.deepEqual(await new Promise(done => socket.send("a", "b", done)), ["message", "a", "b"]);
  assert.equal(socket.compress(false), socket);
});

testConnected("what the server does not acknowledge", async socket => {
  const acked = [];
  socket.emit("nobody handles this", () => acked.push("unknown"));
  socket.emit("boom", () => acked.push("boom"));
  const late = socket.emitWithAck("boom");
  assert.equal(await socket.emitWithAck("echo", "next"), "next");
  await assert.rejects(socket.timeout(20).emitWithAck("boom"), /operation has timed out/);
  assert.deepEqual(acked, []);
  socket.disconnect();
  await assert.rejects(late, /socket has been disconnected/);
});

testConnected("events", async socket => {
  await server.do("news", { n: 100 });
  await server.do("several", { args: [1, [2], { three: null }] });
  await server.do("nothing", { args: [] });
  await until(() => numbers(socket, "nothing").length);
  assert.deepEqual(numbers(socket, "news"), range(0, 100));
  assert.deepEqual(socket.seen.slice(100), [["several", 1, [2], { three: null }], ["nothing"]]);
});

testConnected("a listener that throws harms nobody", async socket => {
  const thrown = [];
  const handlers = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException").on("uncaughtException", error => thrown.push(error.message));
  socket.on("answer", () => { throw new Error("of a listener"); });
  const got = event(socket, "answer");
  socket.emit("ask", 1);
  assert.deepEqual(await got, [1]);
  await until(() => thrown.length);
  process.removeAllListeners("uncaughtException");
  for (const handler of handlers) process.on("uncaughtException", handler);
  assert.deepEqual(thrown, ["of a listener"]);
});

testConnected("listeners for anything going out", async socket => {
  const out = [];
  socket.onAnyOutgoing((...args) => out.push(args));
  await socket.emitWithAck("echo", 1, { two: 2 });
  assert.deepEqual(out, [["echo", 1, { two: 2 }]]);
});

testConnected("binary values", async socket => {
  const bytes = new Uint8Array([9, 8, 7, 6]);
  const got = [];
  for (const value of [bytes, bytes.buffer, Buffer.from(bytes), new DataView(bytes.buffer), bytes.subarray(1, 3)]) {
    got.push(new Uint8Array(await socket.emitWithAck("reverse", value)));
  }
  assert.deepEqual(got.map(item => [...item]), [...Array(4).fill([6, 7, 8, 9]), [7, 8]]);
  const big = new Uint8Array(10_000).fill(5);
  assert.deepEqual(new Uint8Array(await socket.emitWithAck("reverse", big)), big);
  const value = { deep: [{ $binary: "mine" }], $$binary: 1, $$$binary: 2, at: new Date(0) };
  assert.deepEqual(await socket.emitWithAck("echo", value), { ...value, at: "1970-01-01T00:00:00.000Z" });
  const brought = event(socket, "binary");
  await server.ask("/binary", {});
  const [{ bytes: received, ...keys }] = await brought;
  assert(received instanceof ArrayBuffer);
  assert.deepEqual([...new Uint8Array(received)], range(0, 256));
  assert.deepEqual(keys, { $binary: "mine", $$binary: "mine too" });
});

testConnected("acknowledging what the server emits", async socket => {
  socket.on("question", (value, acknowledge) => {
    acknowledge("answer", value);
    acknowledge("again");
  });
  await server.do("question", { args: ["?"], to: socket.id, ack: true });
  await until(async () => (await server.notes()).acks.length);
  assert.deepEqual((await server.notes()).acks, [["answer", "?"]]);
});

testConnected("two namespaces on one stream", async socket => {
  const before = (await server.status()).streams;
  const chat = noting(socket.io.socket("/chat", {}));
  await event(chat, "connect");
  assert.notEqual(chat.id, socket.id);
  assert.equal(await chat.emitWithAck("echo", "hello"), "chat: hello");
  assert.equal((await server.status()).streams, before);
  await server.do("news", { args: ["chat"], namespace: "/chat" });
  await server.do("news", { args: ["root"] });
  await server.do("private", { args: ["chat"], namespace: "/chat", to: chat.id });
  await server.do("last", { args: [1] });
  await server.do("last", { args: [1], namespace: "/chat" });
  await until(() => numbers(socket, "last").length && numbers(chat, "last").length);
  assert.deepEqual(socket.seen, [["news", "root"], ["last", 1]]);
  assert.deepEqual(chat.seen, [["news", "chat"], ["private", "chat"], ["last", 1]]);
  socket.disconnect();
  assert.equal(await chat.emitWithAck("echo", "still"), "chat: still");
  chat.disconnect();
});

testConnected("private events", async socket => {
  const other = connect(proxy.url, { auth: { welcome: true } });
  await event(other, "welcome");
  await server.do("private", { args: [1], to: socket.id });
  await server.do("private", { args: [2], to: other.id });
  await server.do("last");
  await until(() => numbers(socket, "last").length && numbers(other, "last").length);
  assert.deepEqual(numbers(socket, "private"), [1]);
  assert.deepEqual(numbers(other, "private"), [2]);
  other.disconnect();
});

for (const [title, auth, message, data] of [
  ["by returning False", { no: true }, "Connection rejected by server", undefined],
  ["without a reason", { refuse: [] }, "Connection rejected by server", undefined],
  ["with a message", { refuse: ["not you"] }, "not you", undefined],
  ["with data", { refuse: ["not you", { until: "tomorrow" }] }, "not you", { until: "tomorrow" }],
  ["with more data", { refuse: ["not you", 1, 2] }, "not you", [1, 2]],
]) {
  test(`refused ${title}`, async () => {
    const socket = connect(proxy.url, { auth });
    const [error] = await event(socket, "connect_error");
    assert(error instanceof Error);
    assert.equal(error.message, message);
    assert.deepEqual(error.data, data);
    assert.equal(socket.active, false);
    assert.equal(socket.connected, false);
    const asked = proxy.posts("connect").length;
    socket.auth = { welcome: true };
    socket.connect();
    await event(socket, "connect");
    assert.equal(proxy.posts("connect").length, asked + 1);
    socket.disconnect();
  });
}

testConnected("a namespace without handlers", async socket => {
  const nobody = noting(socket.io.socket("/nobody", {}));
  const [error] = await event(nobody, "connect_error");
  assert.equal(error.message, "Unable to connect");
  assert.equal(nobody.active, false);
  assert.equal(socket.connected, true);
});

test("auth, query and headers reach the connect handler", async () => {
  let calls = 0;
  const auth = done => setTimeout(() => done({ token: ++calls }), 1);
  const socket = connect(`${proxy.url}/?from=url`, { auth, extraHeaders: { "X-Token": "t" } });
  await event(socket, "connect");
  const other = connect(`${proxy.url}/`, { query: { from: "options" } });
  await event(other, "connect");
  const { connects } = await server.notes();
  const [first, second] = [socket.id, other.id].map(sid => connects.find(item => item.sid === sid));
  assert.deepEqual([first.auth, first.args, first.token], [{ token: 1 }, { from: "url" }, "t"]);
  assert.deepEqual([second.auth, second.args], [null, { from: "options" }]);
  socket.disconnect();
  other.disconnect();
});

test("a key goes in a header of every POST, and nowhere else", async () => {
  const guarded = await Server.start({ HAKGAL_API_KEY: "the key" });
  const between = await Proxy.start(guarded.port);
  try {
    for (const options of [{ auth: { apiKey: "the key" } }, { extraHeaders: { "x-api-key": "the key" } }]) {
      const socket = connect(between.url, options);
      await event(socket, "connect");
      assert.equal(await socket.emitWithAck("echo", 1), 1);
      socket.disconnect();
      await until(() => between.posts("disconnect").length);
      for (const { method, headers, url } of between.requests.splice(0)) {
        assert.equal(headers["x-api-key"], method === "POST" ? "the key" : undefined);
        assert.doesNotMatch(url, /key|token/);
      }
    }
    const socket = connect(between.url, { auth: { apiKey: "another" } });
    const [error] = await event(socket, "connect_error");
    assert.equal(error.data.code, "wrong_key");
    assert.equal(socket.active, false);
  } finally {
    await between.down();
    await guarded.stop();
  }
});

test("where there is no page, a socket can be made", async () => {
  assert.equal(globalThis.location, undefined);
  for (const make of [() => io(silently), () => io("/chat", { ...silently, forceNew: true }), () => io(undefined, silently)]) {
    const socket = make();
    assert.equal(socket.io.uri, "http://localhost");
    assert.equal(socket.active, false);
  }
  const socket = io({ EventSource, forceNew: true, reconnection: false });
  assert.equal(socket.active, true);
  socket.disconnect();
});

test("a refusal that is no problem document is shown, and is none if a proxy is down", async () => {
  for (const [status, active, message] of [[403, false, /^refused: 403 Go away/], [401, false, /^refused: 401 Go away/],
    [502, true, /^down: 502 Go away/], [503, true, /^down: 503 Go away/], [404, true, /404 Go away/], [200, true, /200 Go away/]]) {
    proxy.rule = ({ path }) => path === "connect" ? [status, "Go away", { "Content-Type": "text/plain" }] : undefined;
    const socket = connect(proxy.url, { reconnectionDelay: 5000, reconnectionDelayMax: 5000 });
    const [error] = await event(socket, "connect_error");
    assert.match(error.message, message);
    assert.equal(socket.active, active, `${status}`);
    socket.disconnect();
  }
  proxy.rule = () => undefined;
});

test("without an EventSource it says so", async () => {
  const known = globalThis.EventSource;
  delete globalThis.EventSource;
  const socket = connect(proxy.url, { EventSource: undefined });
  const [error] = await event(socket, "connect_error");
  assert.match(error.message, /EventSource/);
  socket.disconnect();
  if (known) globalThis.EventSource = known;
});

test("the interval goes to the stream, and the server's is kept without one", async () => {
  for (const [options, asked] of [[{}, null], [{ intervalMs: 0 }, "0"], [{ intervalMs: 250 }, "250"]]) {
    const urls = [];
    class Noting extends EventSource {
      constructor(url, more) {
        urls.push(new URL(url));
        super(url, more);
      }
    }
    const socket = connect(proxy.url, { EventSource: Noting, ...options });
    await event(socket, "connect");
    assert.deepEqual(urls.map(url => url.searchParams.get("interval_ms")), [asked]);
    socket.disconnect();
  }
});
