"""The plots of a run, as SVG."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from ..peers import Peer
from ..workloads import Metric, Workload
from .summary import Summaries

COLOURS = {"ours": "#c0392b", "c": "#555555", "c-coalescing": "#999999"}
OTHERS = "#4a7fb5"
#: From which ratio of the largest to the smallest figure on an axis is logarithmic.
FAR_APART = 10


def draw(folder: Path, summaries: Summaries, peers: list[Peer], rows: list[dict[str, Any]],
         growth: list[dict[str, Any]]) -> list[str]:
    """Write one SVG a workload, one of the ladder's rungs, and one of how cost grows; return their names.

    :raises ImportError: without matplotlib.
    """
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "hakgal_hybrid", "svg.fonttype": "none", "font.size": 9,
                                "axes.spines.top": False, "axes.spines.right": False})
    titles = {peer.key: peer.title for peer in peers}
    names = [name for workload in summaries.workloads if (name := _bars(folder, summaries, workload, titles))]
    if any(row["workload"] == "W1b" and row["values"].get("tried") for row in rows):
        names.append(_rungs(folder, titles, [row for row in rows if row["workload"] == "W1b"]))
    if growth:
        names.append(_growth(folder, titles, growth))
    return names


def _save(figure: Any, folder: Path, name: str) -> str:
    import matplotlib.pyplot as plt

    figure.tight_layout()
    figure.savefig(folder / name, metadata={"Date": None})
    plt.close(figure)
    return name


def _bars(folder: Path, summaries: Summaries, workload: Workload, titles: dict[str, str]) -> str | None:
    """Draw the plotted metrics of a workload's first case side by side: medians, with least and most."""
    import matplotlib.pyplot as plt

    metrics = [metric for metric in workload.metrics if metric.plot]
    cases = summaries.cases(workload)
    shown = [one for one in summaries.of(workload, cases[0]) if one.measured] if cases else []
    if not metrics or not shown:
        return None
    figure, axes = plt.subplots(1, len(metrics), sharey=True, squeeze=False,
                                figsize=(3 + 2.6 * len(metrics), 1 + 0.3 * len(shown)))
    for axis, metric in zip(axes[0], metrics, strict=True):
        _one_axis(axis, metric, shown)
    axes[0][0].set_yticks(range(len(shown)), [titles[one.peer] for one in shown])
    axes[0][0].invert_yaxis()
    figure.suptitle(f"{workload.key}: {workload.title}, {cases[0]}", fontsize=10)
    return _save(figure, folder, f"{workload.key.lower()}.svg")


def _one_axis(axis: Any, metric: Metric, shown: list[Any]) -> None:
    """Bars from zero; points on a logarithmic axis, which has no zero, if they are far apart."""
    figures = {place: one.figures[metric.key] for place, one in enumerate(shown) if metric.key in one.figures}
    positive = [spread.least for spread in figures.values() if spread.least > 0]
    logarithmic = bool(positive) and max(spread.most for spread in figures.values()) > FAR_APART * min(positive)
    if logarithmic:
        axis.set_xscale("log")
        axis.grid(axis="x", linewidth=0.3)
    for place, spread in figures.items():
        middle, least, most = (value / metric.scale for value in (spread.median, spread.least, spread.most))
        style = {"color": COLOURS.get(shown[place].peer, OTHERS), "ecolor": "black", "capsize": 2}
        if not logarithmic:
            axis.barh(place, middle, xerr=[[middle - least], [most - middle]], height=0.7, **style)
        elif least > 0:
            axis.errorbar(middle, place, xerr=[[middle - least], [most - middle]], marker="o", **style)
    arrow = {True: " →", False: " ←", None: ""}[metric.higher]
    axis.set_xlabel(f"{metric.title}{f', {metric.unit}' if metric.unit else ''}{arrow}")


def _rungs(folder: Path, titles: dict[str, str], rows: list[dict[str, Any]]) -> str:
    """Draw latency over the offered rate: where a peer's line leaves for the top, it is overloaded."""
    import matplotlib.pyplot as plt

    case = rows[0]["case"]
    figure, axis = plt.subplots(figsize=(8, 4.5))
    axis.set_prop_cycle(color=["#4a7fb5", "#2e8b57", "#8e6bbf", "#c98a1b", "#2aa5a5", "#7a5c43"])
    for key in dict.fromkeys(row["peer"] for row in rows):
        tried: dict[float, list[float]] = {}
        for row in rows:
            for one in row["values"].get("tried", []) if (row["peer"], row["case"]) == (key, case) else ():
                tried.setdefault(one["rate"], []).append(one["p99_ms"])
        points = [(rate, statistics.median(found)) for rate, found in sorted(tried.items()) if min(found) > 0]
        if points:
            axis.plot(*zip(*points, strict=True), marker=".", linewidth=2 if key == "ours" else 1, label=titles[key],
                      color=COLOURS.get(key))
    axis.axhline(100, color="black", linewidth=0.5, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel=f"events a second offered, {case}", ylabel="p99, ms")
    axis.legend(fontsize=7, frameon=False)
    return _save(figure, folder, "ladder.svg")


def _growth(folder: Path, titles: dict[str, str], growth: list[dict[str, Any]]) -> str:
    """Draw cost over what it depends on: a straight line is a power, its slope the exponent."""
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(one["of"] for one in growth))
    figure, axes = plt.subplots(1, len(kinds), squeeze=False, figsize=(1 + 3.6 * len(kinds), 4))
    for axis, kind in zip(axes[0], kinds, strict=True):
        for one in (one for one in growth if one["of"] == kind):
            label = f"{titles[one['peer']]}: {one['workload']} {one['figure']}, exponent {one['exponent']:.2f}"
            axis.plot(*zip(*one["points"], strict=True), marker=".", linewidth=1, label=label,
                      linestyle="-" if one["peer"] == "ours" else "--")
        axis.set(xscale="log", yscale="log", xlabel=kind, ylabel="µs")
        axis.legend(fontsize=5, frameon=False)
    return _save(figure, folder, "growth.svg")
