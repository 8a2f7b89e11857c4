/**
 * Pages on several processes behind one port: connects COUNT sockets of the browser client to URL, has each send an event
 * and get its answer, breaks every stream, and does it again. Says as JSON what it has seen.
 */

import { createRequire } from "node:module";
import { join } from "node:path";

const [url, count, script] = process.argv.slice(2);
const { EventSource } = createRequire(join(process.env.CLIENT_MODULES, "/"))("eventsource");
const { io } = await import(script);
const streams = [];

class Breakable extends EventSource {
  constructor(...args) {
    super(...args);
    streams.push(this);
  }
}

const connected = socket => socket.connected || new Promise(done => socket.once("connect", done));
const errors = [], gaps = [];
const began = Date.now();
const sockets = Array.from({ length: Number(count) }, () => {
  const socket = io(url, { forceNew: true, EventSource: Breakable, reconnectionDelay: 50, auth: { a: 1 } });
  socket.on("connect_error", error => errors.push(error.message));
  socket.on("gap", gap => gaps.push(gap.reason));
  return socket;
});
const ask = socket => socket.timeout(20000).emitWithAck("echo", socket.id);

await Promise.all(sockets.map(connected));
const tookMs = Date.now() - began;
const answers = await Promise.all(sockets.map(ask));
const before = sockets.map(socket => socket.id), opened = streams.length;
for (const stream of streams.splice(0)) stream.dispatchEvent(new Event("error"));
await new Promise(done => setTimeout(done, 20));
await Promise.all(sockets.map(connected));
const again = await Promise.all(sockets.map(ask));
const after = sockets.map(socket => socket.id);
console.log(JSON.stringify({ tookMs, errors, gaps, answers, again, before, after, opened }));
for (const socket of sockets) socket.disconnect();
