"""Phases of kernels from names of ranges, against values worked out by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import Analysis, analyze, read
from traceanalyzer.tables.computation.phase_names import phase_of


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("mlp(F)", "F"), ("attn (b)", "B"), ("mlp(W) of layer 3", "W"), ("experts(I)", "I"),
        ("forward", "F"), ("Backward", "B"), ("layer_3_fwd", "F"), ("bwd-1", "B"), ("block.wgrad", "W"),
        ("dgrad 7", "I"), ("GPT.forward", "F"), ("F0", "F"), ("B12", "B"), ("moe_W", "W"), ("input_grad", "I"),
        ("forward_backward", None), ("forward-backward", None), ("1F1B", None), ("loss", None), ("FSDP", None),
        ("Bias", None), ("Wait", None), ("ProfilerStep#3", None), ("Optimizer.step#AdamW.step", None),
        ("forwarding", None), ("item", None),
    ],
)  # fmt: skip
def test_phases_in_names(name: str, phase: str | None) -> None:
    assert pl.select(phase_of(pl.lit(name))).item() == phase


def overlapped(marks: tuple[str, str, str]) -> TinyDevice:
    """A forward of 40 µs on one stream and a backward beside it from 20 to 90, then a gradient of weights of 30 µs."""
    trace = TinyDevice().step(1, 0, 100)
    trace.mark(marks[0], 1, 9).kernel(20, 60, launched=3)
    trace.mark("overlapped", 9, 30).mark(marks[1], 10, 19).kernel(30, 90, launched=12, stream=8)
    trace.kernel(95, 100, launched=15, stream=8)
    return trace.mark(marks[2], 20, 29).kernel(100, 130, launched=22)


def sums(analysis: Analysis, table: str) -> dict[str | None, int]:
    rows = analysis.tables[table].group_by(pl.col("phase").cast(pl.String)).agg(pl.col("duration_ns").sum())
    return dict(rows.iter_rows())


def test_marked_phases_win_over_threads_and_the_ledger_gives_ties_to_the_earlier_kernel(tmp_path: Path) -> None:
    overlapped(("attn(F)", "mlp(B)", "mlp(W)")).write(tmp_path)
    analysis = analyze(read(tmp_path))
    assert sums(analysis, "kernel_phases") == {"F": 40_000, "B": 65_000, "W": 30_000}
    assert set(analysis.tables["kernel_phases"]["basis"]) == {"annotations"}
    # 20-60 forward started first; 60-90 backward, its gap 90-95 and 95-100 too; 100-130 the weights
    assert sums(analysis, "accounting") == {"F": 40_000, "B": 40_000, "W": 30_000}


def test_names_of_one_direction_only_mark_no_phases(tmp_path: Path) -> None:
    overlapped(("attn(F)", "mlp(F)", "mlp(F)")).write(tmp_path)
    table = analyze(read(tmp_path)).tables["kernel_phases"]
    assert set(table["basis"]) <= {"threads"}


def test_marks_around_a_small_part_are_not_the_phases_of_the_step(tmp_path: Path) -> None:
    trace = overlapped(("norm(F)", "norm(B)", "norm(W)")).kernel(140, 900, launched=40)
    trace.write(tmp_path)
    assert "annotations" not in set(analyze(read(tmp_path)).tables["kernel_phases"]["basis"])


def test_the_innermost_of_nested_marks_counts(tmp_path: Path) -> None:
    trace = TinyDevice().step(1, 0, 60).mark("forward", 0, 30).mark("mlp(B)", 10, 20)
    trace.kernel(5, 15, launched=1).kernel(20, 40, launched=12).kernel(50, 53, launched=25)
    trace.write(tmp_path)
    assert sums(analyze(read(tmp_path)), "kernel_phases") == {"F": 13_000, "B": 20_000}


def test_phases_of_deepseeks_own_trace(corpus: Path) -> None:
    analysis = analyze(read(corpus / "deepseek-dualpipe-h800"))
    found = sums(analysis, "kernel_phases")
    assert {phase: round(ns / 1e6, 1) for phase, ns in found.items()} == {"F": 97.4, "B": 111.6, "W": 35.1}
    assert analysis.tables["accounting"]["duration_ns"].sum() == 129_012_000
