"""What ranks compute more or less because tokens moved between them: experts' time before, by the tokens received now."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from traceanalyzer.comparison.replay.program_times import SEGMENT

MIN_MOVED = 0.02
"""Of a rank's tokens at one place: what differs by less is the router's chance."""


def load_change(
    cells: pl.DataFrame, base: pl.DataFrame, new: pl.DataFrame, ranks: Mapping[int, int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Computation of experts that changed with their tokens, and the cells without it.

    Args:
        cells: `rank`, `place`, `key`, `before_ns`, `after_ns`, ... of both runs.
        base: operations of the base (`ProgramTimes.operations`).
        new: those of the new run.
        ranks: rank of the base by rank of the new run.

    Returns:
        Two tables like `cells`. The first has, of expert computation whose tokens changed, what the old rate gives:
        `before_ns` and `before_ns` · tokens now ÷ tokens before; the second has the rest of the change.
    """
    tokens = _tokens(base, new, ranks)
    if tokens.is_empty():
        return cells.clear(), cells
    rows = cells.join(tokens, on=SEGMENT, how="left", maintain_order="left")
    moved = pl.col("_ratio").is_not_null() & (pl.col("before_ns") > 0) & (pl.col("after_ns") > 0)
    by_load = (pl.col("before_ns") * pl.col("_ratio")).round().cast(pl.Int64)
    load = rows.filter(moved).with_columns(by_load.alias("after_ns")).drop("_ratio")
    rest = rows.with_columns(pl.when(moved).then(by_load).otherwise("before_ns").alias("before_ns")).drop("_ratio")
    return load, rest


def _tokens(base: pl.DataFrame, new: pl.DataFrame, ranks: Mapping[int, int]) -> pl.DataFrame:
    """`rank`, `place` of expert computation whose tokens changed, with `_ratio` (now ÷ before)."""
    renamed = {old: rank for rank, old in ranks.items()}
    before = _received(base).filter(pl.col("rank").is_in(list(renamed)))
    before = before.with_columns(pl.col("rank").replace_strict(renamed, return_dtype=pl.Int64))
    both = before.join(_received(new), on=SEGMENT, suffix="_now").filter(
        (pl.col("bytes") > 0) & (pl.col("bytes_now") > 0)
    )
    ratio = pl.col("bytes_now") / pl.col("bytes")
    return both.filter((ratio - 1).abs() > MIN_MOVED).select(*SEGMENT, ratio.alias("_ratio"))


def _received(operations: pl.DataFrame) -> pl.DataFrame:
    """Bytes that came in just before the expert computation of each place."""
    came = pl.col("received_bytes").shift(1).over("rank").alias("bytes")
    rows = operations.sort(SEGMENT).with_columns(came)
    return rows.filter(pl.col("is_experts") & pl.col("bytes").is_not_null()).select(*SEGMENT, "bytes")
