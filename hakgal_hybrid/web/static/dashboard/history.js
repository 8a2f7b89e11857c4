// The last ten minutes. The server remembers them (under its own front); this page goes on from there.

export const SPAN_MS = 600_000;

export class History {
  #rows = [];
  #started = null;

  /** Take what the server remembers in place of what is here, which may have slept. */
  load({ columns, samples }) {
    if (samples.length < 2) return;
    this.#rows = samples.map(sample => Object.fromEntries(columns.map((name, index) => [name, sample[index]])));
  }

  /** Add a status, and return when it was taken: by the server's clock, because this one's may be wrong. */
  add(status) {
    const started = status.started_s * 1000, now = started + status.uptime_s * 1000;
    if (this.#started !== null && this.#started !== started) this.#rows = [];  // another life of the server
    this.#started = started;
    const lanes = Object.values(status.server.lanes ?? {});
    const row = {
      at_ms: now, streams: status.streams, loop_lag_ms: status.server.loop_lag?.latest_max_ms ?? null,
      oldest_undelivered_s: status.oldest_undelivered_s, appended: status.log.appended, delivered: status.traffic.delivered,
      gaps: status.log.gaps, refused: status.refused, stalled: status.traffic.ended.stalled ?? 0,
      rejected: lanes.reduce((sum, lane) => sum + lane.rejected, 0),
    };
    // What is too near to tell a rate from gives way.
    this.#rows = this.#rows.filter(item => item.at_ms < now - 1000 && item.at_ms >= now - SPAN_MS - 5000);
    // As long as the server is young, all that was counted was counted in this time.
    if (status.uptime_s * 1000 < SPAN_MS && this.#rows[0]?.at_ms !== started)
      this.#rows.unshift({ at_ms: started, loop_lag_ms: null });
    this.#rows.push(row);
    return now;
  }

  /** Values as they were: [[ms, value], …]. */
  values(name) {
    return this.#rows.map(row => [row.at_ms, row[name] ?? null]);
  }

  /** By how much counters grew for each second. */
  rates(...names) {
    return this.#rows.slice(1).map((row, index) => {
      const before = this.#rows[index], seconds = (row.at_ms - before.at_ms) / 1000;
      return [row.at_ms, Math.max(0, sum(row, names) - sum(before, names)) / Math.max(0.5, seconds)];
    });
  }

  /** By how much counters grew in all this time. */
  growth(...names) {
    return this.#rows.length ? sum(this.#rows.at(-1), names) - sum(this.#rows[0], names) : 0;
  }
}

const sum = (row, names) => names.reduce((total, name) => total + (row[name] ?? 0), 0);

