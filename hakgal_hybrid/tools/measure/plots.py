"""The plots of a report, drawn by matplotlib from the document alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .extras import need

#: Progress apart by colour and by line: for eyes and printers that see no colour.
STYLES = {"before": ("#c2410c", "-"), "after": ("#0f766e", "--"), "reference": ("#64748b", ":")}
SIZE = (7.6, 3.4)
#: Where a line leads across and up, and how it is drawn.
Curve = tuple[list[float], list[float], dict[str, Any]]


def draw(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plots by name, as figures of matplotlib; those of which nothing was measured are left out.

    :param document: the report as JSON values.
    :raises ConfigurationError: if matplotlib is not installed.
    """
    drawn = {name: make(document) for name, make in (("latency", latency), ("cpu", cpu), ("lag", lag),
                                                     ("delivery", delivery))}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def image(figure: Any, kind: str) -> bytes:
    """Return a figure as ``svg`` or ``png``.

    :param figure: what :func:`draw` returned.
    :param kind: ``svg`` or ``png``.
    """
    matplotlib = need("matplotlib", "draw the plots of the report")
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "hakgal"}):
        figure.savefig(stream, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else {})
    return stream.getvalue()


def _plot(document: Mapping[str, Any], title: str, across: str, up: str,
          curves: Callable[[dict[str, Any], str], Iterable[Curve]], finish: Callable[[Any], None]) -> Any:
    """Draw the curves of every run in its colour; ``None`` if there are none."""
    need("matplotlib", "draw the plots of the report")
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(True, which="major", color="#e2e8f0", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    drawn = 0
    for mode, run in document["runs"].items():
        if run and mode in STYLES:
            colour, line = STYLES[mode]
            for xs, ys, style in curves(run, mode):
                axes.plot(xs, ys, color=colour, linestyle=line, **style)
                drawn += 1
    if not drawn:
        return None
    finish(axes)
    axes.legend(fontsize=8, frameon=False, loc="best")
    return figure


def _log(set_scale: Any, axis: Any) -> None:
    """A logarithmic axis whose ticks read 10 and 1000: not everybody reads powers."""
    set_scale("log")
    axis.set_major_formatter("{x:g}")


def _shares(axes: Any) -> None:
    """Finish a plot of shares, in per cent, by time."""
    _log(axes.set_xscale, axes.xaxis)
    axes.set_ylim(0, 101)


def _limit(draw_line: Any, value: float, text: str) -> None:
    """Draw a target as a thin line with its name."""
    draw_line(value, color="#94a3b8", linewidth=1, linestyle="-.", label=text)


def latency(document: Mapping[str, Any]) -> Any:
    """The share of requests that were answered within a time, by endpoint.

    :param document: the report as JSON values.
    """
    def curves(run: dict[str, Any], mode: str) -> Iterator[Curve]:
        for label, endpoint in run["endpoints"].items():
            values = sorted(max(value, 0.01) for value in endpoint["samples"])
            shares = [(index + 1) / len(values) * 100 for index in range(len(values))]
            main = label == "GET /health"
            if values:
                yield values, shares, {"drawstyle": "steps-post", "linewidth": 2 if main else 0.8, "alpha": 1 if main
                                       else 0.45, "label": f"{mode}: /health, n = {len(values)}" if main else None}

    def finish(axes: Any) -> None:
        _shares(axes)
        _limit(axes.axvline, 150, "target: p95 below 150 ms")

    return _plot(document, "Latency of requests, a client stalled", "milliseconds, logarithmic",
                 "share of requests, %", curves, finish)


def cpu(document: Mapping[str, Any]) -> Any:
    """CPU of each host's process over its run.

    :param document: the report as JSON values.
    """
    def curves(run: dict[str, Any], mode: str) -> Iterator[Curve]:
        series = run["process"]["series"] or {"t": [], "cpu_s": []}
        times, values = _rates(series["t"], series["cpu_s"])
        if times:
            yield times, values, {"linewidth": 1.3, "label": f"{mode}, n = {len(times)}"}

    return _plot(document, "CPU of the host's process with its threads", "seconds since its run began",
                 "per cent of one core", curves, lambda axes: axes.set_ylim(bottom=0))


def _rates(times: list[float], used: list[float]) -> tuple[list[float], list[float]]:
    """Return the per cent used over each second: clocks of CPU time are too coarse for less."""
    found: tuple[list[float], list[float]] = ([], [])
    last = 0
    for index in range(1, len(times)):
        if times[index] - times[last] >= 1:
            found[0].append(times[index])
            found[1].append((used[index] - used[last]) / (times[index] - times[last]) * 100)
            last = index
    return found


def lag(document: Mapping[str, Any]) -> Any:
    """The worst lag of each half second, sampled inside the hosts' processes.

    :param document: the report as JSON values.
    """
    def curves(run: dict[str, Any], mode: str) -> Iterator[Curve]:
        sampled = run["sampled_lag"]
        if sampled["series"]:
            yield ([at for at, _ in sampled["series"]], [max(worst, 0.01) for _, worst in sampled["series"]],
                   {"linewidth": 1.1, "label": f"{mode} ({sampled['sampler']}), n = {sampled['n']:,}"})

    def finish(axes: Any) -> None:
        _log(axes.set_yscale, axes.yaxis)
        _limit(axes.axhline, 30, "target: 30 ms")

    return _plot(document, "Event-loop and thread lag, sampled inside the process", "seconds since its run began",
                 "worst of half a second, ms, log", curves, finish)


def delivery(document: Mapping[str, Any]) -> Any:
    """The share of deliveries to live clients that took no longer than a time.

    :param document: the report as JSON values.
    """
    def curves(run: dict[str, Any], mode: str) -> Iterator[Curve]:
        for name, width, text in (("with_stalled", 2.0, "a client stalled"), ("without_stalled", 0.9, "none stalled")):
            delay = run["deliveries"][name]["delay"]
            buckets = [(bound, count) for bound, count in delay["histogram"] if bound is not None]
            if delay["n"] and buckets:
                yield ([bound for bound, _ in buckets], [count / delay["n"] * 100 for _, count in buckets],
                       {"linewidth": width, "label": f"{mode}, {text}, n = {delay['n']:,}"})

    return _plot(document, "Delivery of events to live clients", "milliseconds from timestamp to arrival, logarithmic",
                 "share of deliveries, %", curves, _shares)
