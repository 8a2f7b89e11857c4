// The tiles and the checks: what is going on, and whether that is as it should be.

import { sparkline } from "./charts.js";
import { SPAN_MS } from "./history.js";
import { $, duration, make, number, setLevel, setText } from "./page.js";

/** What must hold (docs/dashboard.md): over the first it is worth a look, over the second something is wrong. */
const LIMITS = { lag: [30, 100], oldest: [5, 60] };
const DROPS = ["gaps", "refused", "stalled", "rejected"];

const level = (value, [warn, bad]) => value === null || value === undefined ? "" : value >= bad ? "bad" : value >= warn ? "warn" : "good";
const last = points => points.at(-1)?.[1] ?? null;
const most = points => points.length ? Math.max(...points.map(([, value]) => value ?? 0)) : null;
const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

const TILES = [
  { title: "Streams", least: 4, points: history => history.values("streams"),
    sub: status => `${plural(status.clients, "client")}, ${number(status.refused)} refused` },
  { title: "Events", unit: "/s", least: 1, points: history => history.rates("appended"),
    sub: (status, points) => `peak ${number(most(points))}/s` },
  { title: "Deliveries", unit: "/s", least: 1, points: history => history.rates("delivered"),
    sub: (status, points) => `peak ${number(most(points))}/s` },
  { title: "Event-loop lag", unit: "ms", least: 30, points: history => history.values("loop_lag_ms"),
    sub: status => status.server.loop_lag ? `p99 of a minute ${number(status.server.loop_lag.p99_ms)} ms` : "not measured under this server",
    level: value => level(value, LIMITS.lag) },
  { title: "Oldest backlog", unit: "s", least: 5, points: history => history.values("oldest_undelivered_s"),
    sub: status => `most since start ${number(status.oldest_undelivered_max_s)} s`, level: value => level(value, LIMITS.oldest) },
  { title: "Drops", unit: "in 10 min", least: 1, points: history => history.rates(...DROPS),
    value: history => history.growth(...DROPS),
    sub: (status, points, history) => `${plural(history.growth("gaps"), "gap")}, ${number(history.growth("refused", "rejected"))} turned away`,
    level: value => value > 0 ? "warn" : "good" },
];

function waited(seconds) {
  return seconds < 1 ? `${number(seconds * 1000)} ms` : `${number(seconds)} s`;
}

/** When the first of these was measured, or ten minutes ago: before that there is nothing to show. */
function begins(points, now) {
  return Math.max(now - SPAN_MS, points.find(([, value]) => value !== null)?.[0] ?? 0);
}

export function showTiles(status, history, now) {
  const tiles = $("tiles");
  if (!tiles.children.length)
    for (const { title, unit } of TILES)
      tiles.append(make("article", { class: "tile" }, make("h3", {}, title),
        make("p", { class: "value" }, make("span", {}, "–"), unit ? make("small", {}, unit) : null),
        make("p", { class: "sub muted" }), sparkline([], 0, 1, 1)));
  TILES.forEach((tile, index) => {
    const element = tiles.children[index], points = tile.points(history);
    const value = tile.value ? tile.value(history) : last(points);
    setText(element.querySelector(".value span"), number(value));
    setText(element.querySelector(".sub"), tile.sub(status, points, history));
    setLevel(element, tile.level ? tile.level(value) : "");
    element.lastElementChild.replaceWith(sparkline(points, begins(points, now), now, tile.least));
  });
  setText($("figures-title"), `Now, and the last ${duration(Math.round((now - begins(history.values("streams"), now)) / 1000))}`);
}

/** What is looked at, as [level, what, how it is]. */
export function checks(status, history, host) {
  const { server, log, traffic } = status, lag = server.loop_lag, lane = server.lanes?.host;
  const found = [];
  if (host) found.push([host.level, "The host answers", host.text]);
  if (lag?.n) found.push([level(lag.p99_ms, LIMITS.lag), "Event loop", `p50 ${number(lag.p50_ms)}, p99 ${number(lag.p99_ms)}, max ${number(lag.max_ms)} ms late in the last minute`]);
  found.push([level(status.oldest_undelivered_s, LIMITS.oldest), "Delivery", status.oldest_undelivered_s
    ? `the oldest event has been waiting for ${waited(status.oldest_undelivered_s)}` : "every open stream has everything"]);
  if (server.fanout) found.push([server.fanout.blocked ? "warn" : "good", "Slow readers", server.fanout.blocked
    ? `${plural(server.fanout.blocked, "stream")} of ${number(server.fanout.streams)} with a full socket` : "no socket is full"]);
  if (lane) found.push([lane.waiting ? "warn" : "good", "Threads for the host", `${number(lane.busy)} busy, ${plural(lane.waiting, "request")} waiting`]);
  const { polling, websocket, not_upgraded: stuck, oversized } = status.socketio;
  if (status.socketio.opened) found.push([stuck || oversized ? "warn" : "good", "Socket.IO",
    [`${number(websocket)} on a WebSocket`, `${number(polling)} polling`, stuck ? `${number(stuck)} of them for 30 s, though they could have a WebSocket` : null,
      oversized ? `${plural(oversized, "message")} too large` : null].filter(Boolean).join(", ")]);
  const lost = history.growth(...DROPS);
  found.push([lost ? "warn" : "good", "Losses in 10 minutes", lost
    ? `${plural(history.growth("gaps"), "gap")} sent, ${plural(history.growth("stalled"), "stalled stream")} closed, ${number(history.growth("refused", "rejected"))} turned away`
    : "no gap sent, nobody turned away"]);
  found.push(["good", "Log", `${number(log.events)} events, ${number(log.bytes / 1024)} KiB; ${number(traffic.delivered)} delivered since start`]);
  const patched = Object.keys(status.patched).filter(name => status.patched[name]);
  if (patched.length) found.push(["warn", "Patched process", `${patched.join(" and ")} has patched the standard library`]);
  if (status.receiver_errors + status.acks_dropped)
    found.push(["warn", "Errors", `${number(status.receiver_errors)} receivers raised, ${number(status.acks_dropped)} acknowledgements dropped`]);
  return found;
}

const WORDS = { good: "good", warn: "worth a look", bad: "wrong", "": "not known" };

export function showChecks(found) {
  const list = $("checks");
  found.forEach(([how, what, text], index) => {
    let item = list.children[index];
    if (!item) list.append(item = make("li", {}, make("span", { "aria-hidden": "true" }),
      make("b", {}, make("span", {}), make("span", { class: "hidden" })), make("small", {})));
    setLevel(item, how);
    setText(item.children[1].children[0], what);
    setText(item.children[1].children[1], `: ${WORDS[how]}`);
    setText(item.children[2], text);
  });
  while (list.children.length > found.length) list.lastElementChild.remove();
}

/** The worst of it, in two words. */
export function verdict(found) {
  const levels = found.map(([how]) => how);
  if (levels.includes("bad")) return ["bad", "Something is wrong"];
  return levels.includes("warn") ? ["warn", "Worth a look"] : ["good", "Healthy"];
}

export function identity(status) {
  const mode = { sse: "SSE and HTTP", "sse+socketio": "SSE, HTTP and Socket.IO", websocket: "the host's WebSocket" }[status.transport] ?? status.transport;
  return `Profile ${status.profile} · ${mode} · up ${duration(status.uptime_s)}`;
}
