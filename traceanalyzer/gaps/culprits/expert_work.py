"""What the computation of experts should take, by the rows a rank holds.

Between an exchange that brings tokens to experts and the one that takes them back, ranks compute on as many rows as they
received. The base of such a segment is what the peers take at the same place, moved along a line to the rank's rows: `base =
median of the peers' time + slope · (own rows - median of the peers' rows)`. The slope is the peers' own (median
over them of the Theil-Sen slope over each one's segments), between 0 (time does not follow rows) and the peers' time per
row. A rank with more rows than any of its peers at a place is granted time per row: nothing shows that it should take less.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

EXPERTS_BETWEEN = ["dispatch>combine", "combine_backward>dispatch_backward"]
MAX_PAIRED = 200
"""Segments of a rank whose pairwise slopes are taken: every n-th in order of rows."""
MIN_SPREAD = 0.02
"""Rows that vary less over a rank's segments, relative to their mean, give no slope."""


def expert_segments(operations: pl.DataFrame, directions: pl.DataFrame) -> pl.DataFrame:
    """Segments between an exchange that brings tokens to experts and the next one.

    Args:
        operations: of the programs.
        directions: `COLLECTIVE_SPLITS` with the directions of expert exchanges.

    Returns:
        `rank`, `operation`, `is_experts`, `pair` (the directions around it), `rows` (rows or bytes that its exchange sends
        back; null: not known).
    """
    sides = directions.select(
        "rank",
        "index",
        pl.col("direction").cast(pl.String).alias("_stated"),
        pl.coalesce(pl.when(pl.col("send_splits").list.len() > 0).then(pl.col("send_splits").list.sum()), "send_bytes")
        .cast(pl.Float64)
        .alias("rows"),
    )
    known = (
        operations.join(sides.unique(["rank", "index"]), on=["rank", "index"], how="left")
        .with_columns(pl.coalesce("_stated", "direction").alias("_direction"))
        .sort("rank", "operation")
    )
    pair = pl.concat_str(pl.col("_direction").shift(1).over("rank"), pl.lit(">"), "_direction").alias("pair")
    return known.with_columns(pair).select(
        pl.col("rank").cast(pl.Int64),
        pl.col("operation").cast(pl.Int64),
        pl.col("pair").is_in(EXPERTS_BETWEEN).fill_null(value=False).alias("is_experts"),
        "pair",
        "rows",
    )


def with_slopes(segments: pl.DataFrame) -> pl.DataFrame:
    """Add `slope` (of the peers, nanoseconds per row) and `per_row` (likewise, time over rows) to `segments`.

    Args:
        segments: `rank`, `peers`, `is_experts`, `pair`, `rows`, `compute_ns`.
    """
    known = segments.filter(pl.col("is_experts") & (pl.col("rows") > 0) & pl.col("peers").is_not_null())
    by_rank: dict[tuple[int, str], list[tuple[int, float | None, float]]] = {}
    for (peers, pair, rank), part in known.group_by("peers", "pair", "rank", maintain_order=True):
        rows, took = part["rows"].to_numpy(), part["compute_ns"].to_numpy().astype(np.float64)
        line = (int(rank), _slope(rows, took), float(np.median(took / rows)))  # pyright: ignore[reportArgumentType]
        by_rank.setdefault((int(peers), str(pair)), []).append(line)  # pyright: ignore[reportArgumentType]
    found = [
        (peers, pair, rank, *_of_others([line for line in lines if line[0] != rank]))
        for (peers, pair), lines in by_rank.items()
        for rank, _, _ in lines
        if len(lines) > 1
    ]
    schema = {"peers": pl.Int64, "pair": pl.String, "rank": pl.Int64, "slope": pl.Float64, "per_row": pl.Float64}
    return segments.join(
        pl.DataFrame(found, schema=schema, orient="row"),
        on=["peers", "pair", "rank"],
        how="left",
        maintain_order="left",
    )


def _of_others(lines: list[tuple[int, float | None, float]]) -> tuple[float, float]:
    """Slope and time per row of these ranks."""
    per_row = float(np.median([each for _, _, each in lines]))
    slopes = [slope for _, slope, _ in lines if slope is not None]
    return min(max(float(np.median(slopes)), 0.0), per_row) if slopes else per_row, per_row


def _slope(rows: NDArray[np.float64], took: NDArray[np.float64]) -> float | None:
    """Theil-Sen, pairs weighted by how far apart their rows are; None if rows hardly vary."""
    order = np.argsort(rows, kind="stable")[:: max(1, len(rows) // MAX_PAIRED)]
    x, y = rows[order], took[order]
    if x[-1] - x[0] < MIN_SPREAD * x.mean():
        return None
    apart = x[None, :] - x[:, None]
    above = apart > 0
    weights = apart[above]
    slopes = (y[None, :] - y[:, None])[above] / weights
    ranked = np.argsort(slopes, kind="stable")
    reached = np.cumsum(weights[ranked])
    return float(slopes[ranked][np.searchsorted(reached, reached[-1] / 2)])
