/** Tabs that share a stream, in a browser that is not one: they close, crash and hang whenever a test wants it. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";

import { Browser, Proxy, Server, event, numbers, range, told, until } from "./harness.mjs";

let server, proxy, browser;

before(async () => {
  server = await Server.start({ HYBRID_HEARTBEAT_S: "0.5", HYBRID_RESUME_S: "3", HYBRID_CONNECT_S: "5" });
});

after(() => server.stop());

beforeEach(async () => {
  proxy = await Proxy.start(server.port);
  browser = new Browser();
});

afterEach(async () => {
  browser.close();
  await proxy.down();
});

async function openTabs(number, options) {
  const tabs = range(0, number).map(() => browser.open());
  for (const tab of tabs) tab.connect(proxy.url, options);
  for (const { socket } of tabs) await told(socket, "connect");
  return tabs;
}

const leaderOf = tabs => until(() => tabs.find(tab => tab.leads), "a tab leads");
const arrived = (tabs, name, value) => until(() => tabs.every(({ socket }) => numbers(socket, name).includes(value)),
  `${name} ${value} everywhere`);
const isDisconnected = async sid => (await server.notes()).disconnects.some(item => item.sid === sid);

test("one stream, and to each tab what is its", async () => {
  const tabs = await openTabs(8, { auth: { welcome: true } });
  assert.equal((await server.status()).streams, 1);
  await server.do("news", { n: 50 });
  for (const { socket } of tabs) await server.do("private", { args: [socket.id], to: socket.id });
  await server.do("last");
  await arrived(tabs, "last", 0);
  for (const { socket } of tabs) {
    assert.deepEqual(numbers(socket, "news"), range(0, 50));
    assert.deepEqual(numbers(socket, "private"), [socket.id]);
    assert.equal(numbers(socket, "welcome").length, 1);
    assert.equal(await socket.emitWithAck("echo", socket.id), socket.id);
  }
});

test("what tabs say to each other holds no key", async () => {
  const heard = [], ear = { name: `hakgal-hybrid ${proxy.url} false`, tab: { run: call => call() } };
  ear.onmessage = ({ data }) => heard.push(data);
  browser.channels.add(ear);
  const tabs = await openTabs(2, { auth: { apiKey: "the key" } });
  await leaderOf(tabs);
  await until(() => heard.some(({ kind, ids }) => kind === "mine" && ids.length), "a tab names its clients");
  assert.doesNotMatch(JSON.stringify(heard), /the key/);
  browser.channels.delete(ear);
});

test("the first tab cannot connect, another one can", async () => {
  const first = browser.open(), second = browser.open();
  first.connect(proxy.url, { auth: { no: true } });
  second.connect(proxy.url);
  await told(second.socket, "connect");
  assert.equal(first.socket.active, false);
  assert.equal(second.leads, true);
});

test("the stream is lost, and found again", async () => {
  const tabs = await openTabs(4), ids = tabs.map(({ socket }) => socket.id), connects = proxy.posts("connect").length;
  proxy.cut();
  for (const { socket } of tabs) assert.equal((await told(socket, "disconnect"))[0], "transport close");
  await until(() => tabs.every(({ socket }) => socket.connected));
  assert.deepEqual(tabs.map(({ socket }) => socket.id), ids);
  assert(tabs.every(({ socket }) => socket.recovered));
  assert.equal(proxy.posts("connect").length, connects + 1, "only the leader has to ask");
});

test("a server that is not there", async () => {
  proxy.rule = () => "refuse";
  const tabs = range(0, 3).map(() => browser.open());
  for (const tab of tabs) tab.connect(proxy.url);
  for (const { socket } of tabs) assert((await told(socket, "connect_error"))[0].message);
  proxy.rule = () => undefined;
  for (const { socket } of tabs) await told(socket, "connect");
  assert.equal(proxy.posts("stream").length, 1);
});

test("a leader that gives up leaves it to others", async () => {
  const tabs = await openTabs(3), leader = await leaderOf(tabs), rest = tabs.filter(tab => tab !== leader);
  const ids = rest.map(({ socket }) => socket.id);
  leader.socket.io.reconnection(false);
  proxy.cut();
  await told(leader.socket, "disconnect");
  await server.do("last");
  await arrived(rest, "last", 0);
  assert.deepEqual(rest.map(({ socket }) => socket.id), ids);
  assert.equal(leader.socket.connected, false);
});

test("a leader whose stream another tab has taken", async () => {
  const tabs = await openTabs(3), leader = await leaderOf(tabs);
  leader.hang();
  const rest = tabs.filter(tab => tab !== leader);
  await leaderOf(rest);
  await server.do("news", { n: 20 });
  await arrived(rest, "news", 19);
  leader.wake();
  await server.do("last");
  await arrived(tabs, "last", 0);
  for (const { socket } of tabs) {
    assert.deepEqual(numbers(socket, "news"), range(0, 20));
    assert.deepEqual(socket.told.length, 1);
  }
  assert.equal(tabs.filter(tab => tab.leads).length, 1);
});

test("a new leader that knows less than others and one that knows more", async () => {
  const [leader, behind, ahead] = await openTabs(3);
  assert(leader.leads);
  behind.hang();
  await server.do("news", { n: 10 });
  await arrived([leader, ahead], "news", 9);
  // It gets the lock before it has read what the old leader said last.
  const waiting = [];
  const { run } = behind;
  behind.run = call => waiting.push(call);
  behind.wake();
  delete behind.run;
  leader.crash();
  void run;
  for (const call of waiting) behind.run(call);
  await server.do("last");
  await arrived([behind, ahead], "last", 0);
  for (const { socket } of [behind, ahead]) assert.deepEqual(numbers(socket, "news"), range(0, 10));
});

test("what has no id is not taken for what another stream has brought already", async () => {
  const [leader, behind, ahead] = await openTabs(3);
  behind.hang();
  await server.do("news", { n: 10 });
  await arrived([leader, ahead], "news", 9);
  const run = behind.run, waiting = [];
  behind.run = call => waiting.push(call);
  behind.wake();
  behind.run = run;
  leader.crash();  // so that the next one begins where it was before the ten
  await until(() => behind.leads, "the one that is behind leads");
  for (const call of waiting) behind.run(call);
  const repeats = line => line.includes(`${behind.name} says`) && /"kind":"event".*"id":"/.test(line);
  await until(() => browser.history.filter(repeats).length >= 10, "all ten have come again");
  await server.ask("/kick", { sid: ahead.socket.id });
  assert.equal((await told(ahead.socket, "disconnect"))[0], "io server disconnect");
  assert.deepEqual(numbers(ahead.socket, "news"), range(0, 10));
});

test("a tab that asks twice who it is", async () => {
  const [tab] = await openTabs(1), { socket } = tab, { id } = socket, before = proxy.posts("connect").length;
  let release;
  const released = new Promise(done => { release = done; });
  proxy.rule = ({ path }) => path === "connect" ? () => released : undefined;
  proxy.cut();
  await until(() => proxy.posts("connect").length === before + 1, "it asks");
  tab.dispatch("freeze");  // it gives up the lock, gets it again and begins anew
  await until(() => proxy.posts("connect").length === before + 2, "it asks again");
  release();
  await until(() => socket.connected, "it is back");
  assert.equal(await socket.emitWithAck("echo", 1), 1);
  assert.equal(socket.id, id);
  assert.deepEqual(proxy.posts("disconnect"), [], "the answer that it did not wait for any more ended nobody");
});

test("who knew a tab that hung has gone before it", async () => {
  const [first, second] = await openTabs(2), ids = [first, second].map(({ socket }) => socket.id);
  first.hang();
  const third = browser.open();
  third.connect(proxy.url);
  await told(third.socket, "connect");
  second.crash();
  first.crash();
  for (const id of ids) await until(() => isDisconnected(id), `the third tab ends ${id}`);
  assert.equal(third.socket.told.length, 1);
});

test("a server that stops says when to come back", async () => {
  const first = await Server.start({ HYBRID_RETRY_MS: "3600000" }), between = await Proxy.start(first.port);
  let second;
  try {
    const tabs = [browser.open(), browser.open()];
    for (const tab of tabs) tab.connect(between.url);
    for (const { socket } of tabs) await told(socket, "connect");
    await first.stop();
    for (const { socket } of tabs) {
      const [reason, { wait }] = await told(socket, "disconnect");
      assert.equal(reason, "transport close");
      assert(wait >= 1800_000 && wait <= 5400_000, wait);
    }
    second = await Server.start();
    between.target = second.port;
    const before = between.requests.length;
    (await until(() => tabs.find(tab => tab.socket.io.link.leading), "a tab leads")).dispatch("online");
    for (const { socket } of tabs) assert.equal((await told(socket, "gap"))[0].reason, "restarted");
    assert.equal(between.requests[before].path, "connect");
  } finally {
    for (const tab of browser.tabs) tab.crash();
    await between.down();
    await first.stop();
    await second?.stop();
  }
});

test("tabs that go", async () => {
  const tabs = await openTabs(4), ids = tabs.map(({ socket }) => socket.id);
  const leader = await leaderOf(tabs), [crashing, closing, last] = tabs.filter(tab => tab !== leader);
  crashing.crash();
  await until(() => isDisconnected(ids[tabs.indexOf(crashing)]));
  closing.close();
  await until(() => isDisconnected(ids[tabs.indexOf(closing)]));
  leader.crash();
  await until(() => isDisconnected(ids[tabs.indexOf(leader)]));
  assert.equal((await server.status()).streams, 1);
  assert.deepEqual(last.socket.told.length, 1);
  last.socket.disconnect();
  await until(async () => (await server.status()).streams === 0);
});

test("a page without locks is alone", async () => {
  const tabs = range(0, 2).map(() => browser.open());
  for (const tab of tabs) {
    tab.context.navigator.locks.request = () => Promise.reject(new DOMException("not here", "SecurityError"));
    tab.connect(proxy.url);
  }
  for (const { socket } of tabs) await told(socket, "connect");
  assert.equal((await server.status()).streams, 2);
});

test("a page out of the browser's cache", async () => {
  const tabs = await openTabs(2), [{ socket }] = tabs, { id } = socket;
  tabs[0].dispatch("pagehide", { persisted: true });
  tabs[0].hang();
  await until(() => isDisconnected(id));
  await server.do("news", { args: ["while it was away"] });
  tabs[0].wake();
  tabs[0].dispatch("pageshow", { persisted: true });
  await told(socket, "gap");
  assert.notEqual(socket.id, id);
  assert.deepEqual(socket.told.map(item => item[0]), ["connect", "disconnect", "connect", "gap"]);
  await server.do("last");
  await arrived(tabs, "last", 0);
  assert.deepEqual(numbers(socket, "news"), []);
  assert.equal((await server.status()).streams, 1);
});

// -- whatever happens

/** A generator of numbers that are the same for the same seed. */
function chances(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let value = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}

const pause = ms => new Promise(done => setTimeout(done, ms));

/** Tabs come, go, hang and crash and streams break while events flow. */
class Turmoil {
  emitted = 0;
  sent = new Map();   // private events by sid
  ids = new Map();    // all that a tab has ever had
  rounds = 0;

  constructor(seed) {
    this.chance = chances(seed);
    // What the network does is by another generator: how often it is asked depends on time.
    const luck = chances(seed + 1_000_000);
    browser.latency = () => luck() ** 4 * 30;
    proxy.rule = ({ path }) => path !== "stream" && luck() < 0.3 ? () => pause(luck() * 50) : undefined;
  }

  get tabs() {
    return [...browser.tabs];
  }

  any(list) {
    return list[Math.floor(this.chance() * list.length)];
  }

  open() {
    if (this.tabs.length >= 6) return;
    const tab = browser.open();
    tab.connect(proxy.url);
    tab.lives = [];  // what it got under each of its ids, which may begin before it is told that it is connected
    const life = () => {
      const { id } = tab.socket;
      if (tab.lives.at(-1)?.id !== id) tab.lives.push({ id, from: this.emitted, news: [], private: [] });
      this.ids.set(id, tab);
      return tab.lives.at(-1);
    };
    for (const name of ["connect", "disconnect", "connect_error", "gap"]) {
      tab.socket.on(name, (...args) => tab.note(name, tab.socket.id, JSON.stringify(args)));
    }
    tab.socket.on("connect", life);
    for (const name of ["news", "private"]) {
      tab.socket.on(name, number => {
        tab.note(name, number);
        life()[name].push(number);
      });
    }
  }

  async emit() {
    const n = 1 + Math.floor(this.chance() * 8), first = this.emitted;
    this.emitted += n;
    await server.do("news", { first, n });
  }

  async whisper() {
    const tab = this.any(this.tabs.filter(({ socket }) => socket.connected));
    if (!tab) return;
    const { id } = tab.socket, sent = this.sent.get(id) ?? [];
    this.sent.set(id, [...sent, sent.length]);
    await server.do("private", { args: [sent.length], to: id });
  }

  async step() {
    const tab = this.any(this.tabs);
    const deeds = [[30, () => this.emit()], [15, () => this.whisper()], [12, () => this.open()], [4, () => tab?.close()],
      [5, () => tab?.crash()], [7, () => tab?.hang()], [14, () => tab?.wake()], [3, () => tab?.dispatch("freeze")],
      [4, () => proxy.cutStreams()], [3, () => tab?.dispatch("online")]];
    let choice = this.chance() * deeds.reduce((sum, [weight]) => sum + weight, 0);
    await deeds.find(([weight]) => (choice -= weight) < 0)[1]();
    await pause(this.chance() * 40);
  }

  /** Everybody is awake and has everything, once and in order; whoever had to become somebody else knows it. */
  async settle() {
    for (const tab of this.tabs) tab.wake();
    this.open();
    while (!await this.#reach());
    for (const { name, lives, socket } of this.tabs) {
      for (const { id, from, news, private: whispers } of lives) {
        const isLast = id === lives.at(-1).id, first = news[0] ?? this.emitted, end = isLast ? this.emitted : first + news.length;
        assert.deepEqual(news, range(first, end), `${name} as ${id}`);
        assert(first <= from || (!news.length && !isLast), `${name} as ${id}: ${first} is not all since ${from}`);
        const sent = this.sent.get(id) ?? [];
        assert.deepEqual(whispers, isLast ? sent : sent.slice(0, whispers.length), `${name} as ${id}`);
      }
      assert.equal(lives.length - 1, gaps(socket), name);
    }
    await until(async () => (await server.status()).streams === 1, "one stream");
    const gone = [...this.ids].filter(([, tab]) => !browser.tabs.has(tab)).map(([id]) => id);
    await until(async () => (await Promise.all(gone.map(isDisconnected))).every(Boolean), "who has gone is gone");
  }

  /** Is everybody reached? Not if somebody, who did not know it yet, was nobody any more and has been told so. */
  async #reach() {
    await until(() => this.tabs.every(({ socket }) => socket.connected), "everybody is connected");
    const round = this.rounds++, before = this.tabs.map(({ socket }) => gaps(socket));
    await server.do("last", { args: [round] });
    const told = this.tabs.map(({ socket }, i) => () => gaps(socket) > before[i]);
    await until(() => this.tabs.every(({ socket }, i) => told[i]() || numbers(socket, "last").includes(round)), `round ${round}`);
    return !told.some(isTold => isTold());
  }
}

const gaps = socket => socket.told.filter(([name]) => name === "gap").length;

// SEEDS=7,8,9 tries these. A seed decides what is done; when it meets what is under way, the machine.
let failed = false;

for (const seed of (process.env.SEEDS || "1,2,3,4,5,6").split(",").map(Number)) {
  test(`turmoil ${seed}`, { timeout: 150_000 }, async context => {
    if (failed && !process.env.SEEDS) return context.skip("one has failed");
    const turmoil = new Turmoil(seed);
    try {
      for (let step = 0; step < 60; step++) await turmoil.step();
      await turmoil.settle();
    } catch (error) {
      failed = true;
      context.diagnostic(`again: SEEDS=${seed} node --test --test-name-pattern=turmoil tabs.test.mjs`);
      for (const line of browser.history) context.diagnostic(line);
      throw error;
    }
  });
}
