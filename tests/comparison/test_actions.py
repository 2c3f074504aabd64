"""Pipelines without devices: op tables are replayed by their actions."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from inputs.planted_ops import Planted, run_steps

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.comparison.compare import compare
from traceanalyzer.comparison.record import Pair
from traceanalyzer.comparison.side import Side

MICROBATCHES = 6
KINDS = {"F": "forward-compute", "B": "backward-compute"}


def side(planted: Planted, folder: Path, name: str, replicas: int = 1) -> tuple[Side, int]:
    """An op table of 3 stages and 5 steps, and its median step."""
    planted.jitter = 0.01
    actions, _, lengths = run_steps(3, replicas, MICROBATCHES, planted, num_steps=5)
    rows = pl.DataFrame(actions).select(
        "rank", (pl.col("rank") % replicas).alias("replica"), "stage", pl.lit(0).alias("chunk"), "step",
        pl.col("phase").replace_strict(KINDS).alias("kind"), pl.col("microbatch").alias("sequence"), "microbatch",
        "start_ns", (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"),
    )  # fmt: skip
    file = folder / f"{name}.parquet"
    rows.write_parquet(file)
    found = analyze(read(file))
    return Side(name, found.review, found.tables), sorted(lengths)[2]


@pytest.mark.sweep(1)
@pytest.mark.parametrize(
    ("fault", "kind", "ranks", "replicas"),
    [
        (lambda planted: planted.slow_stage(1, 1.15), "stage", [1], 1),
        (lambda planted: planted.slow_stage(2, 1.15), "stage", [6, 7, 8], 3),
        (lambda planted: planted.straggler(4, 1.3), "rank", [4], 3),
    ],
    ids=["a stage", "a stage of three ranks", "a rank of a stage"],
)
def test_slow_actions_are_named_and_sized(fault, kind: str, ranks: list[int], replicas: int, tmp_path: Path) -> None:  # noqa: ANN001
    base, before = side(Planted(1), tmp_path, "base", replicas)
    new, after = side(fault(Planted(2)), tmp_path, "new", replicas)
    pair: Pair = compare(base, [new]).pairs[0]
    first = pair.changes[0]
    assert (first.kind, first.ranks, first.basis) == (kind, ranks, "replay")
    assert first.change_ns == pytest.approx(after - before, rel=0.05)
    assert pair.verdict == "slower"
    assert sum(each.change_ns for each in pair.changes) == pair.change_ns


def test_a_late_host_of_a_pipeline_is_late_for_no_recorded_reason(tmp_path: Path) -> None:
    base, before = side(Planted(1), tmp_path, "base")
    new, after = side(Planted(2).host_stall(1, 4, 40_000_000), tmp_path, "new")
    pair = compare(base, [new]).pairs[0]
    assert (pair.changes[0].kind, pair.changes[0].ranks) == ("late_starts", [1])
    assert pair.changes[0].change_ns == pytest.approx(after - before, rel=0.1)


def test_a_clean_repeat_is_noise(tmp_path: Path) -> None:
    pair = compare(side(Planted(1), tmp_path, "base")[0], [side(Planted(2), tmp_path, "again")[0]]).pairs[0]
    assert pair.verdict == "noise"
    assert all(each.is_noise for each in pair.changes)
