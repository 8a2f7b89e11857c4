// Small graphics. What they show is also said in words beside them, so they are hidden from screen readers.

import { draw, number } from "./page.js";

const WIDTH = 300, HEIGHT = 48, PAD = 3;

/** A line over time. `points`: [[ms, value or null], …]; shows from `from` to `to` (ms), and at least 0 to `least`. */
export function sparkline(points, from, to, least) {
  const svg = draw("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const top = Math.max(least, ...points.map(([, value]) => value ?? 0));
  const x = at => Math.round((at - from) / (to - from) * WIDTH * 10) / 10;
  const y = value => Math.round((HEIGHT - PAD - value / top * (HEIGHT - 2 * PAD)) * 10) / 10;
  for (const run of runs(points.filter(([at]) => at >= from))) {
    const line = run.map(([at, value]) => `${x(at)},${y(value)}`).join(" ");
    svg.append(draw("polygon", { class: "area", points: `${x(run[0][0])},${HEIGHT} ${line} ${x(run.at(-1)[0])},${HEIGHT}` }),
      draw("polyline", { class: "line", points: line }));
  }
  return svg;
}

/** Stretches without holes: where nothing was measured, nothing is drawn. */
function runs(points) {
  const found = [[]];
  for (const [index, point] of points.entries()) {
    const hole = index > 0 && point[0] - points[index - 1][0] > 15000;
    if (point[1] === null || hole) found.push([]);
    if (point[1] !== null) found.at(-1).push(point);
  }
  return found.filter(run => run.length > 1);
}

/** How often which time was taken, on a logarithmic axis of ms, with a line at `target`; `width` in pixels. */
export function latencyHistogram(times, target, width) {
  const height = 140, left = 24, bottom = 22, top = 14;
  const low = Math.floor(Math.log10(Math.max(0.1, Math.min(...times)))), high = Math.ceil(Math.log10(Math.max(target * 1.5, ...times)));
  const bins = new Array((high - low) * 8).fill(0);
  const bin = time => Math.min(bins.length - 1, Math.max(0, Math.floor((Math.log10(Math.max(0.1, time)) - low) * 8)));
  for (const time of times) bins[bin(time)]++;
  const most = Math.max(...bins);
  const step = (width - left - 4) / bins.length;
  const x = time => left + (Math.log10(time) - low) * 8 * step;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Histogram of ${times.length} times, from ${number(Math.min(...times))} to ${number(Math.max(...times))} ms` });
  bins.forEach((count, index) => {
    const tall = count / most * (height - bottom - top);
    if (count) svg.append(draw("rect", { x: left + index * step + 0.5, y: height - bottom - tall, width: step - 1, height: tall, rx: 1.5 }));
  });
  svg.append(draw("line", { class: "axis", x1: left, x2: width - 4, y1: height - bottom, y2: height - bottom }));
  for (let power = low; power <= high; power++)
    svg.append(draw("text", { x: x(10 ** power), y: height - 8, "text-anchor": power === high ? "end" : "middle" },
      power === high ? `${number(10 ** power)} ms` : number(10 ** power)));
  svg.append(draw("text", { x: left - 6, y: top + 9, "text-anchor": "end" }, most),
    draw("line", { class: "target", x1: x(target), x2: x(target), y1: top - 4, y2: height - bottom }),
    draw("text", { x: x(target) + 5, y: top + 5 }, `p95 < ${target}`));
  return svg;
}
