"""Clock residuals carried into what compares ranks, and withheld where they are of its order."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from planted import Faults, Planted, plant
from planted import Job as PlantedJob

import reports
from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.job import ClockOffset, Job, RankRecord
from traceanalyzer.layout import Layout
from traceanalyzer.model import ModelShape
from traceanalyzer.review.words import milliseconds
from traceanalyzer.schema import COLLECTIVES, P2P, RANKS, conform, empty
from traceanalyzer.tables.clocks.alignment import CONVERSION_NS, clocks

EXPERTS = PlantedJob(pp=1, dp=4, ep=4, num_microbatches=2, moe_layers=2, moe_hot_share=0.4, ranks_per_host=1)
PIPELINE = PlantedJob(ranks_per_host=1, global_norm=False)
NO_MODEL = ModelShape(num_layers=0, hidden_size=0, num_heads=0, num_kv_heads=0, head_size=0, ffn_size=0, vocab_size=0)


def described(num_ranks: int, uncertainty_ns: int, boot: str = "", offset_ns: int = 0, pp: int = 1) -> Job:
    """A job of one rank per host whose clocks were compared by ping-pong, all within `uncertainty_ns`."""
    ranks = tuple(
        RankRecord(
            rank=rank,
            host=f"host{rank}",
            pid=1,
            cores=(0,),
            boot=boot,
            clock_start=ClockOffset(offset_ns=rank * offset_ns, uncertainty_ns=uncertainty_ns * (rank > 0), at_ns=0),
        )
        for rank in range(num_ranks)
    )
    return Job(
        kind="experts", layout=Layout(pp=pp, dp=num_ranks // pp), model=NO_MODEL, compute_mode="real", backend="nccl",
        dtype="bfloat16", tokens_per_step=0, sequence_length=0, ranks=ranks, status="completed",
    )  # fmt: skip


def result(planted: Planted, uncertainty_ns: int) -> Analysis:
    run = read(planted.traces)
    size = run.traces.ranks["world_size"].max()
    assert isinstance(size, int)
    return analyze(replace(run, job=described(size, uncertainty_ns, pp=planted.job.pp)))


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(EXPERTS, Faults(), tmp_path_factory.mktemp("experts"))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(PIPELINE, Faults(), tmp_path_factory.mktemp("pipeline"))


def reasons(analysis: Analysis) -> dict[str, str]:
    return {item.metric: item.reason for item in analysis.review.quality.withheld}


def test_a_small_residual_is_stated_beside_what_it_touches(experts: Planted) -> None:
    analysis = result(experts, 1_000)
    effects = {effect.metric: effect for effect in analysis.review.quality.clock_effects}
    splits = analysis.tables["collectives"].filter((pl.col("kind") == "all_to_all") & (pl.col("basis") == "clock"))
    late = splits.filter(pl.col("rank") != pl.col("late_rank"))
    pairs = late.select(((pl.col("rank") > 0).cast(pl.Int64) + (pl.col("late_rank") > 0)).sum()).item()
    found = effects["wait of all_to_all"]
    assert found.value_ms * 1e6 == pytest.approx(splits["wait_ns"].sum())
    assert found.uncertainty_ms == pytest.approx(pairs * 1_000 / 1e6)  # rank 0's clock is exact by definition
    assert not found.withheld
    assert "all_to_all.wait_share" not in reasons(analysis)
    assert f"± {milliseconds(found.uncertainty_ms)}" in reports.text(analysis.review, analysis.tables)


@pytest.mark.wide
def test_a_residual_of_the_order_of_the_waits_withholds_them_and_nothing_else(experts: Planted) -> None:
    sharp, vague = result(experts, 1_000), result(experts, 5_000_000)
    known, given = sharp.review.all_to_all, vague.review.all_to_all
    assert known is not None
    assert given is not None
    assert known.wait_share is not None
    assert (given.wait_share, given.transfer_share) == (None, None)
    assert "may be off by" in reasons(vague)["all_to_all.wait_share"]
    assert given.blame == []
    assert given.exchanges == []
    for name in ("rank_load_max_over_mean", "imbalance_cost_ms", "exposed_share"):
        assert getattr(given, name) == getattr(known, name)
    rows = vague.tables["collectives"].filter(pl.col("kind") == "all_to_all")
    assert rows["wait_ns"].null_count() == rows["late_rank"].null_count() == rows.height
    owners = {row.owner: row.share for row in vague.review.accounting.owners}
    assert owners["communication"] > 0
    assert sum(owners.values()) == pytest.approx(1)


@pytest.mark.wide
def test_the_bubble_is_given_with_what_the_clocks_move_it_by(pipeline: Planted) -> None:
    analysis = result(pipeline, 50_000)
    assert analysis.review.bubble is not None
    assert analysis.review.bubble.measured_share is not None
    effect = next(e for e in analysis.review.quality.clock_effects if e.metric == "bubble.measured_share")
    assert effect.uncertainty_ms is not None
    assert 0 < effect.uncertainty_ms < 0.1 * effect.value_ms


def test_the_bubble_is_withheld_when_clocks_hide_it(pipeline: Planted) -> None:
    analysis = result(pipeline, 20_000_000)
    assert analysis.review.bubble is None
    assert "may be off by 20.0 ms" in reasons(analysis)["bubble"]
    owners = {row.owner: row.share for row in analysis.review.accounting.owners}
    assert owners["communication"] > 0  # exposed, and neither wait nor transfer
    assert analysis.tables["p2p"].filter(pl.col("basis") == "clock").is_empty()


def ranks_of_one_name(num_ranks: int) -> pl.DataFrame:
    times = {"start_ns": [0] * num_ranks, "end_ns": [10**9] * num_ranks, "host": ["a"] * num_ranks}
    return conform(pl.DataFrame({"rank": range(num_ranks), **times}), RANKS)


def table_of(job: Job) -> tuple[pl.DataFrame, str, int | None]:
    table, state = clocks(ranks_of_one_name(3), job, empty(COLLECTIVES), empty(P2P))
    return table, state.basis, state.residual_ns


def test_ranks_of_one_boot_differ_by_the_profilers_conversion_alone() -> None:
    table, basis, residual = table_of(described(3, 40_000, boot="b7c0"))
    assert (basis, residual) == ("same_boot", CONVERSION_NS // 2)
    assert table["offset_ns"].to_list() == [0, 0, 0]
    assert not table["applied"].any()


def test_one_host_name_without_a_boot_keeps_the_residual_of_the_ping_pong() -> None:
    _, basis, residual = table_of(described(3, 40_000))
    assert (basis, residual) == ("same_host", 40_000)


def test_a_recorded_offset_beats_one_boot() -> None:
    """Somebody shifted these times: the ping-pong saw it."""
    _, basis, _ = table_of(described(3, 40_000, boot="b7c0", offset_ns=40_000_000))
    assert basis != "same_boot"
