"""The published what-if study: by hand on a small pipeline, and its own figures on its own trace."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.errors import InputError
from traceanalyzer.gaps.op_study.study import what_if
from traceanalyzer.schema import OPS, conform
from traceanalyzer.traces.op_table import read_op_table

PUBLISHED = Path(__file__).parents[2] / "data" / "straggler_what_if.csv"


def ops_of(*rows: str) -> pl.DataFrame:
    """Operations of two stages on one replica, written `step stage kind sequence start duration`."""
    names = ("step", "stage", "kind", "sequence", "start_ns", "duration_ns")
    frame = pl.DataFrame([dict(zip(names, row.split(), strict=True)) for row in rows])
    numbers = [pl.col(name).cast(pl.Int64) for name in names if name != "kind"]
    return conform(
        frame.with_columns(numbers).with_columns(pl.col("stage").alias("rank"), pl.lit(0).alias("replica")), OPS
    )


def one_step(step: int, slow: int) -> list[str]:
    """One microbatch through two stages; the second stage's forward takes `slow`, every message 2, all launches 1 late."""
    return [
        f"{step} 0 forward-compute 0 1 10",
        f"{step} 0 forward-send 0 11 2",
        f"{step} 1 forward-recv 0 0 13",
        f"{step} 1 forward-compute 0 14 {slow}",
        f"{step} 1 backward-compute 0 {15 + slow} 20",
        f"{step} 1 backward-send 0 {35 + slow} 2",
        f"{step} 0 backward-recv 0 12 {25 + slow}",
        f"{step} 0 backward-compute 0 {38 + slow} 20",
        f"{step} 0 optimizer 0 {58 + slow} 5",
        f"{step} 1 optimizer 0 {35 + slow} 5",
    ]


def test_slowdowns_by_hand() -> None:
    found = what_if(ops_of(*one_step(0, 10), *one_step(1, 30)))
    # T = 10 + 2 + forward + 20 + 2 + 20 + 5; the mean forward is 15, so T_ideal = 15 + 2 + 15 + 20 + 2 + 20 + 5 = 79.
    assert found.replayed_ns == {0: 69, 1: 89}
    assert found.measured_ns == {0: 73, 1: 93}
    assert found.ideal_ns == 79
    assert found.slowdown == pytest.approx(1)
    assert found.by_stage == {0: pytest.approx(74 / 79), 1: pytest.approx(84 / 79)}
    assert found.by_kind["forward-compute"] == pytest.approx(1)
    assert found.by_rank == found.by_stage | {
        1: pytest.approx(1.0)
    }  # its replica holds both stages: (69 + 89) / 2 / 79
    assert found.slowest_workers_share is None
    assert found.replay_error == pytest.approx(4 / 83)
    # What is missing are the four launches that come 1 late, and nothing else.
    assert found.launched_ns == {0: 73, 1: 93}
    assert found.launched_errors == {0: 0, 1: 0}
    assert found.launch_slowdown == pytest.approx(83 / 79)
    both = pytest.approx(81 / 79)
    assert found.launches_by_kind == {"forward-compute": both, "backward-compute": both}


def test_messages_that_do_not_match_the_computations_are_refused() -> None:
    rows = [row for row in one_step(0, 10) if "forward-recv" not in row]
    with pytest.raises(InputError, match="forward"):
        what_if(ops_of(*rows))


def test_missing_stages_are_refused() -> None:
    rows = [row.replace(" 1 ", " 1000000000 ", 1) for row in one_step(0, 10)]
    with pytest.raises(InputError, match="2 stages with numbers up to 1000000000"):
        what_if(ops_of(*rows))


def test_steps_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match="optimizer 0 of stage 0"):
        what_if(ops_of(*one_step(0, 10), *one_step(1, 10)[:-2]))


def published() -> dict[tuple[str, str], float]:
    lines = [line for line in PUBLISHED.read_text().splitlines() if not line.startswith("#")]
    return {(row["figure"], row["key"]): float(row["value"]) for row in csv.DictReader(lines)}


@pytest.mark.corpus
def test_the_published_figures_are_reproduced(corpus: Path) -> None:
    found = what_if(read_op_table(corpus / "straggler-op-table-ST" / "trace-ST.parquet"))
    figures = {
        ("slowdown", ""): found.slowdown,
        ("ideal_s", ""): found.ideal_ns / 1e9,
        ("slowest_workers_share", ""): found.slowest_workers_share,
        ("last_stage_share", ""): found.last_stage_share,
        **{("replica", str(key)): value for key, value in found.by_replica.items()},
        **{("stage", str(key)): value for key, value in found.by_stage.items()},
        **{("kind", key): value for key, value in found.by_kind.items()},
        **{("replayed_s", str(step)): found.replayed_ns[step] / 1e9 for step in (23, 34, 1048)},
    }
    truth = published()
    launch_slowdown = truth.pop(("launch_slowdown", ""))
    assert figures == {key: pytest.approx(value, rel=2e-6) for key, value in truth.items()}
    assert found.launch_slowdown == pytest.approx(launch_slowdown, rel=1e-6)
    assert found.replay_error < 0.02
    # The rest of the worst step (2.01% by durations alone) are launch delays: with them every step is what was measured.
    assert max(found.launched_errors.values()) < 1e-4
    assert max(found.launches_by_kind, key=lambda kind: found.launches_by_kind[kind]) == "grads-reduce-scatter"


@pytest.mark.corpus
def test_our_own_analysis_of_the_published_trace_names_its_last_stage(corpus: Path) -> None:
    review = analyze(read(corpus / "straggler-op-table-ST" / "trace-ST.parquet")).review
    bubble = review.bubble
    assert bubble is not None
    assert bubble.attribution_ms is not None
    assert bubble.culprits[0].cause == "stage"
    assert bubble.culprits[0].stages == [3]
    assert bubble.replay_error is not None
    assert bubble.replay_error < 0.02
    assert {each.stage[0] for each in review.stragglers} == {3}
    parts = bubble.attribution_ms
    named = ("stage", "straggler", "transfer", "chunk_comm", "host", "jitter", "slack", "outside_sample", "unexplained")
    assert parts.ideal + sum(getattr(parts, name) for name in named) == pytest.approx(parts.measured)
    assert parts.unexplained < 0.02 * parts.measured
    assert review.what_if is not None
    assert review.what_if.slowdown == pytest.approx(1.1787021836556841, rel=1e-6)
