/** Events to the server: in order, each once, whatever becomes of the requests that carry them. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Proxy, Server, connect, event, range, told, until } from "./harness.mjs";

let server, proxy, batch = 0;

before(async () => {
  server = await Server.start({ HYBRID_MAX_MESSAGE_BYTES: "20000" });
  proxy = await Proxy.start(server.port);
});

after(async () => {
  await proxy.down();
  await server.stop();
});

/** A test with a connected socket; `note(i)` emits a value of this test alone, `noted()` tells which were handled. */
function testEmits(name, run) {
  test(name, async () => {
    const socket = connect(proxy.url), own = `batch ${++batch}`;
    const note = (number, ...more) => socket.emit("note", [own, number], ...more);
    // Sorted: handlers begin in order, but in threads of their own, so which writes first is the scheduler's choice.
    const noted = async () => (await server.notes()).calls.filter(([batch]) => batch === own).map(([, number]) => number)
      .sort((one, other) => one - other);
    try {
      await event(socket, "connect");
      await run(socket, note, noted);
    } finally {
      proxy.rule = () => undefined;
      socket.disconnect();
    }
  });
}

testEmits("many at once", async (socket, note, noted) => {
  let flying = 0, most = 0;
  proxy.rule = ({ path }) => {
    if (path !== "emit") return undefined;
    most = Math.max(most, ++flying);
    return async () => { flying--; };
  };
  const acked = [];
  for (const number of range(0, 200)) note(number, value => acked.push(value[1]));
  await until(() => acked.length === 200);
  assert.deepEqual(await noted(), range(0, 200));
  assert.deepEqual(acked.sort((a, b) => a - b), range(0, 200));
  assert(most <= 4, `${most} in flight`);
});

testEmits("answers that are lost and requests that do not arrive", async (socket, note, noted) => {
  const fates = [undefined, "lose the answer", "refuse"], tried = new Set();
  proxy.rule = ({ path, body }) => {
    if (path !== "emit" || tried.has(body.number)) return undefined;
    tried.add(body.number);
    return fates[body.number % 3];
  };
  const acked = [];
  for (const number of range(0, 12)) note(number, value => acked.push(value[1]));
  await until(() => acked.length === 12);
  assert.deepEqual(await noted(), range(0, 12));
  assert.equal(socket.told.length, 1, "never disconnected");
});

testEmits("one that is too large", async (socket, note, noted) => {
  const acked = [];
  for (const number of range(0, 3)) note(number, value => acked.push(value[1]));
  const refused = assert.rejects(socket.emitWithAck("note", "x".repeat(30_000)));
  for (const number of range(3, 10)) note(number, value => acked.push(value[1]));
  await refused;
  await until(() => acked.length === 10);
  assert.deepEqual(await noted(), range(0, 10));
});

testEmits("a server that is busy, or a proxy that fails", async (socket, note, noted) => {
  const answers = [[429, { code: "overloaded" }], [503, { code: "overloaded" }], [502], [500]];
  proxy.rule = ({ path }) => path === "emit" ? answers.shift() : undefined;
  const acked = [];
  for (const number of range(0, 6)) note(number, value => acked.push(value[1]));
  await until(() => acked.length === 6);
  assert.deepEqual(await noted(), range(0, 6));
});

testEmits("numbers that went astray", async (socket, note, noted) => {
  const spoilt = { 2: [409, { code: "still_running" }], 8: [409, { code: "out_of_turn", expected: 8 }] };
  proxy.rule = ({ path, body }) => {
    if (path !== "emit") return undefined;
    const answer = spoilt[body.number];
    delete spoilt[body.number];
    return answer;
  };
  const acked = [];
  for (const number of range(0, 8)) note(number, value => acked.push(value[1]));
  await until(() => acked.length === 8);
  assert.deepEqual(await noted(), range(0, 8));
});

testEmits("what has no handler, or fails, does not hold up the rest", async (socket, note, noted) => {
  const acked = [];
  socket.emit("nobody", () => acked.push("nobody"));
  socket.emit("boom", () => acked.push("boom"));
  socket.emit("reverse", "not bytes", () => acked.push("bytes"));
  for (const number of range(0, 6)) note(number);
  await until(async () => (await noted()).length === 6);
  assert.deepEqual(await noted(), range(0, 6));
  assert.deepEqual(acked, []);
});

testEmits("an identity that the server has forgotten", async (socket, note, noted) => {
  const { id } = socket;
  let spoilt = true;
  proxy.rule = ({ path }) => spoilt && path === "emit" ? [403, { code: "bad_token" }] : undefined;
  for (const number of range(0, 6)) note(number);
  await event(socket, "disconnect");
  spoilt = false;
  await event(socket, "connect");
  assert.notEqual(socket.id, id);
  await until(async () => (await noted()).length === 6);
  assert.deepEqual(await noted(), range(0, 6));
  assert.equal((await told(socket, "gap"))[0].reason, "lapsed");
});

testEmits("a handler that outlasts its connection", async (socket, note, noted) => {
  const { id } = socket, own = ["slow", Math.random()];
  const answer = socket.emitWithAck("slow", own);
  await until(async () => (await server.notes()).calls.some(call => call[1] === own[1]));
  proxy.cut();
  await event(socket, "disconnect");
  note(1);
  await event(socket, "connect");
  assert.equal(socket.id, id);
  await until(async () => (await noted()).length);
  await server.ask("/release", {});
  assert.deepEqual(await answer, own);
  assert.equal((await server.notes()).calls.filter(call => call[1] === own[1]).length, 1);
});

testEmits("what is emitted while disconnected", async (socket, note, noted) => {
  proxy.rule = () => "refuse";
  proxy.cut();
  await event(socket, "disconnect");
  for (const number of range(0, 6)) note(number);
  socket.volatile.emit("note", "volatile");
  const late = assert.rejects(socket.timeout(10).emitWithAck("note", "late"), /timed out/);
  assert.equal(socket.sendBuffer.length, 7);
  await late;
  const order = [];
  socket.on("connect", () => order.push("connect"));
  socket.onAnyOutgoing((name, [, number]) => order.push(number));
  proxy.rule = () => undefined;
  await until(async () => (await noted()).length === 6);
  assert.deepEqual(await noted(), range(0, 6));
  assert.deepEqual(order, [...range(0, 6), "connect"]);
  const { calls } = await server.notes();
  assert(!calls.includes("volatile") && !calls.includes("late"));
});

testEmits("emitting, then leaving at once", async (socket, note, noted) => {
  for (const number of range(0, 20)) note(number);
  const { id } = socket;
  socket.disconnect();
  await until(async () => (await server.notes()).disconnects.some(item => item.sid === id));
  assert.deepEqual(await noted(), range(0, 20));
});
