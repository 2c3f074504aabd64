"""Actions of a rank that overlap: by rounding they are cut and counted, by more they set their step apart."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inputs.planted_ops import Planted, run_steps

from traceanalyzer.analysis.assemble import analyze, read
from traceanalyzer.schema import ACTIONS, conform
from traceanalyzer.tables.actions.overlaps import MAX_OVERLAP_SHARE, Overlaps, overlapping_steps, without_overlaps


def spans(*rows: tuple[int, int, int]) -> pl.DataFrame:
    return conform(
        pl.DataFrame(rows, schema=["rank", "start_ns", "end_ns"], orient="row").with_columns(step=1), ACTIONS
    )


def test_rounding_is_cut_at_the_later_start_and_counted() -> None:
    cut, overlaps = without_overlaps(spans((0, 0, 1004), (0, 1000, 2000), (0, 2000, 3000), (1, 500, 900)))
    assert cut["end_ns"].to_list() == [1000, 2000, 3000, 900]
    assert overlaps == Overlaps(1, 4, 4)
    assert overlapping_steps(cut, ["step"]).is_empty()


def test_an_overlap_beyond_half_a_percent_of_the_shorter_action_stays() -> None:
    frame = spans((0, 0, 10_006), (0, 10_000, 11_000))
    cut, overlaps = without_overlaps(frame)
    assert cut.equals(frame)
    assert overlaps == Overlaps()
    assert overlapping_steps(cut, ["step"])["step"].to_list() == [1]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5000), st.integers(0, 3000)), max_size=12))
def test_cuts_are_small_and_sum_to_what_is_reported(rows: list[tuple[int, int, int]]) -> None:
    frame = spans(*[(rank, start, start + length) for rank, start, length in rows])
    cut, overlaps = without_overlaps(frame)
    lost = frame["end_ns"] - cut["end_ns"]
    assert (lost >= 0).all()
    assert int(lost.sum()) == overlaps.total_ns
    assert int((lost > 0).sum()) == overlaps.num
    assert all(
        n <= MAX_OVERLAP_SHARE * length for n, length in zip(lost, frame["end_ns"] - frame["start_ns"], strict=True)
    )


def op_table(folder: Path, later_ns: dict[tuple[int, int], int]) -> Path:
    """4 steps of 2 replicas of 3 stages in which the first action of (rank, step) lasts longer than until the next."""
    actions, _, _ = run_steps(3, 2, 5, Planted(), num_steps=4)
    kinds = {"F": "forward-compute", "B": "backward-compute"}
    lines = ["rank,replica,stage,step,kind,start_ns,duration_ns,microbatch"]
    seen: set[tuple[int, int]] = set()
    for row in sorted(actions, key=lambda each: int(str(each["start_ns"]))):
        rank, step, stage = (int(str(row[name])) for name in ("rank", "step", "stage"))
        start, end = int(str(row["start_ns"])), int(str(row["end_ns"]))
        if (rank, step) not in seen:
            end += later_ns.get((rank, step), 0)
        seen.add((rank, step))
        lines.append(
            f"{rank},{rank % 2},{stage},{step},{kinds[str(row['phase'])]},{start},{end - start},{row['microbatch']}"
        )
    path = folder / "ops.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rounding_in_an_op_table_changes_nothing_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    clean = analyze(read(op_table(tmp_path / "clean", {}))).review
    review = analyze(read(op_table(tmp_path, {(0, 1): 31_000, (1, 2): 17_000}))).review
    assert clean.bubble is not None
    assert clean.quality.overlaps is None
    assert review.bubble is not None
    assert review.bubble.measured_share == pytest.approx(clean.bubble.measured_share, abs=1e-6)
    assert review.quality.overlaps is not None
    assert (review.quality.overlaps.num_clipped, review.quality.overlaps.largest_us) == (2, 31)
    assert review.quality.overlaps.clipped_ms == pytest.approx(0.048)
    assert review.quality.overlaps.num_steps_apart == 0


def test_a_larger_overlap_sets_its_step_apart_and_nothing_else(tmp_path: Path) -> None:
    review = analyze(read(op_table(tmp_path, {(0, 1): 2_000_000}))).review
    assert review.bubble is not None
    assert {(each.pipeline, each.step) for each in review.bubble.steps} == {
        (0, 0),
        (0, 2),
        (0, 3),
        *((1, s) for s in range(4)),
    }
    assert review.quality.overlaps is not None
    assert review.quality.overlaps.num_steps_apart == 1
    assert review.bubble.num_pipelines == 2
