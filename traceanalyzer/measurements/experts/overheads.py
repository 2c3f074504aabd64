"""What an expert layer costs besides its experts' work on tokens: drops, padding, permutation, exchange of counts.

*Padded rows* are rows that experts compute and no token fills: buffers sent filled up to a capacity, and rows that align
a grouped multiplication. They cost the part of the expert time that they are of its rows.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.experts.loads import LAYER

KEYS = [*LAYER, "rank"]
_PERMUTATION = ["permute", "unpermute"]


def expert_overheads(
    records: pl.DataFrame, routing: pl.DataFrame, computation: pl.DataFrame, splits: pl.DataFrame
) -> pl.DataFrame:
    """Per layer and rank: `dropped_tokens`, `computed_rows`, `padded_rows`, `router_ns`, `permutation_ns`, `count_exchange_ns`.

    Args:
        records: `ROUTING_RECORDS`; without them drops and padding are null.
        routing: complete `ROUTING` of the captured steps.
        computation: ranges of expert layers.
        splits: `COLLECTIVE_SPLITS`.
    """
    rows = _rows(records, routing)
    timed = _ranges(computation, routing).join(_counting(splits), on=KEYS, how="full", coalesce=True, nulls_equal=True)
    return rows.join(timed, on=KEYS, how="full", coalesce=True, nulls_equal=True)


def _rows(records: pl.DataFrame, routing: pl.DataFrame) -> pl.DataFrame:
    """Drops of each source rank, and what each rank computes beyond the tokens it receives."""
    received = routing.group_by(*LAYER, pl.col("expert_rank").alias("rank")).agg(pl.col("tokens").sum())
    noted = (
        records.with_columns(pl.col("group").cast(pl.List(pl.String)).list.join(","))
        .group_by(KEYS)
        .agg(
            pl.col("dropped").sum().alias("dropped_tokens"),
            pl.col("receive_splits").list.sum().sum().alias("arrived"),
            pl.col("aligned_rows").sum(),
        )
    )
    computed = pl.col("arrived") + pl.col("aligned_rows")
    whole = pl.col("arrived") >= pl.col("tokens")
    return received.join(noted, on=KEYS, how="left").select(
        *KEYS,
        "dropped_tokens",
        pl.when(whole).then(computed).alias("computed_rows"),
        pl.when(whole).then(computed - pl.col("tokens")).alias("padded_rows"),
    )


def _ranges(computation: pl.DataFrame, routing: pl.DataFrame) -> pl.DataFrame:
    groups = routing.select(pl.col("expert_rank").alias("rank"), "group").unique()
    length = pl.col("end_ns") - pl.col("start_ns")

    def total(parts: list[str], name: str) -> pl.Expr:
        chosen = pl.col("part").is_in(parts)
        return pl.when(chosen.any()).then(length.filter(chosen).sum()).alias(name)

    return (
        computation.join(groups, on="rank")
        .group_by(KEYS)
        .agg(total(["router"], "router_ns"), total(_PERMUTATION, "permutation_ns"))
    )


def _counting(splits: pl.DataFrame) -> pl.DataFrame:
    counted = splits.filter((pl.col("direction") == "count_exchange") & pl.col("layer").is_not_null())
    return counted.group_by(KEYS).agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("count_exchange_ns"))
