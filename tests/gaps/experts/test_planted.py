"""Device traces of planted expert-parallel jobs: what is measured against what the simulation knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from planted import Faults, Job, Planted, plant

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.review import AllToAll

BASE: dict[str, Any] = {
    "pp": 1, "dp": 4, "ep": 4, "schedule": "1F1B", "num_microbatches": 2, "moe_layers": 2, "labels": None
}  # fmt: skip
HOT = BASE | {"moe_hot_share": 0.4}


def run(folder: Path, job: Job, faults: Faults | None = None) -> tuple[Analysis, AllToAll, Planted]:
    planted = plant(job, faults or Faults(), folder)
    analysis = analyze(read(planted.traces))
    assert analysis.review.all_to_all is not None
    return analysis, analysis.review.all_to_all, planted


def exchanged(planted: Planted) -> list[dict[str, Any]]:
    return [op for op in planted.truth.device_ops if op["kind"] == "all_to_all" and op["step"] >= 1]


@pytest.fixture(scope="module")
def hot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Analysis, AllToAll, Planted]:
    return run(tmp_path_factory.mktemp("hot"), Job(**HOT))


@pytest.fixture(scope="module")
def balanced_step_ms(tmp_path_factory: pytest.TempPathFactory) -> float:
    analysis, _, _ = run(tmp_path_factory.mktemp("even"), Job(**BASE, even_exchange=True))
    return analysis.review.step.duration_ms.median or 0.0


def test_waits_and_transfers_equal_the_truth(hot: tuple[Analysis, AllToAll, Planted]) -> None:
    analysis, _, planted = hot
    found = analysis.tables["collectives"].filter((pl.col("kind") == "all_to_all") & pl.col("step").is_not_null())
    truth = exchanged(planted)
    assert found.height == len(truth)
    for name in ("wait_ns", "transfer_ns"):
        assert found[name].sum() == sum(op[name] for op in truth)


def test_bytes_of_every_pair_equal_the_truth(hot: tuple[Analysis, AllToAll, Planted]) -> None:
    analysis, _, planted = hot
    truth: dict[tuple[int, int], int] = {}
    for op in exchanged(planted):
        for peer, num_bytes in zip(op["members"], op["sent"], strict=True):
            truth[op["rank"], peer] = truth.get((op["rank"], peer), 0) + num_bytes
    found = analysis.tables["traffic"].group_by("source", "target").agg(pl.col("bytes").sum())
    assert {(s, t): n for s, t, n in found.iter_rows()} == truth
    assert analysis.tables["traffic"]["agrees"].all()


def test_dispatch_at_the_links_peak(hot: tuple[Analysis, AllToAll, Planted]) -> None:
    """The hot rank receives most: its mean bytes from others over 450 GB/s, one direction of an H100's links."""
    _, figures, planted = hot
    received = [op["received"] for op in exchanged(planted) if op["rank"] == 0]
    forward = [sum(row[1:]) for i, row in enumerate(received) if i % 8 in (0, 2)]  # backward follows each forward
    assert figures.dispatch_at_peak_us == pytest.approx(sum(forward) / len(forward) / 450e9 * 1e6, rel=1e-6)


def test_the_hot_receiver_is_named_and_blamed(hot: tuple[Analysis, AllToAll, Planted]) -> None:
    analysis, figures, planted = hot
    received: dict[int, int] = {}
    dispatches = [op for op in exchanged(planted) if op["rank"] == 0][::2]
    for rank in range(4):
        own = [op for op in exchanged(planted) if op["rank"] == rank][::2]
        received[rank] = sum(sum(op["received"]) for op in own)
    ratio = max(received.values()) * 4 / sum(received.values())
    assert len(dispatches) == 16
    assert figures.rank_load_max_over_mean == pytest.approx(ratio, rel=0.01)
    assert figures.slowest_rank == 0
    assert [(item.culprit, item.cause) for item in figures.blame[:2]] == [(0, "experts"), (0, "transfer")]
    assert sum(item.ms for item in figures.blame) == pytest.approx(
        sum(op["wait_ns"] for op in exchanged(planted)) / 2 / 1e6
    )
    sent = next(item for item in figures.loads if item.side == "sent")
    assert sent.max_over_mean == pytest.approx(1.0)  # looking at sends alone shows nothing
    directions = set(analysis.tables["expert_blame"]["direction"].cast(pl.String))
    assert directions <= {"dispatch", "combine", "combine_backward", "dispatch_backward"}


def test_balanced_experts_are_worth_the_difference_to_the_balanced_twin(
    hot: tuple[Analysis, AllToAll, Planted], balanced_step_ms: float
) -> None:
    analysis, figures, _ = hot
    measured = analysis.review.step.duration_ms.median or 0.0
    assert figures.replayed_step_ms == pytest.approx(measured, rel=1e-6)
    worth = {item.remedy: item.ms for item in figures.worth}
    assert worth["balanced_experts"] == pytest.approx(measured - balanced_step_ms, rel=0.01)


def test_a_slow_link_is_distinguished_from_a_late_expert(tmp_path: Path) -> None:
    _, slow, _ = run(tmp_path / "slow", Job(**BASE), Faults(slow_link={2: 6.0}))
    assert [port.rank for port in slow.slow_ports] == [2]
    assert (slow.blame[0].culprit, slow.blame[0].cause) == (2, "transfer")
    kinds = {item.cause for item in slow.exchanges}
    assert kinds <= {"communication", "mixed"}
    _, late, _ = run(tmp_path / "late", Job(**BASE), Faults(slow_compute={3: 1.5}))
    assert late.slow_ports == []
    assert {item.culprit for item in late.blame[:2]} == {3}
    assert {item.cause for item in late.blame[:2]} == {"experts", "other_compute"}


def test_members_that_exchange_nothing_are_not_waited_for(tmp_path: Path) -> None:
    analysis, _, planted = run(tmp_path, Job(**BASE, moe_silent=True))
    found = analysis.tables["collectives"].filter((pl.col("kind") == "all_to_all") & pl.col("step").is_not_null())
    assert found["wait_ns"].sum() == sum(op["wait_ns"] for op in exchanged(planted))
    silent = analysis.tables["traffic"].filter((pl.col("source") ^ pl.col("target")) == 1)
    assert silent["bytes"].to_list() == [0] * silent.height
    assert silent.height > 0


def test_sub_groups_keep_their_global_ranks(tmp_path: Path) -> None:
    job = Job(**(HOT | {"dp": 8, "moe_hot_share": 0.3}))
    analysis, figures, _ = run(tmp_path, job, Faults(head_cut_ns={5: 3_000_000}))
    assert [group.ranks for group in figures.groups] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    pairs = analysis.tables["traffic"].select("source", "target").unique()
    assert pairs.filter(pl.col("source") // 4 != pl.col("target") // 4).is_empty()
    assert {spot.hottest for spot in figures.hot_spots} == {0, 4}


@pytest.mark.wide
def test_ranks_that_lost_their_head_are_still_matched(tmp_path: Path) -> None:
    analysis, figures, planted = run(tmp_path, Job(**HOT), Faults(head_cut_ns={2: 12_000_000}))
    truth = {(op["rank"], op["start_ns"]): op["wait_ns"] for op in exchanged(planted)}
    second = analysis.tables["collectives"].filter((pl.col("kind") == "all_to_all") & (pl.col("step") == 2))
    assert second.height == 64
    for rank, start, wait in second.select("rank", "start_ns", "wait_ns").iter_rows():
        assert truth[rank, start] == wait
    assert figures.slowest_rank == 0


def test_without_arguments_nothing_is_invented(tmp_path: Path) -> None:
    _, figures, _ = run(tmp_path, Job(**HOT, metadata="2022"))
    assert figures.rank_load_max_over_mean is None
    assert figures.imbalance_cost_ms is None
    assert {item.remedy for item in figures.worth} <= {"full_overlap"}


@pytest.mark.wide
def test_cut_split_lists_cost_the_matrix_but_neither_waits_nor_the_ratio(tmp_path: Path) -> None:
    """Over 30 members the profiler writes `[1, 2, ..., 9]`: no data, but totals and arrivals stay."""
    job = Job(**(HOT | {"dp": 32, "ep": 32, "num_microbatches": 1, "moe_layers": 1, "moe_hot_share": 0.2}))
    analysis, figures, planted = run(tmp_path, job)
    truth = exchanged(planted)
    assert figures.num_unreadable_splits == len(truth) == 32 * 2 * 4
    assert analysis.tables["traffic"].is_empty()
    found = analysis.tables["collectives"].filter((pl.col("kind") == "all_to_all") & pl.col("step").is_not_null())
    assert found["wait_ns"].sum() == sum(op["wait_ns"] for op in truth)
    forward = [next(op for op in truth if op["rank"] == rank) for rank in range(32)]
    received = [sum(op["received"]) for op in forward]
    assert figures.loads_source == "bytes"
    assert figures.rank_load_max_over_mean == pytest.approx(max(received) * 32 / sum(received), rel=0.01)
    assert figures.slowest_rank == 0
