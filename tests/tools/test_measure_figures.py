"""Figures, thresholds and readers of ``measure``, against references of their own."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection, events

from hakgal_hybrid.errors import ConfigurationError
from hakgal_hybrid.monitoring.histogram import nearest_rank
from hakgal_hybrid.tools.measure.decoders import EventDecoder, emitted_at
from hakgal_hybrid.tools.measure.document import Plan, document, holds, known_figures
from hakgal_hybrid.tools.measure.figures import Figure, Summary, change, mean, shown, speedup
from hakgal_hybrid.tools.measure.hosts import Host, copy_database, quoted
from hakgal_hybrid.tools.measure.output import read_log
from hakgal_hybrid.tools.measure.record import Control, Deliveries, Run, Work, histogram
from hakgal_hybrid.tools.measure.summary import figures_of
from hakgal_hybrid.tools.measure.targets import MET, MISSED, NOT_APPLICABLE, NOT_MEASURED, Results, Row, Threshold
from hakgal_hybrid.tools.measure.timing import Endpoint, Samples, Timing
from hakgal_hybrid.tools.remote.exchange import WebSocketExchange
from hakgal_hybrid.tools.remote.request import Base

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
TIMES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=200)
SHARES = st.integers(1, 100)


# -- formulas ----------------------------------------------------------------------------------------------------


@given(TIMES, SHARES)
def test_percentile_is_nearest_rank(values: list[float], hundredths: int) -> None:
    """It is the smallest measured value that at least the share of all are not above, for every n and per cent."""
    share = Fraction(hundredths, 100)
    expected = next(value for value in sorted(values)
                    if Fraction(sum(other <= value for other in values), len(values)) >= share)
    assert nearest_rank(sorted(values), hundredths / 100) == expected


def test_percentile_of_the_protocol() -> None:
    """The 95th percentile of 50 requests is the 48th of them in order, of 20 the 19th, of one that one."""
    assert nearest_rank(range(1, 51), 0.95) == 48
    assert nearest_rank(range(1, 21), 0.95) == 19
    assert nearest_rank([7.5], 0.95) == 7.5
    assert Summary.of([]) == Summary(0, 0)


@given(TIMES)
def test_mean_is_rounded_to_a_tenth(values: list[float]) -> None:
    """It differs from the exact mean by half a tenth at most."""
    exact = sum(map(Fraction, values)) / len(values)
    assert abs(Fraction(mean(values)) - exact) <= Fraction(1, 20) + Fraction(1, 10**6)


@given(TIMES, st.integers(0, 9))
def test_summary_is_ordered(values: list[float], errors: int) -> None:
    """What a summary says lies in order between the least and the greatest, and counts what was taken."""
    summary = Summary.of(values, errors)
    assert summary.n == len(values)
    assert summary.errors == errors
    assert summary.min <= summary.p50 <= summary.p95 <= summary.p99 <= summary.max
    assert summary.min - 0.1 <= summary.mean <= summary.max + 0.1


def test_a_summary_of_nothing_says_so() -> None:
    """Without a value there is no figure, and the errors are told."""
    assert Summary.of([], 3).to_dict() == {"n": 0, "errors": 3, "min": None, "mean": None, "p50": None, "p95": None,
                                           "p99": None, "max": None}


@given(TIMES)
def test_a_histogram_counts_everything(values: list[float]) -> None:
    """Each bucket says how many values are at most its bound; the last says how many there are."""
    buckets = histogram(values)
    assert buckets[-1] == [None, len(values)]
    for bound, count in buckets[:-1]:
        assert count == sum(value <= bound for value in values)


def test_comparisons() -> None:
    """A change is in per cent of before, a speed-up says how many times; of nothing there is neither."""
    assert change(200, 100) == -50
    assert change(0, 1) is None
    assert speedup(2000, 2) == 1000
    assert speedup(1, 0) is None
    for value, unit, text in ((2034.04, "ms", "2,034 ms"), (1.38, "ms", "1.38 ms"), (-51.2, "%", "-51.2 %"),
                              (20.0, "", "20"), (0.0131, "s", "0.0131 s"), (1050.0, "x", "1,050 x")):
        assert shown(value, unit) == text


# -- thresholds --------------------------------------------------------------------------------------------------


def results(**after: float) -> Results:
    taken = {name: Figure(value, known_figures()[name].unit, 5, "here") for name, value in after.items()}
    figures = {**known_figures(), **taken}
    return Results({**figures, "p95": Figure(2050.0, "ms", 5, "here")}, figures, known_figures(), {})


@pytest.mark.parametrize(("text", "verdict"), [
    ("p95<150ms", MET), ("p95<140ms", MISSED), ("p95 <= 142 ms", MET), ("p95<0.15s", MET), ("p95<0.1s", MISSED),
    ("p95<150", MET), ("before.p95>2s", MET), ("before.p95>2.1s", MISSED), ("mean<1", NOT_MEASURED),
    ("p95[GET /nothing]<1s", NOT_MEASURED), ("cpu_events_change<=-30%", NOT_MEASURED),
    ("reference.p95<1s", NOT_MEASURED),
])
def test_thresholds(text: str, verdict: str) -> None:
    """A threshold is judged in its own unit; a figure that was not taken holds nothing."""
    row = Threshold.of(text, known_figures()).judge(results(p95=142.0))
    assert (row.verdict, row.must) == (verdict, True)
    assert row.evidence


@pytest.mark.parametrize("text", ["p95", "p95<", "p95<fast", "speed<1ms", "p95<150%", "p95=150ms", "p95<150ms extra"])
def test_thresholds_that_make_no_sense(text: str) -> None:
    """They are refused before anything is measured, with what was typed and what is accepted."""
    with pytest.raises(ConfigurationError, match="--assert"):
        Threshold.of(text, known_figures())


def test_only_what_must_be_met_decides() -> None:
    """A line that is nice to have decides nothing; one that was not measured holds nothing."""
    met, nice = Row("a", True, MET, ""), Row("b", False, MISSED, "")
    assert holds([met, nice], [met])
    for verdict in (MISSED, NOT_MEASURED):
        assert not holds([met, Row("c", True, verdict, "")], [])
        assert not holds([met], [Row("d", True, verdict, "")])


@pytest.mark.parametrize(("before", "after", "verdict"), [
    (1000, 1000, MET), (1000, 950, MET), (0, 0, MET), (1000, 600, NOT_MEASURED), (600, 1000, NOT_MEASURED),
    (0, 1000, NOT_MEASURED),
])
def test_requests_are_compared_over_the_same_work(before: int, after: int, verdict: str) -> None:
    """CPU per request holds nothing if the clients of one host were told less of the requests than the other's."""
    runs: dict[str, Run | None] = {}
    for mode, delivered, cpu_s in (("before", before, 2.0), ("after", after, 1.0)):
        run = runs[mode] = Run(mode, "http://127.0.0.1:1", True, 2, 0, opened=2)
        run.requests = Work(cpu_s=cpu_s, requests=500, delivered=delivered)
    report = document(Plan("hakgal-hybrid measure", {}, {}), runs)
    row = next(row for row in report["targets"] if row["text"].startswith("CPU per request"))
    assert row["verdict"] == verdict
    assert ("-50.0 %" if verdict == MET else "not the same work") in row["evidence"]


@pytest.mark.parametrize(("events", "alone", "value"), [
    (0.9, 0.4, 0.05), (0.46, 0.4, 0.006), (0.41, 0.4, 0.004), (0.35, 0.4, 0.004), (0.0, 0.0, 0.002),
])
def test_delivering_costs_no_less_than_can_be_told(events: float, alone: float, value: float) -> None:
    """CPU of delivering is a difference: one that is noise, or below nothing, counts as the least that is none."""
    run = Run("after", "http://127.0.0.1:1", True, 20, 0, opened=20)
    run.events = Work(cpu_s=events, requests=125, delivered=10_000)
    run.alone = Work(cpu_s=alone, requests=125)
    figure = figures_of(run)["cpu_events"]
    assert figure.value == pytest.approx(value)
    assert ("less than this can tell apart" in figure.how) == (events - alone < 0.04)


def test_streaming_without_a_live_client_is_not_judged() -> None:
    """Who asks for no live client has not seen streams work, nor fail."""
    run = Run("after", "http://127.0.0.1:1", True, 0, 0, phases=[("connect", 0.1)], transport="sse")
    report = document(Plan("hakgal-hybrid measure", {}, {}), {"after": run})
    row = next(row for row in report["targets"] if row["text"] == "SSE streaming works")
    assert (row["verdict"], "--clients" in row["evidence"]) == (NOT_APPLICABLE, True)


def never_slow(mode: str, **more: Any) -> Run:
    """A host that answered all in 20 ms, and whose CPU is the same before and after."""
    run = Run(mode, "http://127.0.0.1:1", True, 2, 1, opened=2, transport="sse" if mode == "after" else "socketio",
              phases=[("connect", 0.1), ("control", 0.1)], endpoints={"GET /health": Samples()})
    for _ in range(20):
        run.endpoints["GET /health"].take(lambda: Timing(200, {}, 0.1, 0.2, 1.0, 20.0))
    run.requests = Work(cpu_s=1.0, requests=500, delivered=1000)
    run.events, run.alone = Work(cpu_s=1.0, requests=100, delivered=1000), Work(cpu_s=0.5, requests=100)
    run.quiet_delivery = Deliveries(events=100, delays_ms=[2.0] * 100)
    run.control = Control(tried=False, evidence="POST /api/governor/control is answered with status 409")
    for name, value in more.items():
        setattr(run, name, value)
    return run


def judged(before: Run, after: Run) -> tuple[bool, dict[str, tuple[str, str]]]:
    """Whether it holds, and verdict and evidence of each line of the report."""
    report = document(Plan("hakgal-hybrid measure", {}, {}), {"before": before, "after": after})
    jsonschema.Draft202012Validator(SCHEMA["$defs"]["row"]).validate(report["targets"][0])
    return report["holds"], {row["text"]: (row["verdict"], row["evidence"]) for row in report["targets"]}


CPU, CONTROL_WORKS = "CPU per request -30 % or better", "governor control over HTTP works"


def test_a_host_that_never_was_slow_has_nothing_to_win() -> None:
    """CPU that stays as it was is no failure there, and no governor is none either; each line says so."""
    held, rows = judged(never_slow("before"), never_slow("after"))
    assert held, rows
    for text in (CPU, "CPU per delivered event -30 % or better", CONTROL_WORKS):
        assert rows[text][0] == NOT_APPLICABLE
    assert "nothing to win here: /health took 20.0 ms (p95) before" in rows[CPU][1]
    assert "409" in rows[CONTROL_WORKS][1]


def test_what_is_won_all_the_same_is_met() -> None:
    """A line that is met is not called one that does not apply."""
    after = never_slow("after", requests=Work(cpu_s=0.5, requests=500, delivered=1000))
    assert judged(never_slow("before"), after)[1][CPU][0] == MET


def test_a_host_that_was_slow_must_become_better() -> None:
    """There the lines about CPU decide."""
    before = never_slow("before")
    before.endpoints["GET /health"] = Samples()
    before.endpoints["GET /health"].take(lambda: Timing(200, {}, 0.1, 0.2, 1.0, 2000.0))
    held, rows = judged(before, never_slow("after"))
    assert not held
    assert rows[CPU][0] == MISSED


@pytest.mark.parametrize(("lack", "text"), [
    ({"pid_missing": "no process"}, CPU), ({"live": 0, "quiet_delivery": Deliveries()}, "no backlog > 60 s"),
    ({"local_clock": False, "quiet_delivery": Deliveries(events=9)}, "no backlog > 60 s"),
    ({"endpoints": {"GET /other": Samples()}}, "latency p95 of /health < 150 ms"),
])
def test_what_was_not_asked_for_or_is_elsewhere_does_not_apply(lack: dict[str, Any], text: str) -> None:
    """It is no failure that a figure is missing of what the operator left out, or of another machine."""
    verdict, evidence = judged(never_slow("before"), never_slow("after", **lack))[1][text]
    assert (verdict, bool(evidence)) == (NOT_APPLICABLE, True)


def test_what_failed_is_not_excused() -> None:
    """A host whose requests were not answered, or whose governor does not answer, does not hold."""
    silent = never_slow("after")
    silent.endpoints["GET /health"] = Samples()
    silent.endpoints["GET /health"].take(lambda: (_ for _ in ()).throw(ConnectionRefusedError("nobody")))
    held, rows = judged(never_slow("before"), silent)
    assert (held, rows["latency p95 of /health < 150 ms"][0]) == (False, NOT_MEASURED)
    held, rows = judged(never_slow("before"), never_slow("after", control=Control(there=True, evidence="status 500")))
    assert (held, rows[CONTROL_WORKS][0]) == (False, MISSED)


def test_a_report_of_nothing() -> None:
    """It is valid, holds nothing, and says of every figure why it was not taken."""
    report = document(Plan("hakgal-hybrid measure", {}, {}, interrupted=True), {})
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["holds"] is False
    for figures in report["figures"].values():
        assert all(figure["value"] is None and figure["missing"] for figure in figures.values())


def test_a_reference_says_what_it_is_not_for() -> None:
    """Nothing but CPU is measured of it, and it does not call that a phase that was not reached."""
    runs = {"reference": Run("reference", "http://127.0.0.1:1", True, 1, 0, began_at=1.0)}
    figures = document(Plan("", {}, {}), runs)["figures"]["reference"]
    assert "nothing but CPU" in figures["p95"]["missing"]
    assert "nothing but CPU" in figures["control_p95"]["missing"]


# -- readers -----------------------------------------------------------------------------------------------------


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(st.text(max_size=400), max_size=5), st.lists(st.integers(0, 10_000), max_size=8))
def test_frames_are_read(texts: list[str], cuts: list[int]) -> None:
    """Frames of every length come out whole, in order; a ping between them is passed over."""
    exchange, decoder = WebSocketExchange(Base.of("http://x"), "/ws", {}), EventDecoder()
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(exchange.request)
    assert [event.target for event in server.events() if isinstance(event, events.Request)] == ["/ws"]
    frames = server.send(events.AcceptConnection()) + server.send(events.Ping())
    for text in texts:
        frames += server.send(events.TextMessage(json.dumps({"event": "news", "data": text})))
    seen = [event for piece in pieces(frames, cuts) for event in decoder.feed(exchange.feed(piece))]
    assert [(name, json.loads(data)) for name, data in seen] == [("news", text) for text in texts]
    assert exchange.status == 101


@given(st.floats(0, 4e9, allow_nan=False), st.booleans())
def test_the_time_of_an_event_is_found(at: float, compact: bool) -> None:
    """The last timestamp of a payload is what counts, however the JSON was written."""
    separators = (",", ":") if compact else (", ", ": ")
    text = json.dumps({"recent": [{"timestamp": 1}], "timestamp": at, "more": "}"}, separators=separators)
    assert emitted_at(text) == at


@pytest.mark.parametrize("payload", ["null", "{}", '{"timestamp": "2025-08-17"}', '{"timestamp": null}', '"timestamp"'])
def test_an_event_without_a_time_has_none(payload: str) -> None:
    """What is no number is no time."""
    assert emitted_at(payload) is None


# -- requests and logs -------------------------------------------------------------------------------------------


def test_endpoints_are_read_strictly() -> None:
    """A method, a path and perhaps JSON, with the number of the request in it."""
    endpoint = Endpoint.of('post /api/search {"query": "Energy{n}"}')
    assert (endpoint.label, endpoint.filled("tag", 3)) == ("POST /api/search", {"query": "Energy3"})
    assert Endpoint.of("GET /api/facts?limit=5").label == "GET /api/facts"
    for wrong in ("GET", "FETCH /x", "GET x", "POST /x {", ""):
        with pytest.raises(ConfigurationError, match="--endpoint"):
            Endpoint.of(wrong)


def test_samples_tell_errors_from_times() -> None:
    """An answer with an error status is a time and an error; a request without an answer is only an error."""
    samples = Samples()
    assert samples.take(lambda: Timing(200, {}, 0.1, 0.2, 1.0, 1.5))
    assert not samples.take(lambda: Timing(503, {}, 0.1, 0.2, 1.0, 2.5))

    def refused() -> Timing:
        raise ConnectionRefusedError("nobody")

    assert not samples.take(refused)
    told = samples.to_dict()
    assert told["statuses"] == {"200": 1, "503": 1, "ConnectionRefusedError": 1}
    assert (told["total"]["n"], told["total"]["errors"], told["samples"]) == (2, 2, [1.5, 2.5])


def test_logs_are_counted_from_where_the_run_began(tmp_path: Path) -> None:
    """Errors and warnings are told apart; what was there before is not counted, nor is a 500 in an access line."""
    log = tmp_path / "host.log"
    log.write_text("ERROR long ago\n")
    begun = log.stat().st_size
    with log.open("a") as file:
        file.write('INFO fine\n127.0.0.1 "GET /errors HTTP/1.1" 200 -\nWARNING odd\nx.py:1: DeprecationWarning: old\n'
                   "ERROR bad\nTraceback (most recent call last):\n  File x\nValueError: no\n")
    read = read_log(Host("after", Base.of("http://127.0.0.1:1"), False, log=log, log_from=begun))
    assert (read.read, read.warnings, read.errors, read.missing) == (8, 2, 3, None)
    assert read.lines == ["WARNING odd", "x.py:1: DeprecationWarning: old", "ERROR bad",
                          "Traceback (most recent call last):", "ValueError: no"]
    missing = read_log(Host("after", Base.of("http://127.0.0.1:1"), False))
    assert "--after-log" in str(missing.missing)


def test_what_is_no_database_is_not_copied(tmp_path: Path) -> None:
    """It is refused with its name, before a host is started with it."""
    (tmp_path / "kb.db").write_text("this is text, and long enough to be looked at as a header of SQLite")
    with pytest.raises(ConfigurationError, match=r"kb\.db"):
        copy_database(tmp_path / "kb.db", tmp_path / "copy.db")


def test_arguments_are_quoted_for_showing() -> None:
    """What a shell would part or expand is put in quotes."""
    assert [quoted(text) for text in ("p95", "p95<150ms", "a b", "")] == ["p95", '"p95<150ms"', '"a b"', '""']
    assert [quoted(text) for text in ("HAKGAL_API_KEY=geheim", "A=b")] == ["HAKGAL_API_KEY=...", "A=b"]
