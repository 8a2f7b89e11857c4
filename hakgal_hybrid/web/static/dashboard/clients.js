// The table of clients, those first that are furthest behind.

import { ask } from "./api.js";
import { $, duration, make, number, setText } from "./page.js";

const LEVELS = { open: "good", away: "", connecting: "", caller: "" };

export async function showClients(ownId) {
  const { total, clients } = await ask(`clients?limit=${$("clients-limit").value}`);
  setText($("clients-count"), total > clients.length ? `${number(clients.length)} of ${number(total)}` : number(total));
  const rows = clients.map(client => row(client, ownId));
  if (!rows.length) rows.push(make("tr", {}, make("td", { colspan: 10, class: "muted" }, "Nobody is connected.")));
  $("clients").replaceChildren(...rows);
  hint();
}

/** Say that there is more to the right, where a finger or a touchpad shows no scroll bar. */
export function hint() {
  for (const name of ["clients", "peers"]) {
    const { scrollWidth, clientWidth } = $(name).closest(".scroll");
    $(`${name}-hint`).hidden = scrollWidth <= clientWidth + 1;
  }
}

function row(client, ownId) {
  const own = ownId && ownId.startsWith(client.sid.replace("…", ""));
  const level = client.lag_s > 5 ? "bad" : LEVELS[client.state];
  return make("tr", {},
    make("td", {}, make("code", { title: client.sid }, client.sid.length > 9 ? `…${client.sid.slice(-9)}` : client.sid), own ? " (this page)" : "", client.riders > 1 ? ` · ${client.riders} on its stream` : ""),
    make("td", {}, make("span", { class: "pill", "data-level": level || null }, client.state)),
    ...[number(client.lag_events), number(client.lag_s), number(client.delivered), duration(client.age_s)].map(
      text => make("td", { class: "number" }, text)),
    ...[client.address || "–", client.namespace, client.transport ?? "–",
      client.filter === null ? "–" : client.filter.join(", ") || "all events"].map(text => make("td", { class: "wide", title: text }, text)));
}
