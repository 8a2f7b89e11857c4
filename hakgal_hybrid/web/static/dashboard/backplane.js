// The log that several processes have: how it stands with it, and which processes these are.

import { $, make, number, setLevel, setText } from "./page.js";

const LEVELS = { live: "good", new: "", settling: "warn", away: "bad", misconfigured: "bad" };
const WORDS = {
  new: "No answer of Redis yet",
  live: "Live: events of all processes come",
  settling: "Settling: the log is new or has lost entries, and takes nothing for about two seconds",
  away: "Away: events of other processes do not come, and those of this one wait",
  misconfigured: "Misconfigured: a person has to do something",
};
/** From this age on what waits is worth a look, in seconds. */
const OUTBOX_S = 5;

const time = seconds => seconds < 1 ? `${number(seconds * 1000)} ms` : `${number(seconds)} s`;
const losses = ({ tail }) => Object.entries(tail.holes).filter(([, count]) => count);
/** The number of an id; numbers of another generation do not compare. */
const parts = id => id.split("-").map(Number);

/** What the health says of it, as [level, what, how it is]; nothing without a backplane. */
export function backplaneCheck({ backplane }) {
  if (backplane.state === "off") return [];
  const { outbox } = backplane.sender, waits = outbox.events && outbox.age_s > OUTBOX_S;
  const level = LEVELS[backplane.state] === "good" && waits ? "warn" : LEVELS[backplane.state];
  return [[level, "Backplane", [backplane.error ?? backplane.state, outbox.events ? `${number(outbox.events)} events wait` : null,
    losses(backplane).length ? `${lost(backplane)} since start` : null].filter(Boolean).join("; ")]];
}

const lost = backplane => losses(backplane).map(([reason, count]) => `${number(count)} ${reason}`).join(", ") || "none";

export function showBackplane({ backplane }) {
  const shown = backplane.state !== "off";
  $("backplane").hidden = !shown;
  if (!shown) return;
  const { sender, tail, peers } = backplane, { outbox } = sender;
  setText($("backplane-where"), `${backplane.address}, name ${backplane.name}`);
  setLevel($("backplane-state"), LEVELS[backplane.state]);
  setText($("backplane-state"), `${WORDS[backplane.state] ?? backplane.state}.${backplane.error ? ` ${backplane.error}` : ""}`);
  facts([
    ["Position", tail.position],
    ["Lag", time(backplane.lag_s)],
    ["Outbox", outbox.events ? `${number(outbox.events)} events, ${number(outbox.bytes / 1024)} KiB, ${number(outbox.age_s)} s` : "empty"],
    ["Last call", time(sender.append_s)],
    ["Dropped here", number(outbox.dropped)],
    ["Missing", lost(backplane)],
    ["All processes", `${number(backplane.processes)} with ${number(backplane.clients)} clients`],
  ]);
  const rows = peers.map(peer => row(peer, Math.max(0, ...peers.filter(other => parts(other.position)[0] === parts(peer.position)[0])
    .map(other => parts(other.position)[1] - parts(peer.position)[1]))));
  $("backplane-peers").hidden = !rows.length;
  $("peers").replaceChildren(...rows);
}

function facts(found) {
  const list = $("backplane-facts");
  if (!list.children.length) list.append(...found.map(([name]) => make("div", {}, make("dt", {}, name), make("dd", {}))));
  found.forEach(([, text], index) => setText(list.children[index].lastElementChild, text));
}

function row(peer, behind) {
  return make("tr", {},
    make("td", {}, make("code", {}, peer.process.slice(0, 8)), peer.here ? " (this one)" : ""), make("td", { class: "wide", title: peer.host }, peer.host),
    make("td", { class: "number" }, peer.pid), make("td", {}, peer.kind),
    ...[number(peer.clients), number(peer.streams), number(behind), time(peer.lag_s), `${number(peer.heard_s)} s ago`].map(
      text => make("td", { class: "number" }, text)));
}
