"""A timeline shows everything once: read back by a reader of the published formats, it has the sums of the tables."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from inputs.hot_experts import hot_run
from inputs.tiny_trace import run_of
from launched.gpipe_run import GPIPE, with_job
from planted import Faults, Job, plant
from timeline_reader import Timeline, read_timeline
from timeline_sums import check_timeline, same

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.analysis.kept import keep_result
from traceanalyzer.perfetto.export import write_timeline
from traceanalyzer.perfetto.source import Source, kept_source, measured_source, with_capture
from traceanalyzer.perfetto.window import Choice
from traceanalyzer.schema import result_tables
from traceanalyzer.traces.capture.ingest import ingest

CASES = {
    "pipeline, clocks apart": (Job(pp=3, num_microbatches=5), Faults(clock_offset_ns={1: 3_000_000, 2: -4_000_000})),
    "replicas, one slow": (Job(pp=2, dp=3, num_microbatches=3), Faults(slow_compute={3: 1.4})),
    "coalesced, unlabelled": (Job(pp=3, num_microbatches=4, labels=None, coalesced=True), Faults()),
    "experts": (Job(pp=1, dp=4, ep=4, moe_layers=2, moe_hot_share=0.4), Faults(slow_compute={2: 1.3})),
    "sharded": (Job(pp=2, dp=2, num_microbatches=3, sharded=True), Faults()),
}


def written(source: Source, path: Path, *, cpu: bool = False) -> Timeline:
    write_timeline(source, Choice(), path, cpu=cpu)
    return read_timeline(path)


@pytest.mark.wide
@pytest.mark.sweep(1)
@pytest.mark.parametrize("case", CASES)
def test_both_formats_show_every_table_in_full(case: str, tmp_path: Path) -> None:
    planted = plant(*CASES[case], tmp_path / "run")
    source = measured_source(read(planted.traces), tmp_path / "measured")
    tables = {name: source.whole(name) for name in result_tables()}
    native = written(source, tmp_path / "a.pftrace")
    chrome = written(source, tmp_path / "a.json")
    for timeline in (native, chrome):
        check_timeline(timeline, tables)
        assert all(first.start_ns <= second.start_ns for first, second in timeline.flows)
    assert same(native, chrome)
    assert len(native.flows) == len(chrome.flows) > 0
    truth = Counter(op["rank"] for op in planted.truth.device_ops if op["step"] > 0)
    drawn = Counter(
        int(s.process.split(",")[0].split(" ")[1])
        for s in native.slices
        if s.categories[:1] == ("kernel",) and s.args.get("step")
    )
    assert drawn == truth


@pytest.mark.wide
def test_the_host_is_drawn_when_asked_for_and_its_launches_lead_to_their_kernels(tmp_path: Path) -> None:
    planted = plant(Job(pp=2, num_microbatches=3, cuda_graphs=True), Faults(), tmp_path / "run")
    source = measured_source(read(planted.traces), tmp_path / "measured")
    without, timeline = written(source, tmp_path / "a.pftrace"), written(source, tmp_path / "b.pftrace", cpu=True)
    assert not any(track.startswith("thread") for track in without.tracks("rank 0"))
    launches = [(a, b) for a, b in timeline.flows if a.track.startswith("thread")]
    assert launches
    for call, kernel in launches:
        assert call.process == kernel.process
        assert kernel.track.startswith("stream") or kernel is call
        assert call.name.startswith("cu")
        assert call.args["correlation"] == kernel.args["correlation"]
    events = source.events(0)
    assert events is not None
    host = events.filter((events["ph"] == "X") & events["device"].is_null() & events["stream"].is_null())
    drawn = [
        s for track in timeline.tracks("rank 0") if track.startswith("thread") for s in timeline.of("rank 0", track)
    ]
    assert len(drawn) >= host.height > 0
    kernel = next(s for s in timeline.slices if s.categories[:1] == ("kernel",))
    assert kernel.args["recorded"]["stream"] == int(kernel.track.removeprefix("stream "))


@pytest.mark.sweep(1)
@pytest.mark.parametrize("make", ["gpipe", "experts"])
def test_ranks_without_a_device_have_their_main_thread_as_owner(make: str, tmp_path: Path) -> None:
    folder = with_job(run_of(tmp_path / "run", GPIPE)) if make == "gpipe" else hot_run(tmp_path / "run")
    source = measured_source(read(folder), tmp_path / "measured")
    tables = {name: source.whole(name) for name in result_tables()}
    for name in ("a.pftrace", "a.json.gz"):
        check_timeline(written(source, tmp_path / name, cpu=True), tables)
    keep_result(source.review, tables, tmp_path / "kept")
    kept = kept_source(str(tmp_path / "kept"))
    check_timeline(written(kept, tmp_path / "kept.pftrace"), tables)
    for rank in source.whole("ranks")["rank"]:
        assert kept.owners(rank).equals(source.owners(rank))  # type: ignore[union-attr]
    (tmp_path / "kept/tables/owner_segments.parquet").unlink()
    assert kept_source(str(tmp_path / "kept")).owners(0) is None


def test_a_wait_names_its_culprit_and_a_flow_comes_from_what_the_culprit_computes(tmp_path: Path) -> None:
    planted = plant(Job(pp=3, num_microbatches=5), Faults(slow_compute={1: 2.0}), tmp_path / "run")
    timeline = written(measured_source(read(planted.traces), tmp_path / "measured"), tmp_path / "a.pftrace")
    lost: Counter[str] = Counter()
    for each in timeline.of("rank 2", "waits"):
        lost[each.name] += each.ns if each.categories == ("wait",) else 0
    assert lost.most_common(1)[0][0] == "waits for rank 1"
    blamed = [
        (a, b)
        for a, b in timeline.flows
        if b.track == "waits" and b.process.startswith("rank 2") and a.track == "actions"
    ]
    assert sum(action.process.startswith("rank 1,") for action, _ in blamed) > len(blamed) / 2
    for action, wait in blamed:
        culprit = action.process.split(",")[0]
        assert wait.name in {f"{culprit} computes {action.name}", f"waits for {culprit}"}
        assert wait.start_ns >= action.start_ns


def test_messages_lead_from_the_sender_to_the_receiver(tmp_path: Path) -> None:
    planted = plant(Job(pp=3, num_microbatches=4), Faults(), tmp_path / "run")
    timeline = written(measured_source(read(planted.traces), tmp_path / "measured"), tmp_path / "a.pftrace")
    messages = [(a, b) for a, b in timeline.flows if a.name.startswith("send to")]
    here = [m for m in planted.truth.messages if m["step"] > 0]
    assert len(messages) == len(here)
    for send, receive in messages:
        assert f"rank {send.name.removeprefix('send to ')}" == receive.process.split(",")[0]


def test_a_kept_result_gives_the_same_and_a_capture_the_recorded_arguments(tmp_path: Path) -> None:
    planted = plant(Job(pp=2, dp=2, num_microbatches=3), Faults(clock_offset_ns={1: 2_000_000}), tmp_path / "run")
    ingest([planted.traces], tmp_path / "capture")
    run = read(tmp_path / "capture")
    result = analyze(run)
    keep_result(result.review, result.tables, tmp_path / "result")
    of_traces = written(measured_source(read(planted.traces), tmp_path / "measured"), tmp_path / "a.pftrace")
    of_capture = written(measured_source(run, tmp_path / "of_capture"), tmp_path / "b.pftrace")
    kept = kept_source(str(tmp_path / "result"))
    of_result = written(kept, tmp_path / "c.pftrace")
    with_both = written(with_capture(kept, str(tmp_path / "capture")), tmp_path / "d.pftrace")
    for each in (of_capture, of_result, with_both):
        assert same(of_traces, each)
        check_timeline(each, result.tables)
    assert (tmp_path / "a.pftrace").read_bytes() == (tmp_path / "b.pftrace").read_bytes()
    assert (tmp_path / "a.pftrace").read_bytes() == (tmp_path / "d.pftrace").read_bytes()
    assert not any("recorded" in s.args for s in of_result.slices)


def test_the_ideal_schedule_and_the_steps_are_drawn_from_where_the_pipeline_began(tmp_path: Path) -> None:
    planted = plant(Job(pp=2, num_microbatches=4), Faults(), tmp_path / "run")
    source = measured_source(read(planted.traces), tmp_path / "measured")
    timeline = written(source, tmp_path / "a.pftrace")
    begun = set(source.whole("bubble")["phase_start_ns"])
    first: dict[int, int] = {}
    for each in timeline.slices:
        if each.process == "ideal schedule":
            first[each.args["step"]] = min(each.start_ns, first.get(each.args["step"], each.start_ns))
    assert set(first.values()) == begun
