"""How much a rank alone slows the step down: S_w of the what-if study (Lin et al., OSDI 2025, arXiv 2505.05713, Eq. 4).

S_w = length of the ideal step in which the rank keeps its own durations ÷ length of the ideal step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from traceanalyzer.gaps.causes.blame import Blamed
from traceanalyzer.gaps.causes.graph import DependencyGraph, replay


def rank_slowdowns(steps: Sequence[tuple[DependencyGraph, Blamed]]) -> pl.DataFrame:
    """`rank`, `slowdown` of every rank, from the mean length of its own pipeline's steps."""
    rows: list[tuple[int, int, int]] = []
    for graph, blamed in steps:
        ranks = graph.actions["rank"].unique().sort().to_numpy()
        base = graph.actions["base_ns"].to_numpy().astype(np.int64)
        measured = graph.actions["duration_ns"].to_numpy().astype(np.int64)
        own = graph.actions["rank"].to_numpy()[:, None] == ranks[None, :]
        lengths = replay(graph, np.where(own, measured[:, None], base[:, None])).max(axis=0)
        rows += [(int(rank), int(length), blamed.ideal_ns) for rank, length in zip(ranks, lengths, strict=True)]
    table = pl.DataFrame(rows, schema={"rank": pl.Int32, "length": pl.Int64, "ideal": pl.Int64}, orient="row")
    return table.group_by("rank").agg((pl.col("length").sum() / pl.col("ideal").sum()).alias("slowdown")).sort("rank")
