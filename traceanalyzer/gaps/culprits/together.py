"""Slow ranks of which each hides the other: the repair of one alone saves little, that of all of them much."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from traceanalyzer.gaps.culprits.peers import PARTS
from traceanalyzer.gaps.culprits.price import Saving, leveled, spread, step_weights
from traceanalyzer.gaps.culprits.program_graph import ProgramGraph


def joint_saving(graph: ProgramGraph, segments: pl.DataFrame, ranks: Sequence[int]) -> Saving:
    """What all `ranks` at the level of their peers save per step, by one replay."""
    rows = leveled(graph, segments)
    own = step_weights(graph)
    here = np.isin(rows["rank"].to_numpy(), list(ranks))
    change = np.where(here, sum((rows[f"to_{part}"] - rows[part]).to_numpy() for part in PARTS), 0)
    lengths = graph.lengths(np.maximum(np.stack([own, own + change], axis=1), 0))
    return spread(lengths[:, 0] - lengths[:, 1], float(np.median(lengths[:, 0])))


def hidden_ranks(segments: pl.DataFrame, ranks: Sequence[int], least_ns: float) -> list[int]:
    """Those of `ranks` whose computation is above that of their peers by more than `least_ns` in every step."""
    beyond = (pl.col("compute_ns") - pl.col("base_compute_ns")).fill_null(0).sum().alias("ns")
    rows = segments.filter(pl.col("rank").is_in(list(ranks))).group_by("rank", "step").agg(beyond)
    clear = rows.group_by("rank").agg(pl.col("ns").min()).filter(pl.col("ns") > least_ns)
    return sorted(int(rank) for rank in clear["rank"])
