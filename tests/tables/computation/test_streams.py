"""Kernels that run over the next ones of their stream."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from inputs.tiny_device import TinyDevice

from traceanalyzer.analysis.assemble import Analysis, analyze, read


def two_steps(folder: Path, end: int, **args: int) -> Analysis:
    """Two steps of 4 ms, each three kernels of 300 µs; the last one of the first step ends at `end` µs."""
    trace = TinyDevice()
    for step in (1, 2):
        at = 4000 * step
        trace.step(step, at, at + 4000)
        for k, start in enumerate((100, 1100, 2100)):
            last = step == 1 and k == 2
            trace.kernel(at + start, end if last else at + start + 300, launched=at + 10 + k, **args if last else {})
    trace.write(folder)
    return analyze(read(folder))


def lengths(analysis: Analysis) -> list[int]:
    kernels = analysis.tables["kernels"].sort("start_ns")
    return kernels.select((pl.col("end_ns") - pl.col("start_ns")) // 1000).to_series().to_list()


def test_a_kernel_over_the_next_start_is_cut_there_and_said_first(tmp_path: Path) -> None:
    analysis = two_steps(tmp_path, 900_000)
    assert lengths(analysis) == [300, 300, 2000, 300, 300, 300]  # from 6.1 to the next start at 8.1 ms
    assert any("their end is wrong" in line for line in analysis.review.warnings)
    # the step's end is that of its last kernel whose end is known
    bounds = analysis.tables["steps"].select((pl.col("end_ns") - pl.col("end_ns").min()) // 1000).to_series().to_list()
    assert bounds == [0, 10_400 - 5_400]


def test_programmatic_launches_overlap_and_are_left_alone(tmp_path: Path) -> None:
    analysis = two_steps(tmp_path, 8_100 + 45)
    assert lengths(analysis)[2] == 2045
    assert not any("their end is wrong" in line for line in analysis.review.warnings)


def test_branches_of_a_graph_run_at_once_under_one_number(tmp_path: Path) -> None:
    analysis = two_steps(tmp_path, 11_000, **{"graph id": 4})
    assert lengths(analysis)[2] == 4900
    assert not any("their end is wrong" in line for line in analysis.review.warnings)


@pytest.mark.wide
def test_kernels_that_start_together_are_cut_at_the_next_later_start(tmp_path: Path) -> None:
    trace = TinyDevice().step(1, 0, 5000)
    trace.kernel(100, 9000, launched=5).kernel(100, 400, launched=8).kernel(700, 900, launched=12)
    trace.write(tmp_path)
    assert sorted(lengths(analyze(read(tmp_path)))) == [200, 300, 600]
