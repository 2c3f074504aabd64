"""A run read by groups of ranks is the run read at once: every table, every figure, and its timeline."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import polars as pl
import pytest
from msgspec.structs import replace
from planted import Faults, Job, plant
from polars.testing import assert_frame_equal

from traceanalyzer.analysis.assemble import Analysis, analysis_of, analyze, read
from traceanalyzer.analysis.measure import Measured
from traceanalyzer.analysis.run import Run
from traceanalyzer.perfetto import source as source_module
from traceanalyzer.perfetto.export import write_timeline
from traceanalyzer.perfetto.source import measured_source
from traceanalyzer.perfetto.window import Choice
from traceanalyzer.review import Review, Source
from traceanalyzer.tables import rank_groups
from traceanalyzer.tables.rank_groups import in_rank_groups
from traceanalyzer.traces import read as reading
from traceanalyzer.traces.capture.ingest import ingest
from traceanalyzer.traces.recorded import Recorded, apart, batched, sharing


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted")
    return plant(Job(pp=3, num_microbatches=5, num_steps=2), Faults(slow_compute={2: 1.3}), folder).traces


def _placeless(analysis: Analysis) -> Review:
    """The review without the time it was made, and without the folders that its files lie in."""
    review = analysis.review
    defects = [replace(defect, file=Path(defect.file).name) for defect in review.quality.defects]
    return replace(
        review,
        created="",
        source=Source(path=""),
        files=[],
        provenance=[],
        quality=replace(review.quality, defects=defects),
    )


def _same(one: Analysis, other: Analysis) -> None:
    assert _placeless(one) == _placeless(other)
    for name, frame in one.tables.items():
        drop = [name for name in ("file",) if name in frame.columns]
        assert_frame_equal(frame.drop(drop), other.tables[name].drop(drop))


@pytest.mark.wide
@pytest.mark.parametrize("kept", ["capture", "store"])
def test_groups_give_the_same_result(kept: str, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = analyze(read(traces))
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    store = tmp_path / "store"
    store.mkdir()
    if kept == "capture":
        ingest([traces], tmp_path / "capture")
    run = read(tmp_path / "capture") if kept == "capture" else read(traces, store=store)
    assert run.traces.recorded.groups == (frozenset({0}), frozenset({1}), frozenset({2}))
    _same(at_once, analyze(run))


@pytest.mark.wide
@pytest.mark.parametrize(
    "job",
    [
        Job(pp=3, num_microbatches=5, num_steps=2),
        Job(pp=2, dp=2, ep=2, moe_layers=1, num_microbatches=3, num_steps=2, gradient_buckets=2),
        Job(pp=2, dp=2, tensor=2, num_microbatches=3, num_steps=2, labels=None),
    ],
    ids=["pipeline", "experts", "tensor, without labels"],
)
def test_tables_made_of_few_ranks_at_a_time_are_the_same(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = read(plant(job, Faults(slow_compute={1: 1.4}), tmp_path).traces)
    at_once = analyze(run)
    monkeypatch.setattr(rank_groups, "MOST_ROWS", 1)
    _same(at_once, analyze(run))


def test_the_timeline_is_the_same_byte_by_byte(traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_timeline(measured_source(read(traces), tmp_path / "result"), Choice(), tmp_path / "at_once.json", cpu=True)
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    (tmp_path / "store").mkdir()
    run = read(traces, store=tmp_path / "store")
    write_timeline(measured_source(run, tmp_path / "result_of_groups"), Choice(), tmp_path / "grouped.json", cpu=True)
    assert (tmp_path / "grouped.json").read_bytes() == (tmp_path / "at_once.json").read_bytes()


def test_ranks_that_share_a_file_are_one_group() -> None:
    assert sharing([[4], [0], [1, 2], [2, 3], [5, 0]]) == (frozenset({0, 5}), frozenset({1, 2, 3}), frozenset({4}))


def test_small_groups_are_read_together() -> None:
    groups = tuple(map(frozenset, ({0}, {1, 2}, {3}, {4}, {5})))
    sizes = dict(zip(groups, (40, 60, 250, 10, 90), strict=True))
    assert batched(groups, sizes, 100) == (frozenset({0, 1, 2}), frozenset({3}), frozenset({4, 5}))
    assert batched(groups, sizes, 0) == groups


def test_events_of_groups_are_in_the_order_of_all() -> None:
    def read_group(group: frozenset[int]) -> pl.DataFrame:
        rows = [{"rank": rank, "cycle": 0, "index": 0, "start_ns": 10 - rank} for rank in sorted(group)]
        return pl.DataFrame(rows)

    recorded = Recorded((frozenset({0, 2}), frozenset({1})), 3, read_group)
    assert recorded.together()["rank"].to_list() == [0, 1, 2]
    assert recorded.of_rank(2)["start_ns"].to_list() == [8]


def test_ranks_are_neighbours_in_a_group_and_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_groups, "MOST_ROWS", 5)
    seen: list[tuple[list[int], list[int]]] = []

    @in_rank_groups
    def made(rows: pl.DataFrame, others: pl.DataFrame, extra: int) -> pl.DataFrame:
        seen.append((sorted(set(rows["rank"])), others["rank"].to_list()))
        return rows.select("rank", pl.lit(extra).alias("extra"))

    rows = pl.DataFrame({"rank": [0] * 3 + [1] * 2 + [4] * 7 + [7]})
    found = made(rows, pl.DataFrame({"rank": [0, 2, 7, 9]}), extra=6)
    assert seen == [([0, 1], [0, 2]), ([4], []), ([7], [7, 9])]
    assert found["rank"].to_list() == rows["rank"].to_list()
    assert set(found["extra"]) == {6}


def test_what_is_taken_of_a_part_keeps_none_of_its_texts() -> None:
    part = pl.DataFrame({"rank": range(400), "args": [f"{'x' * 500}{number}" for number in range(400)]})
    chosen = part.filter(pl.col("rank") % 100 == 7)
    own = apart(chosen)
    assert_frame_equal(own, chosen)
    assert _text_bytes(chosen) > 400 * 500
    assert _text_bytes(own) < 8 * 500
    assert own.n_chunks("all") == [1, 1]


def _text_bytes(frame: pl.DataFrame) -> int:
    """Memory that holds the texts of a frame, shared or not."""
    arrays = frame["args"].to_arrow(compat_level=pl.CompatLevel.newest())
    return sum(buffer.size for buffer in arrays.buffers() if buffer is not None)


def test_no_table_stays_in_memory_while_a_timeline_is_written(
    traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[pl.DataFrame]] = []

    def watched(run: Run, found: Measured) -> Analysis:
        result = analysis_of(run, found)
        made.extend(weakref.ref(frame) for frame in result.tables.values())
        return result

    monkeypatch.setattr(source_module, "analysis_of", watched)
    monkeypatch.setattr(reading, "MOST_IN_MEMORY", 0)
    (tmp_path / "store").mkdir()
    source = measured_source(read(traces, store=tmp_path / "store"), tmp_path / "result")
    gc.collect()
    assert made
    assert not [frame for frame in made if frame() is not None]
    ranks = [set(source.of_rank("kernels", rank)["rank"]) for rank in range(3)]
    assert ranks == [{0}, {1}, {2}]
