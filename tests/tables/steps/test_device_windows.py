"""First windows of several devices that one thread drives in turn."""

from __future__ import annotations

import polars as pl
import pytest

from traceanalyzer.schema import KERNELS, RANKS, STEPS, conform
from traceanalyzer.tables.steps.windows import with_cut_starts

ENDS = {0: [70, 170, 270], 1: [95, 195, 295]}
"""Ends of the windows of two devices with steps of 100."""


def tables(first: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Windows, and a kernel at the begin of every first one; that of device 1 begins at `first`."""
    starts = {rank: [0 if rank == 0 else first, *ends[:-1]] for rank, ends in ENDS.items()}
    rows = [
        {"rank": rank, "cycle": 0, "step": n, "start_ns": start, "end_ns": ENDS[rank][n]}
        for rank, begun in starts.items()
        for n, start in enumerate(begun)
    ]
    windows = conform(pl.DataFrame(rows), STEPS)
    return windows, conform(pl.DataFrame(rows).with_columns(pl.lit("gemm").alias("kind")), KERNELS)


@pytest.mark.parametrize(
    ("source", "first", "cut"), [("device", 60, [1]), ("device", 5, []), ("distributed_info", 60, [])]
)
def test_a_late_turn_in_the_first_step_is_a_cut_window(source: str, first: int, cut: list[int]) -> None:
    windows, on_device = tables(first)
    ranks = conform(pl.DataFrame({"rank": [0, 1], "cycle": [0, 0], "rank_source": [source] * 2}), RANKS)
    marked = with_cut_starts(windows, on_device, ranks)
    late = marked.filter(pl.col("open_start").fill_null(value=False) & (pl.col("rank") == 1))
    assert late["rank"].to_list() == cut
    assert marked.select("rank", "step", "start_ns", "end_ns").equals(
        windows.select("rank", "step", "start_ns", "end_ns")
    )
