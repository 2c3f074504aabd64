"""Expert parallelism measured on real runs of the reference job."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch", reason="reference jobs need torch")

from launched.run_jobs import run_job  # noqa: E402

from instrumented_runs.settings import ExpertSettings  # noqa: E402
from traceanalyzer.analysis.assemble import Analysis, analyze, read  # noqa: E402
from traceanalyzer.analysis.measure import measure  # noqa: E402
from traceanalyzer.gaps.efficiency.operators import recorded_operators  # noqa: E402
from traceanalyzer.gaps.experts.placement import propose  # noqa: E402
from traceanalyzer.gaps.experts.sharding import expert_gemms  # noqa: E402
from traceanalyzer.job import ROUTING_FILE, RoutingRecord  # noqa: E402
from traceanalyzer.review import AllToAll  # noqa: E402

TWINS = ("hot", "zipf")


def measured(settings: ExpertSettings) -> tuple[Analysis, AllToAll]:
    run_job("experts", settings)
    analysis = analyze(read(settings.folder))
    assert analysis.review.all_to_all is not None
    return analysis, analysis.review.all_to_all


def records(folder: Path, ranks: int) -> list[RoutingRecord]:
    paths = [folder / ROUTING_FILE.format(rank=rank) for rank in range(ranks)]
    return [msgspec.json.decode(line, type=RoutingRecord) for path in paths for line in path.read_bytes().splitlines()]


def typical(analysis: Analysis) -> list[int]:
    """Steps that figures speak of: the first of so short a run may be set apart as its warm-up."""
    return analysis.tables["steps"].filter("is_typical")["step"].unique().to_list()


@pytest.mark.runs
def test_bytes_and_loads_of_a_real_run_equal_its_side_file(tmp_path: Path) -> None:
    settings = ExpertSettings(
        folder=str(tmp_path),
        num_ranks=2,
        num_steps=2,
        num_unprofiled_steps=1,
        compute_mode="real",
        hidden_size=16,
        num_heads=2,
        num_experts=4,
        expert_ffn_size=24,
        sequence_length=8,
        sequences_per_shard=3,
        routing="zipf",
    )
    analysis, figures = measured(settings)
    truth: dict[tuple[int, int, int, int], int] = {}
    for record in records(tmp_path, 2):
        for target, tokens in enumerate(record.send_splits):
            truth[record.step, record.layer, record.rank, target] = tokens
    columns = ("step", "layer", "source", "target", "tokens", "bytes", "direction", "agrees")
    rows = [row for row in analysis.tables["traffic"].select(columns).iter_rows() if row[6] != "count_exchange"]
    assert len(rows) == len(typical(analysis)) * 2 * 4 * 4  # steps, layers, directions, pairs
    for step, layer, source, target, tokens, num_bytes, direction, agrees in rows:
        there = direction in ("dispatch", "combine_backward")
        assert tokens == truth[(step, layer, source, target) if there else (step, layer, target, source)]
        assert (num_bytes, agrees) == (tokens * 16 * 4, True)
    dispatched = next(volume for volume in figures.volumes if volume.direction == "dispatch")
    assert dispatched.measured_bytes == dispatched.routed_bytes
    chain = analysis.tables["expert_chain"]
    for step, layer, rank, received in chain.select("step", "layer", "rank", "received_tokens").iter_rows():
        assert received == sum(truth[step, layer, source, rank] for source in range(2))
    assert figures.volume_theory is not None
    assert figures.volume_theory.tensor_over_expert == 1.0  # two ranks, two experts per token


@pytest.mark.sweep(1)
@pytest.mark.runs
@pytest.mark.parametrize("sharding", ["ep", "tp"])
def test_bytes_of_both_shardings_equal_theory_exactly(tmp_path: Path, sharding: str) -> None:
    settings = ExpertSettings(
        folder=str(tmp_path),
        num_ranks=2,
        num_steps=1,
        num_unprofiled_steps=1,
        compute_mode="real",
        hidden_size=16,
        num_heads=2,
        num_experts=4,
        experts_per_token=1,
        expert_ffn_size=24,
        sequence_length=8,
        sequences_per_shard=3,
        routing="balanced",
        experts_by=sharding,
    )
    run_job("experts", settings)
    run = read(settings.folder)
    analysis = analyze(run)
    found = analysis.review.expert_sharding
    assert found is not None
    assert (found.sharded_by, found.num_ranks) == (sharding, 2)
    token = 16 * 4  # bytes; 24 tokens on each rank, half of which change ranks with one expert per token
    assert found.expert_parallel_bytes == 2 * 12 * token
    assert found.tensor_parallel_bytes == 2 * 24 * token
    assert found.measured_bytes == getattr(found, f"{'expert' if sharding == 'ep' else 'tensor'}_parallel_bytes")
    tables = measure(run).tables  # by itself: a busy machine withholds the rates
    gemms = expert_gemms(tables.expert_computation, recorded_operators(run.traces.events, tables).timed)
    forward = {(gemm.inner, gemm.columns): gemm for gemm in gemms if gemm.part == "experts"}
    inner = 24 if sharding == "ep" else 12
    assert set(forward) == {(16, inner), (inner, 16)}
    experts_here, rows = (2, 12) if sharding == "ep" else (4, 12)
    for gemm in forward.values():
        assert gemm.rows == rows
        assert gemm.num_calls == 2 * 2 * experts_here  # ranks, layers
        assert gemm.flops_per_second > 0
    assert (analysis.review.all_to_all is None) == (sharding == "tp")


@pytest.mark.runs
def test_drops_and_padding_of_a_real_run_equal_its_side_file(tmp_path: Path) -> None:
    settings = ExpertSettings(
        folder=str(tmp_path),
        num_ranks=2,
        num_steps=2,
        num_unprofiled_steps=1,
        compute_mode="real",
        hidden_size=16,
        num_heads=2,
        num_experts=4,
        expert_ffn_size=24,
        sequence_length=8,
        sequences_per_shard=3,
        routing="zipf",
        capacity_factor=1.25,
        pad_to_capacity=True,
        gemm_alignment=8,
    )
    analysis, figures = measured(settings)
    steps = typical(analysis)
    noted = [record for record in records(tmp_path, 2) if record.step in steps]
    kept = [record.tokens_to_expert for record in noted]
    slots = 15  # ceil(1.25 · 2 · 24 tokens of a shard / 4 experts)
    dropped = sum(max(tokens - slots, 0) for record in kept for tokens in record)
    assert figures.dropped_tokens == dropped > 0
    # Both ranks fill two experts' buffers of 15 rows on each rank; two experts' 30 rows are aligned to 32.
    computed = len(steps) * 2 * 2 * 2 * 32  # steps, layers, ranks, experts
    tokens = sum(min(tokens, slots) for record in kept for tokens in record)
    assert figures.padded_rows == pytest.approx((computed - tokens) / len(steps), abs=0.5)
    assert figures.padded_share == pytest.approx((computed - tokens) / computed)
    dispatched = next(volume for volume in figures.volumes if volume.direction == "dispatch")
    assert dispatched.measured_bytes == dispatched.padded_bytes == 30 * 16 * 4
    spent = analysis.tables["expert_chain"]
    assert (spent["permutation_ns"] > 0).all()
    assert (spent["router_ns"] > 0).all()
    assert figures.padding_ms == pytest.approx(
        sum(
            (row["experts_ns"] + row["experts_backward_ns"]) * row["padded_rows"] / row["computed_rows"]
            for row in spent.iter_rows(named=True)
        )
        / (len(steps) * 1e6)
    )


@pytest.mark.runs
@pytest.mark.soak
def test_the_price_of_imbalance_is_the_difference_to_the_balanced_twin(tmp_path: Path) -> None:
    """EP = 4, paced: 200 ms and more of expert time on the hot rank; needs a machine that is not oversubscribed."""

    def twin(routing: str) -> tuple[Analysis, AllToAll]:
        return measured(ExpertSettings(folder=str(tmp_path / routing), routing=routing, num_unprofiled_steps=1))

    balanced, even = twin("balanced")
    base = balanced.review.step.duration_ms.median or 0.0
    assert even.rank_load_max_over_mean == pytest.approx(1.0)
    assert abs({item.remedy: item.ms for item in even.worth}["balanced_experts"]) < 0.02 * base
    for routing in TWINS:
        analysis, figures = twin(routing)
        difference = (analysis.review.step.duration_ms.median or 0.0) - base
        worth = {item.remedy: item.ms for item in figures.worth}["balanced_experts"]
        assert worth == pytest.approx(difference, rel=0.1)
        assert figures.imbalance_cost_ms == pytest.approx(difference, rel=0.1)
        assert figures.blame[0].cause == "experts"
        assert figures.blame[0].culprit == figures.slowest_rank == (1 if routing == "hot" else 0)


@pytest.mark.runs
@pytest.mark.soak
def test_a_delayed_link_of_a_real_run_is_found_and_priced(tmp_path: Path) -> None:
    """Every all-to-all of tokens ends 40 ms later on rank 2: 2 layers, 4 directions, 320 ms per step."""
    settings = ExpertSettings(
        folder=str(tmp_path),
        routing="balanced",
        num_steps=3,
        num_unprofiled_steps=1,
        faults=("delay_link:source=1,target=2,ms=40",),
    )
    _, figures = measured(settings)
    assert [port.rank for port in figures.slow_ports] == [2]
    assert (figures.blame[0].culprit, figures.blame[0].cause) == (2, "transfer")
    worth = {item.remedy: item.ms for item in figures.worth}
    assert worth["repaired_link"] == pytest.approx(320, rel=0.1)


@pytest.mark.runs
@pytest.mark.soak
def test_a_planned_placement_saves_what_was_predicted(tmp_path: Path) -> None:
    """Zipf loads stay where they are, so a placement made from one run holds in the next."""
    settings = ExpertSettings(folder=str(tmp_path / "before"), routing="zipf", num_steps=3, num_unprofiled_steps=1)
    before, figures = measured(settings)
    assert figures.placement is not None
    layers = propose(before.tables["routing"])
    plan = tuple(layer.proposed.experts_of_rank for layer in layers)
    placed = dataclasses.replace(settings, folder=str(tmp_path / "after"), placement=plan)
    _, evened = measured(placed)
    assert evened.rank_load_max_over_mean == pytest.approx(figures.placement.rank_load_after, rel=0.02)
    price = [{item.remedy: item.ms for item in found.worth}["balanced_experts"] for found in (figures, evened)]
    assert price[0] - price[1] == pytest.approx(figures.placement.saved_ms, rel=0.1)
