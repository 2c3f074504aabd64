"""Price of expert imbalance and slow links where ranks also form pipelines: planted jobs against their healthy twins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from planted import Faults, Job, plant

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.measurements.communication.repaired_links import with_repaired
from traceanalyzer.measurements.communication.slow_exchange import expected_transfers, slow_ports
from traceanalyzer.measurements.experts.traffic import traffic
from traceanalyzer.review import AllToAll, Review
from traceanalyzer.review.words import milliseconds
from traceanalyzer.schema import COLLECTIVE_SPLITS, conform

BASE = Job(pp=2, dp=4, ep=4, num_microbatches=4, moe_layers=1)
HOT = dataclasses.replace(BASE, moe_hot_share=0.4)
LIGHT: dict[str, Any] = {"gradient_bytes": 1 << 16, "p2p_bytes": 1 << 16}
"""Only the all-to-alls' transfers matter."""


def review(folder: Path, job: Job, faults: Faults | None = None) -> tuple[Review, AllToAll]:
    found = analyze(read(plant(job, faults or Faults(), folder).traces)).review
    assert found.all_to_all is not None
    return found, found.all_to_all


def step_ms(found: Review) -> float:
    assert found.step.duration_ms.median is not None
    return found.step.duration_ms.median


def worth(figures: AllToAll) -> dict[str, float]:
    return {item.remedy: item.ms for item in figures.worth}


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"schedule": "Interleaved1F1B", "num_chunks": 2, "num_microbatches": 2},
        {"coalesced": True, "labels": None, "framework": "megatron"},
    ],
    ids=["1F1B", "Interleaved1F1B", "coalesced"],
)
def test_balanced_experts_are_worth_the_difference_to_the_twins(tmp_path: Path, change: dict[str, Any]) -> None:
    found, figures = review(tmp_path / "hot", dataclasses.replace(HOT, **change))
    even, of_even = review(tmp_path / "even", dataclasses.replace(BASE, even_exchange=True, **change))
    near, _ = review(tmp_path / "near", dataclasses.replace(BASE, **change))
    assert figures.replayed_step_ms == pytest.approx(step_ms(found), rel=1e-4)
    told = f"this costs {milliseconds(worth(figures)['balanced_experts'])}"
    assert any(told in sentence for sentence in found.headline.sentences)
    assert worth(figures)["balanced_experts"] == pytest.approx(step_ms(found) - step_ms(even), rel=0.01)
    # Without a hot expert loads still differ by a fifth: what is left of the imbalance is not saved.
    assert worth(figures)["balanced_experts"] == pytest.approx(step_ms(found) - step_ms(near), rel=0.1)
    assert worth(of_even)["balanced_experts"] == pytest.approx(0.0, abs=0.001 * step_ms(even))


@pytest.mark.wide
def test_full_overlap_is_worth_the_difference_to_free_transfers(tmp_path: Path) -> None:
    job = dataclasses.replace(HOT, num_microbatches=2, **LIGHT)
    found, figures = review(tmp_path / "hot", job)
    free, _ = review(tmp_path / "free", dataclasses.replace(job, token_bytes=2, latency_ns=1))
    assert worth(figures)["full_overlap"] == pytest.approx(step_ms(found) - step_ms(free), rel=0.05)


@pytest.mark.wide
@pytest.mark.parametrize(("pp", "slow", "hot_share"), [(2, 5, 0.2), (1, 2, 0.0)])
def test_a_repaired_link_is_worth_the_difference_to_the_healthy_twin(
    tmp_path: Path, pp: int, slow: int, hot_share: float
) -> None:
    job = dataclasses.replace(BASE, pp=pp, moe_hot_share=hot_share, moe_layers=2, num_microbatches=2, **LIGHT)
    found, figures = review(tmp_path / "slow", job, Faults(slow_link={slow: 6.0}))
    healthy, of_healthy = review(tmp_path / "healthy", job)
    assert [port.rank for port in figures.slow_ports] == [slow]
    assert worth(figures)["repaired_link"] == pytest.approx(step_ms(found) - step_ms(healthy), rel=0.03)
    assert worth(of_healthy)["repaired_link"] == pytest.approx(0.0, abs=0.001 * step_ms(healthy))


@pytest.mark.wide
def test_a_rank_that_was_not_captured_withholds_the_price(tmp_path: Path) -> None:
    found, figures = review(
        tmp_path, dataclasses.replace(HOT, num_microbatches=2), Faults(missing_ranks=frozenset({5}))
    )
    assert figures.worth == []
    reasons = [item.reason for item in found.quality.withheld if item.metric == "all_to_all.replayed_step_ms"]
    assert len(reasons) == 1
    assert reasons[0].startswith("ranks also wait for pipeline messages")


def exchange_splits(bytes_of: dict[tuple[int, int], int], repeats: int, slow: int, factor: int) -> pl.DataFrame:
    """All-to-alls whose transfers take 1 ns per byte sent, `factor` with rank `slow`."""
    ranks = range(4)
    rows: list[dict[str, Any]] = []
    for sequence in range(repeats):
        scale = {pair: size * (1 + (sequence * (3 + pair[0] + 2 * pair[1])) % 5) for pair, size in bytes_of.items()}
        for rank in ranks:
            sent = [scale.get((rank, peer), 0) for peer in ranks]
            received = [scale.get((peer, rank), 0) for peer in ranks]
            cost = max(
                sum(size * (factor if slow in (rank, peer) else 1) for peer, size in enumerate(side) if peer != rank)
                for side in (sent, received)
            )
            base = {"step": 1, "group": "0,1,2,3", "kind": "all_to_all", "direction": "dispatch", "layer": 0}
            at = sequence * 10**9
            rows.append(
                base
                | {"rank": rank, "sequence": sequence, "match": sequence, "start_ns": at, "end_ns": at + cost}
                | {"wait_ns": 0, "transfer_ns": cost, "send_splits": sent, "receive_splits": received}
                | {"send_bytes": sum(sent), "receive_bytes": sum(received)}
            )
    return conform(pl.DataFrame(rows, infer_schema_length=None), COLLECTIVE_SPLITS)


def test_repaired_transfers_take_what_the_healthy_rate_says() -> None:
    pairs = {(a, b): 1000 + 100 * a + 170 * b for a in range(4) for b in range(4)}
    splits = exchange_splits(pairs, 12, slow=2, factor=5)
    matrix = traffic(splits)
    found = with_repaired(expected_transfers(splits, matrix), matrix)
    assert slow_ports(found)["rank"].to_list() == [2]
    truth = found.select(pl.max_horizontal("sent_bytes", "received_bytes"))["sent_bytes"].to_list()
    assert found["repaired_ns"].to_list() == pytest.approx(truth, rel=0.02)


def test_without_a_slow_port_the_line_stays() -> None:
    pairs = {(a, b): 1000 + 100 * a + 170 * b for a in range(4) for b in range(4)}
    splits = exchange_splits(pairs, 12, slow=9, factor=1)
    matrix = traffic(splits)
    found = with_repaired(expected_transfers(splits, matrix), matrix)
    assert found["repaired_ns"].equals(found["expected_ns"])


def test_with_equal_bytes_the_slow_rank_s_own_transfers_tell_the_rates_apart() -> None:
    splits = _equal_bytes()
    matrix = traffic(splits)
    found = with_repaired(expected_transfers(splits, matrix), matrix)
    assert found["repaired_ns"].unique().to_list() == [3 * 1000]  # three peers at one nanosecond per byte


def _equal_bytes() -> pl.DataFrame:
    splits = exchange_splits({(a, b): 1000 for a in range(4) for b in range(4)}, 1, slow=2, factor=5)
    copies = [splits.with_columns(pl.lit(n, splits["sequence"].dtype).alias("sequence")) for n in range(12)]
    return pl.concat(copies)


@pytest.mark.sweep(1)
@pytest.mark.parametrize("pp", [2, 3])
def test_hot_experts_of_a_pipeline_are_one_fault_of_one_rank(tmp_path: Path, pp: int) -> None:
    job = Job(pp=pp, dp=2 * pp, ep=2 * pp, num_microbatches=4, moe_layers=1, moe_hot_share=0.3, steps_ahead=0)
    found, _ = review(tmp_path, job)
    (fault,) = [each for each in found.findings if each.remedy == "fault"]
    assert fault.id == "experts.balanced"
    assert f"the experts of rank {fault.rank}" in (fault.statement or "")
    assert f"experts of rank {fault.rank}," in (fault.action or "")
    assert found.stragglers == []
