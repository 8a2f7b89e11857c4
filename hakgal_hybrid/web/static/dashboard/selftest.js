// The latency self-test: 50 requests one after the other, as the measurement protocol has it.

import { base, Problem } from "./api.js";
import { latencyHistogram } from "./charts.js";
import { $, announce, make, number, setLevel, setText } from "./page.js";

const REQUESTS = 50;
/** What must hold, in ms: the 95th percentile, and the mean. */
const TARGET_P95 = 150, TARGET_MEAN = 100;

export class SelfTest {
  #url = new URL("status", base);

  constructor() {
    $("test-start").addEventListener("click", () => this.#run());
  }

  /** The host's own `/health`; where it has none, the status, whose figures are then said to be of that. */
  set url(url) {
    this.#url = url;
    if (!$("test-start").disabled) setText($("test-url"), this.#url.pathname);
  }

  async #run() {
    const button = $("test-start"), progress = $("test-progress"), verdict = $("test-verdict");
    button.disabled = true;
    setText(button, "Running …");
    progress.hidden = false;
    setLevel(verdict, "");
    setText(verdict, "");
    try {
      show(await measure(this.#url, done => { progress.value = done; }));
    } catch (error) {
      setLevel(verdict, "bad");
      setText(verdict, `Not measured: ${error.message}`);
    }
    button.disabled = false;
    setText(button, "Run again");
    progress.hidden = true;
    button.focus();
    announce(`Latency self-test: ${verdict.textContent}`);
  }
}

async function measure(url, onDone) {
  const times = [];
  for (let done = 0; done < REQUESTS; done++) {
    times.push(await timed(url));
    onDone(done + 1);
  }
  return times;
}

async function timed(url) {
  const began = performance.now();
  const response = await fetched(url);
  await response.arrayBuffer();
  if (response.status >= 500) throw new Problem(response.status, "", `${url.pathname} answered ${response.status}`);
  return performance.now() - began;
}

async function fetched(url) {
  try {
    return await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(30_000) });
  } catch {
    throw new Problem(0, "unreachable", `${url.pathname} cannot be reached`);
  }
}

/** The nearest rank: `sorted[ceil(n × share) − 1]`. */
export function percentile(times, share) {
  const sorted = [...times].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)];
}

function show(times) {
  const mean = times.reduce((sum, time) => sum + time, 0) / times.length, p95 = percentile(times, 0.95);
  const holds = p95 < TARGET_P95 && mean < TARGET_MEAN;
  setLevel($("test-verdict"), holds ? "good" : "bad");
  setText($("test-verdict"), `p95 ${number(p95)} ms, mean ${number(mean)} ms: ${holds ? "both targets hold" : "a target is missed"} (${TARGET_P95} and ${TARGET_MEAN} ms)`);
  const facts = [["p50", percentile(times, 0.5)], ["p95", p95], ["mean", mean], ["min", Math.min(...times)], ["max", Math.max(...times)]];
  $("test-facts").hidden = false;
  $("test-facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, `${number(value)} ms`))),
    make("div", {}, make("dt", {}, "n"), make("dd", {}, times.length)));
  $("test-chart").replaceChildren(latencyHistogram(times, TARGET_P95, Math.max(240, $("test-chart").clientWidth)));
}
