"""Ranks that do the same work, and what each does beyond them, place by place of the program.

Ranks are *peers* if they share a collective group and their program has the same operations in every step. Groups that hold
the whole job count only where no pipeline divides it. A *segment* is what a rank does before one operation of its step's
program; its base is the median of the same segment of the peers, itself excluded: two members are enough. Computation of
experts, between dispatch and combine, follows the rows a rank holds (`expert_work`); what more rows take is load.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.gaps.culprits.expert_work import expert_segments, with_slopes
from traceanalyzer.measurements.communication.programs import Programs

SHARING = ["dp", "tp", "ep", "cp"]
"""Roles of groups whose members do the same work."""
PARTS = ["compute_ns", "host_ns", "other_ns"]
_SEGMENT = ["rank", "step", "operation"]


def peers(operations: pl.DataFrame) -> pl.DataFrame:
    """`rank`, `peers` (a number that ranks doing the same work share), of ranks with one peer at least."""
    sets = _joined(_sharing_groups(operations))
    programs = (
        operations.sort("rank", "operation")
        .group_by("rank", "step")
        .agg(pl.concat_str(_what()).str.join(";").alias("_program"))
        .sort("rank", "step")
        .group_by("rank")
        .agg(pl.concat_str(pl.col("step").cast(pl.String), pl.lit("="), "_program").str.join("|").alias("_program"))
    )
    return (
        programs.join(sets, on="rank")
        .with_columns(pl.struct("_set", "_program").rank("dense").alias("peers"))
        .filter(pl.len().over("peers") > 1)
        .select("rank", pl.col("peers").cast(pl.Int64))
        .sort("rank")
    )


def _what() -> list[pl.Expr]:
    role = pl.col("role").fill_null("")
    return [pl.col("kind"), pl.lit("/"), role, pl.lit("/"), pl.col("direction").fill_null("")]


def _sharing_groups(operations: pl.DataFrame) -> list[list[int]]:
    in_pipeline = set(operations.filter((pl.col("kind") == "send_recv") & (pl.col("role") == "pp"))["rank"])
    rows = operations.filter(pl.col("group").is_not_null()).select("group", "role").unique().iter_rows()
    found: list[list[int]] = []
    for text, role in rows:
        members = [int(rank) for rank in text.split(",") if rank]
        if role in SHARING or not in_pipeline.intersection(members):
            found.append(members)
    return found


def _joined(groups: list[list[int]]) -> pl.DataFrame:
    """`rank`, `_set`: groups that have a rank in common are one set."""
    home: dict[int, int] = {}

    def root(rank: int) -> int:
        while home.setdefault(rank, rank) != rank:
            rank = home[rank]
        return rank

    for members in groups:
        for rank in members:
            home[root(rank)] = root(members[0])
    rows = [(rank, root(rank)) for rank in sorted(home)]
    return pl.DataFrame(rows, schema={"rank": pl.Int64, "_set": pl.Int64}, orient="row")


def segments(nodes: pl.DataFrame, found: Programs, directions: pl.DataFrame) -> pl.DataFrame:
    """What every rank does before each operation, with the level of its peers.

    Args:
        nodes: `NODES` of the program graph.
        found: the programs.
        directions: `COLLECTIVE_SPLITS` with the directions of expert exchanges.

    Returns:
        `rank`, `step`, `operation`, `place` (in the step), `role`, `compute_ns`, `host_ns`, `other_ns`, `peers`,
        `num_peers`, `is_experts`, `is_first` (of the capture), and of each part its base (null: none), `base_host_ns`, ...
    """
    first = found.operations.group_by("rank", "step").agg(pl.col("operation").min().alias("_first"))
    whole = (
        nodes.group_by(_SEGMENT)
        .agg(pl.col(PARTS).sum())
        .join(first.cast({"rank": pl.Int64, "step": pl.Int64}), on=["rank", "step"], how="left")
        .with_columns((pl.col("operation") - pl.col("_first").fill_null(0)).alias("place"))
        .with_columns(
            ((pl.col("step") == pl.col("step").min().over("rank")) & (pl.col("place") <= 0)).alias("is_first"),
        )
        .join(peers(found.operations).cast({"rank": pl.Int64}), on="rank", how="left")
        .join(expert_segments(found.operations, directions), on=["rank", "operation"], how="left")
        .with_columns(pl.col("is_experts").fill_null(value=False))
    )
    alike = ["peers", "step", "place"]
    for part in PARTS:
        others = median_of_others(whole, part, alike)
        base = pl.when(pl.col("peers").is_not_null() & (pl.len().over(alike) > 1)).then(others)
        whole = whole.with_columns(base.alias(f"base_{part}"))
    whole = _with_expert_base(_with_usual_host(whole), alike)
    return (
        whole.with_columns((pl.len().over(alike) - 1).alias("num_peers"))
        .drop("_first", "pair", "rows")
        .sort("rank", "step", "operation")
    )


def _with_expert_base(rows: pl.DataFrame, alike: list[str]) -> pl.DataFrame:
    """The base of expert computation at the rank's own rows; null if rows are not known."""
    if not rows["is_experts"].any():
        return rows
    sloped = with_slopes(rows)
    sloped = sloped.with_columns(median_of_others(sloped, "rows", alike).alias("_usual_rows"))
    beyond = pl.col("rows") - pl.col("_usual_rows")
    per_row = pl.when(_exceeds_others("rows", alike)).then("per_row").otherwise("slope")
    base = (pl.col("base_compute_ns") + per_row * beyond).round().cast(pl.Int64).clip(lower_bound=0)
    return sloped.with_columns(
        pl.when(pl.col("is_experts")).then(base).otherwise("base_compute_ns").alias("base_compute_ns")
    ).drop("slope", "per_row", "_usual_rows")


def _exceeds_others(part: str, alike: list[str]) -> pl.Expr:
    """Whether a row of its group is alone at the top."""
    return (pl.col(part) == pl.col(part).max().over(alike)) & (
        pl.col(part).rank("max").over(alike) == pl.len().over(alike)
    )


def _with_usual_host(rows: pl.DataFrame) -> pl.DataFrame:
    """The base of late launches on ranks without peers: no more in sum than the median of the other ranks of the step."""
    host = pl.when(~pl.col("is_first")).then("host_ns").otherwise(0).sum().alias("_own")
    totals = rows.group_by("rank", "step").agg(host)
    totals = totals.with_columns(median_of_others(totals, "_own", ["step"]).alias("_usual"))
    share = (pl.col("_usual") / pl.col("_own")).clip(upper_bound=1.0)
    usual = pl.when(pl.col("_own") > 0).then(
        (pl.col("host_ns") * share).round().cast(pl.Int64, strict=False)
    )  # 0/0 is cast before it is left out
    alone = pl.col("peers").is_null()
    return (
        rows.join(totals, on=["rank", "step"], how="left", maintain_order="left")
        .with_columns(pl.when(alone).then(usual).otherwise("base_host_ns").alias("base_host_ns"))
        .drop("_own", "_usual")
    )


def median_of_others(rows: pl.DataFrame, part: str, alike: list[str]) -> pl.Series:
    """The median of `part` over the other rows of each row's group."""
    ordered = pl.col(part).sort().over(alike, mapping_strategy="join")
    at = pl.col(part).rank("ordinal").over(alike).cast(pl.Int64) - 1
    num = pl.len().over(alike).cast(pl.Int64)

    def other(position: pl.Expr) -> pl.Expr:
        """The value at a position among the others."""
        place = position + (position >= at).cast(pl.Int64)
        return pl.col("_ordered").list.get(place, null_on_oob=True)

    low, high = (num - 2) // 2, (num - 1) // 2
    return (
        rows.with_columns(ordered.alias("_ordered")).select(((other(low) + other(high)) // 2).alias("base")).to_series()
    )
