/** Coming, going and coming back: what is kept, what is told, and in which order. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Browser, Proxy, Server, connect, event, noting, numbers, range, told, until } from "./harness.mjs";

let server, proxy;

before(async () => {
  server = await Server.start({ HYBRID_HEARTBEAT_S: "0.5", HYBRID_MAX_STREAMS: "20" });
  proxy = await Proxy.start(server.port);
});

after(async () => {
  await proxy.down();
  await server.stop();
});

/** A test with a proxy in its first state, and sockets that are disconnected in the end. */
function testConnections(name, run) {
  test(name, async () => {
    const sockets = [];
    const open = (options, url = proxy.url) => {
      const socket = connect(url, options);
      sockets.push(socket);
      return socket;
    };
    try {
      await run(open);
    } finally {
      for (const { io } of sockets) for (const socket of Object.values(io.nsps)) socket.disconnect();
      Object.assign(proxy, { rule: () => undefined, silent: false });
    }
  });
}

async function connected(open, options, url) {
  const socket = open(options, url);
  await event(socket, "connect");
  return socket;
}

/** Everything that manager and socket tell, in one list. */
function chronicle(socket) {
  const told = [];
  for (const name of ["open", "close", "error", "reconnect_attempt", "reconnect", "reconnect_error", "reconnect_failed"]) {
    socket.io.on(name, what => told.push(["manager", name, what instanceof Error ? "error" : what]));
  }
  for (const name of ["connect", "connect_error", "disconnect"]) {
    socket.on(name, what => told.push(["socket", name, what instanceof Error ? "error" : what]));
  }
  return told;
}

testConnections("a stream that is cut", async open => {
  const socket = open(), all = chronicle(socket);
  await event(socket, "connect");
  const { id } = socket;
  await server.do("news", { n: 3 });
  await until(() => numbers(socket, "news").length === 3);
  let away = true;
  proxy.rule = ({ path }) => away && path === "connect" ? "refuse" : undefined;
  proxy.cut();
  const [, details] = await event(socket, "disconnect");
  assert.equal(typeof details.message, "string");
  await until(() => all.some(item => item[1] === "reconnect_error"));
  await server.do("news", { first: 3, n: 3 });
  await server.do("private", { args: [1], to: id });
  away = false;
  await until(() => numbers(socket, "private").length);
  assert.equal(socket.id, id);
  assert.equal(socket.recovered, true);
  assert.deepEqual(numbers(socket, "news"), range(0, 6));
  assert.deepEqual(numbers(socket, "private"), [1]);
  assert.deepEqual(socket.told.filter(item => item[0] === "gap"), []);
  const attempts = all.filter(item => item[1] === "reconnect_attempt").length;
  assert.deepEqual(all, [
    ["manager", "open", undefined], ["socket", "connect", undefined],
    ["socket", "disconnect", "transport close"], ["manager", "close", "transport close"],
    ...range(1, attempts).flatMap(number => [["manager", "reconnect_attempt", number], ["socket", "connect_error", "error"],
      ["manager", "error", "error"], ["manager", "reconnect_error", "error"]]),
    ["manager", "reconnect_attempt", attempts], ["manager", "open", undefined], ["manager", "reconnect", attempts],
    ["socket", "connect", undefined]]);
});

testConnections("a server that is not there yet", async open => {
  await proxy.down();
  const socket = open(), all = chronicle(socket);
  await event(socket, "connect_error");
  assert.equal(socket.active, true);
  await event(socket.io, "reconnect_attempt");
  await proxy.up();
  await event(socket, "connect");
  assert.deepEqual(all.slice(0, 3), [["socket", "connect_error", "error"], ["manager", "error", "error"],
    ["manager", "reconnect_attempt", 1]]);
  assert.deepEqual(all.slice(-3).map(item => item[1]), ["open", "reconnect", "connect"]);
});

testConnections("attempts come to an end", async open => {
  const socket = await connected(open, { reconnectionAttempts: 2 }), all = chronicle(socket);
  const failed = assert.rejects(socket.emitWithAck("slow", "never"), /socket has been disconnected/);
  proxy.rule = () => "refuse";
  proxy.cut();
  await event(socket.io, "reconnect_failed");
  await until(() => all.at(-1)[1] === "reconnect_error");
  const attempt = number => [["reconnect_attempt", number], ["connect_error", "error"], ["error", "error"]];
  assert.deepEqual(all.map(item => item.slice(1)), [["disconnect", "transport close"], ["close", "transport close"],
    ...attempt(1), ["reconnect_error", "error"], ...attempt(2), ["reconnect_failed", undefined], ["reconnect_error", "error"]]);
  await failed;
  proxy.rule = () => undefined;
  socket.connect();
  await event(socket, "connect");
  assert.equal(socket.recovered, true, "the server still knew it");
  await server.ask("/release", {});
});

testConnections("delays grow, jittered and bounded", async open => {
  const { _delay } = open({ autoConnect: false, reconnectionDelay: 100, reconnectionDelayMax: 1000 }).io;
  const delays = (attempt, randomizationFactor) => Array.from({ length: 200 }, () => _delay.call(
    { _reconnectionDelay: 100, _reconnectionDelayMax: 1000, _randomizationFactor: randomizationFactor }, attempt));
  assert.deepEqual(range(0, 6).map(attempt => delays(attempt, 0)[0]), [100, 200, 400, 800, 1000, 1000]);
  const jittered = delays(1, 0.5);
  assert(Math.min(...jittered) >= 100 && Math.max(...jittered) <= 300);
  assert(Math.max(...jittered) - Math.min(...jittered) > 100);
});

testConnections("without reconnection it stays down", async open => {
  const socket = await connected(open, { reconnection: false }), asked = proxy.posts("connect").length;
  proxy.cut();
  await event(socket, "disconnect");
  await event(open({}), "connect");
  assert.equal(proxy.posts("connect").length, asked + 1, "the other one's");
  socket.connect();
  await event(socket, "connect");
});

testConnections("a connection that goes silent", async open => {
  const socket = await connected(open), { id } = socket;
  await event(socket.io, "ping");
  proxy.silent = true;
  const [reason] = await event(socket, "disconnect");
  assert.equal(reason, "ping timeout");
  await server.do("news", { args: ["meanwhile"] });
  proxy.silent = false;
  await until(() => numbers(socket, "news").length);
  assert.equal(socket.id, id);
  assert.equal(socket.recovered, true);
});

testConnections("a connection whose stream never begins", async open => {
  proxy.rule = ({ path }) => path === "stream" ? [500] : undefined;
  const socket = open();
  const [error] = await event(socket, "connect_error");
  assert(error instanceof Error);
  proxy.rule = ({ path }) => path === "stream" ? new Promise(() => {}) : undefined;
  socket.io.timeout(50);
  await until(() => socket.told.some(item => item[1]?.message === "timeout"));
  proxy.rule = () => undefined;
  socket.io.timeout(20000);
  await event(socket, "connect");
});

testConnections("the host ends a client", async open => {
  const socket = await connected(open), { id } = socket;
  const failed = assert.rejects(socket.emitWithAck("slow", "kicked"), /socket has been disconnected/);
  await until(async () => (await server.notes()).calls.includes("kicked"));
  await server.ask("/kick", { sid: id });
  const [reason] = await told(socket, "disconnect");
  assert.equal(reason, "io server disconnect");
  assert.equal(socket.active, false);
  await failed;
  await server.ask("/release", {});
  socket.connect();
  await event(socket, "connect");
  assert.notEqual(socket.id, id);
  assert.deepEqual(socket.told.filter(item => item[0] === "gap"), []);
});

testConnections("an identity that has lapsed", async open => {
  const hasty = await Server.start({ HYBRID_RESUME_S: "0.1" });
  const between = await Proxy.start(hasty.port);
  try {
    const socket = await connected(open, {}, between.url), { id } = socket;
    const failed = assert.rejects(socket.emitWithAck("slow", 1), /socket has been disconnected/);
    await until(async () => (await hasty.notes()).calls.length);
    await between.down();
    await until(() => !socket.connected);
    socket.emit("note", "buffered");
    await until(async () => (await hasty.notes()).disconnects.length);
    await between.up();
    await failed;
    const [gap] = await told(socket, "gap");
    assert.notEqual(socket.id, id);
    assert.equal(socket.recovered, false);
    assert.deepEqual([gap.missed, gap.reason], [null, "lapsed"]);
    assert.match(gap.resume_from, /^\d+-\d+$/);
    await until(async () => (await hasty.notes()).calls.includes("buffered"));
    await hasty.ask("/release", {});
  } finally {
    await between.down();
    await hasty.stop();
  }
});

testConnections("a server that is restarted", async open => {
  const first = await Server.start();
  const socket = await connected(open, {}, first.url), { id } = socket;
  await first.stop();
  await until(() => !socket.connected);
  assert.equal(socket.told[1][1], "transport close");
  const second = await Server.start({}, first.port);
  const [gap] = await told(socket, "gap");
  assert.equal(gap.reason, "restarted");
  assert.notEqual(socket.id, id);
  await second.do("news", { n: 3 });
  await until(() => numbers(socket, "news").length === 3);
  socket.disconnect();
  await second.stop();
});

testConnections("a log that does not reach back", async open => {
  const forgetful = await Server.start({ HYBRID_LOG_EVENTS: "5" });
  const between = await Proxy.start(forgetful.port);
  try {
    const socket = await connected(open, {}, between.url), { id } = socket;
    await forgetful.do("first");
    await until(() => numbers(socket, "first").length);
    await between.down();
    await until(() => !socket.connected);
    await forgetful.do("news", { n: 20 });
    await between.up();
    const [gap] = await told(socket, "gap");
    assert.deepEqual([gap.missed, gap.reason, socket.id, socket.recovered], [15, "evicted", id, true]);
    await until(() => numbers(socket, "news").at(-1) === 19);
    assert.deepEqual(numbers(socket, "news").slice(-5), range(15, 20));
    assert.equal(new Set(numbers(socket, "news")).size, numbers(socket, "news").length);
  } finally {
    await between.down();
    await forgetful.stop();
  }
});

testConnections("a server without a place", async open => {
  const small = await Server.start({ HYBRID_MAX_STREAMS: "1" });
  try {
    const first = await connected(open, {}, small.url), second = open({}, small.url);
    const [error] = await event(second, "connect_error");
    assert.equal(error.wait, 5000);
    assert.equal(second.active, true);
    first.disconnect();
    second.disconnect();
  } finally {
    await small.stop();
  }
});

testConnections("an event is never delivered twice", async open => {
  const socket = await connected(open);
  await server.do("news", { n: 10 });
  await until(() => numbers(socket, "news").length === 10);
  proxy.rule = request => { request.url = request.url.replace(/&last_event_id=[\d-]+/, ""); };
  proxy.cut();
  await event(socket, "connect");
  await server.do("news", { first: 10 });
  await until(() => numbers(socket, "news").includes(10));
  assert.deepEqual(numbers(socket, "news"), range(0, 11));
});

testConnections("what comes while a namespace still connects", async open => {
  const socket = await connected(open);
  let answer;
  proxy.rule = ({ path }) => path === "connect" ? () => new Promise(done => { answer = done; }) : undefined;
  const chat = noting(socket.io.socket("/chat", { auth: { welcome: true } }));
  await until(() => answer);
  const { sid } = (await server.notes()).connects.at(-1);
  await server.do("news", { n: 5, namespace: "/chat" });
  await server.do("private", { args: [1], namespace: "/chat", to: sid });
  await server.do("last");
  await until(() => numbers(socket, "last").length);
  assert.deepEqual(chat.seen, []);
  answer();
  await event(chat, "connect");
  await until(() => numbers(chat, "private").length);
  assert.deepEqual(chat.seen, [["welcome", { sid }], ...range(0, 5).map(number => ["news", number]), ["private", 1]]);
});

testConnections("a namespace that cannot be reached for a moment", async open => {
  const socket = await connected(open);
  proxy.rule = ({ body }) => body?.namespace === "/chat" ? [503, { code: "overloaded", detail: "busy" }] : undefined;
  const chat = noting(socket.io.socket("/chat", {}));
  const [error] = await event(chat, "connect_error");
  assert.equal(error.message, "busy");
  assert.equal(chat.active, true);
  proxy.rule = () => undefined;
  await event(chat, "connect");
  assert.deepEqual(socket.told.map(item => item[0]), ["connect"], "the others stay");
});

testConnections("disconnecting while connecting", async open => {
  let answer;
  proxy.rule = ({ path }) => path === "connect" ? () => new Promise(done => { answer = done; }) : undefined;
  const socket = open();
  await until(() => answer);
  const { sid } = (await server.notes()).connects.at(-1);
  socket.disconnect();
  answer();
  await until(() => proxy.posts("disconnect").some(({ body }) => body.sid === sid));
  assert.deepEqual(socket.told, []);
});

// -- what happens to a page

/** A test with a page of its own. */
function testPage(name, run) {
  test(name, async () => {
    const browser = new Browser(), tab = browser.open();
    try {
      tab.connect(proxy.url);
      await event(tab.socket, "connect");
      await run(tab, tab.socket, tab.socket.id);
    } finally {
      browser.close();
      proxy.rule = () => undefined;
    }
  });
}

testPage("a machine that sleeps", async (tab, socket, id) => {
  let reason;
  socket.once("disconnect", why => { reason = why; });
  // Once more, where a heartbeat came after the jump and before the client looked at the clock.
  await until(() => reason || (tab.jump(3600_000), undefined), "the silence to be noticed");
  assert.equal(reason, "ping timeout");
  await event(socket, "connect");
  assert.deepEqual([socket.id, socket.recovered], [id, true]);
});

testPage("a network that goes and comes", async (tab, socket, id) => {
  proxy.rule = () => "refuse";
  tab.dispatch("offline");
  const [reason, details] = await event(socket, "disconnect");
  assert.deepEqual([reason, details.message], ["transport close", "network connection lost"]);
  socket.io.reconnectionDelay(60_000).reconnectionDelayMax(60_000);
  await until(() => socket.told.filter(item => item[0] === "connect_error").length >= 1);
  await server.do("news", { args: ["meanwhile"] });
  proxy.rule = () => undefined;
  tab.dispatch("online");
  await until(() => numbers(socket, "news").length);
  assert.deepEqual([socket.id, socket.recovered], [id, true]);
});

testPage("a network that has changed without a word", async (tab, socket, id) => {
  const streams = proxy.posts("stream").length;
  tab.dispatch("online");
  await until(() => proxy.posts("stream").length === streams + 1);
  await server.do("news", { args: ["after"] });
  await until(() => numbers(socket, "news").length);
  assert.deepEqual([socket.id, socket.told.length], [id, 1], "nobody noticed");
});

testPage("a page that goes away", async (tab, socket, id) => {
  tab.close();
  await until(async () => (await server.notes()).disconnects.some(item => item.sid === id));
});
