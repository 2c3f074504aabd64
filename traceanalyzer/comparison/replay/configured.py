"""Runs whose programs differ (microbatches, schedule, buckets): the new program at the old run's speeds.

Speed is a rank's time of a kernel for the same tokens, and the mean time of a transfer. What speeds changed is sized by replay of the new program; what
is left of the step's change is what the other program does.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.comparison.replay.program_times import ProgramTimes

_SAME_BYTES = 0.02
_SAME_NUMBER = 0.01


def at_old_speeds(cells: pl.DataFrame, base: pl.DataFrame, new: pl.DataFrame, work: float) -> pl.DataFrame:
    """`rank`, `place`, `key`, ... of the new program with `before_ns` as the base's kernels would take for the new work.

    A rank's kernel takes its time per step of the base times `work`, however it is cut; one that comes equally often in both
    (the optimizer's) takes what it took. A kernel that the rank did not run before has no old time: it counts as unchanged.

    Args:
        cells: gives the columns of the result.
        base: cells of the base by the new run's ranks.
        new: cells of the new run.
        work: tokens that pass through a rank's stages in a step, now ÷ before.
    """
    keys = ["rank", "key"]
    sums = [rows.group_by(keys).agg(pl.col("ns", "number").sum()) for rows in (base, new)]
    often = (pl.col("number") / pl.col("number_new") - 1).abs() > _SAME_NUMBER
    grown = pl.when(often).then(work).otherwise(1.0)
    ratio = sums[0].join(sums[1], on=keys, suffix="_new").select(
        *keys, (pl.col("ns") * grown / pl.col("ns_new")).alias("_ratio")
    )  # fmt: skip
    before = (pl.col("ns") * pl.col("_ratio").fill_null(1.0).fill_nan(1.0)).round().cast(pl.Int64)
    return (
        new.join(ratio, on=keys, how="left", maintain_order="left")
        .with_columns(
            before.alias("before_ns"),
            pl.col("ns").alias("after_ns"),
            pl.col("number").alias("before_number"),
            pl.col("number").alias("after_number"),
        )
        .select(cells.columns)
    )


def transfers_at_old_speeds(base: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Transfers of the new program (`ProgramTimes.operations` with `ns`) with `before_ns`: the base's mean of the like.

    Alike are operations of a rank of one kind, dimension and set of members, whose bytes are the same.
    """
    keys = ["rank", "kind", "role", "members"]
    mean = base.group_by(keys).agg(pl.col("ns").mean().alias("_mean"), pl.col("bytes").mean().alias("_bytes"))
    like = (pl.col("bytes") - pl.col("_bytes")).abs() <= _SAME_BYTES * pl.col("_bytes")
    before = pl.when(like.fill_null(value=False)).then(pl.col("_mean").round().cast(pl.Int64)).otherwise("ns")
    return new.join(mean, on=keys, how="left", nulls_equal=True, maintain_order="left").with_columns(
        before.fill_null(pl.col("ns")).alias("before_ns"),
        pl.col("ns").alias("after_ns"),
        pl.lit(value=False).alias("is_load"),
    )


def microbatch_scale(base: ProgramTimes, new: ProgramTimes) -> float:
    """How much more a microbatch holds: bytes of the messages between stages, now ÷ before; 1 where they do not tell."""
    sizes = [
        each.operations.filter((pl.col("role") == "pp") & (pl.col("kind") == "send_recv"))["bytes"].median()
        for each in (base, new)
    ]
    before, after = (float(size) if isinstance(size, (int, float)) else 0.0 for size in sizes)
    return after / before if before and after else 1.0


def program_words(base: ProgramTimes, new: ProgramTimes) -> str:
    """Operations per rank and step that one program has more of than the other, in words."""
    what = pl.concat_str("kind", pl.concat_str(pl.lit(" ("), "role", pl.lit(")")).fill_null("")).str.replace_all(
        "_", " "
    )
    ranks = [each.operations["rank"].n_unique() for each in (base, new)]
    totals = [each.operations.with_columns(what.alias("what"))["what"].value_counts() for each in (base, new)]
    per_rank = [
        dict(zip(each["what"], (each["count"] / num).to_list(), strict=True))
        for each, num in zip(totals, ranks, strict=True)
    ]
    differences = [
        f"{name} {per_rank[0].get(name, 0):.3g} → {per_rank[1].get(name, 0):.3g}"
        for name in sorted({*per_rank[0], *per_rank[1]})
        if per_rank[0].get(name, 0) != per_rank[1].get(name, 0)
    ]
    return ", ".join(differences[:3]) + (" per rank and step" if differences else "")
