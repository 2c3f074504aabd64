"""All-to-all imbalance: who receives how many tokens, how long experts compute, and who waits for it.

*Load* is received token copies, own share included. The *load ratio* is the largest load over the mean load, of the
ranks of one expert group (or of all experts of the layer), averaged over layers and steps. What balanced routing would
give is 1; what chance alone gives is a question for theory.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.measurements.experts.load_time import time_per_row

_LAYER = ["step", "layer", "group"]


def rank_loads(routing: pl.DataFrame) -> pl.DataFrame:
    """Tokens received by every rank: `step`, `layer`, `group`, `rank`, `tokens`, from `ROUTING`."""
    loads = routing.group_by([*_LAYER, "expert_rank"]).agg(pl.col("tokens").sum())
    return loads.rename({"expert_rank": "rank"}).sort([*_LAYER, "rank"])


def byte_loads_of_ranks(collectives: pl.DataFrame) -> pl.DataFrame:
    """Bytes received at dispatch, own share included, in the columns of `rank_loads`; of whole groups only.

    For calls whose split lists were cut: totals are recorded even then. Ratios of bytes are those of tokens.
    """
    whole = pl.col("num_present") == pl.col("num_members")
    dispatched = collectives.filter((pl.col("direction") == "dispatch") & pl.col("layer").is_not_null() & whole)
    known = dispatched.filter(pl.col("receive_bytes").is_not_null().all().over(_LAYER))
    return known.group_by([*_LAYER, "rank"]).agg(pl.col("receive_bytes").sum().alias("tokens")).sort([*_LAYER, "rank"])


def sent_loads(routing: pl.DataFrame) -> pl.DataFrame:
    """Tokens sent by every rank: `step`, `layer`, `group`, `rank`, `tokens`, from `ROUTING`.

    Even where receivers are not: who looks at sends alone does not see a hot expert.
    """
    return routing.group_by([*_LAYER, "rank"]).agg(pl.col("tokens").sum()).sort([*_LAYER, "rank"])


def expert_loads(routing: pl.DataFrame) -> pl.DataFrame:
    """Tokens received by every expert: `step`, `layer`, `group`, `expert`, `tokens`; empty if only ranks are known."""
    known = routing.filter(pl.col("expert").is_not_null())
    return known.group_by([*_LAYER, "expert"]).agg(pl.col("tokens").sum()).sort([*_LAYER, "expert"])


def max_over_mean(loads: pl.DataFrame) -> float | None:
    """Largest load over mean load, averaged over layers and steps; None without loads."""
    ratios = (
        loads.group_by(_LAYER)
        .agg(pl.col("tokens").max() / pl.col("tokens").mean())
        .filter(pl.col("tokens").is_finite())
    )
    mean = ratios["tokens"].mean()
    return float(mean) if isinstance(mean, float) else None


def complete_layers(routing: pl.DataFrame) -> pl.DataFrame:
    """The layers of steps in which every member of the group shows where its tokens went.

    A missing source rank would make every load too small, and unevenly so.
    """
    size = pl.col("group").str.split(",").list.len()
    return routing.filter(pl.col("rank").n_unique().over(_LAYER) == size)


def expert_times(computation: pl.DataFrame, routing: pl.DataFrame) -> pl.DataFrame:
    """Expert computation of every rank: `rank`, `step`, `layer`, `group`, `part`, `duration_ns`.

    `part` is `experts` (forward) or `experts_backward`; the group is the one the rank receives tokens in.
    """
    groups = routing.select(pl.col("expert_rank").alias("rank"), "group").unique()
    return (
        computation.filter(pl.col("part").is_in(["experts", "experts_backward"]))
        .join(groups, on="rank")
        .group_by("rank", *_LAYER, "part")
        .agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("duration_ns"))
        .sort("rank", *_LAYER, "part")
    )


def imbalance_cost(times: pl.DataFrame, loads: pl.DataFrame) -> pl.DataFrame:
    """What uneven loads cost each step: `step`, `cost_ns`.

    Every layer ends at an all-to-all, so each costs its group what the tokens of the fullest rank beyond the mean take, by
    the run's own time per token (`load_time`); forward and backward count. What a rank takes longer at the same load is no
    cost of the load. Groups run side by side: the step pays for the one that loses most. Balanced, it would be 0.

    Args:
        times: of `expert_times`.
        loads: of `rank_loads`.
    """
    known = times.join(loads, on=["rank", *_LAYER])
    each = [_beyond_mean(part) for part in known.partition_by("part")]
    if not each:
        return pl.DataFrame(schema={"step": times.schema["step"], "cost_ns": pl.Float64})
    return (
        pl.concat(each)
        .group_by("step", "group")
        .agg(pl.col("cost_ns").sum())
        .group_by("step")
        .agg(pl.col("cost_ns").max())
        .sort("step")
    )


def _beyond_mean(times: pl.DataFrame) -> pl.DataFrame:
    """Of one part: `cost_ns` of every layer and step."""
    place = pl.struct(_LAYER).rank("dense").cast(pl.Int64)
    per_token = time_per_row(
        times["rank"].cast(pl.Int64).to_numpy(),
        times.select(place.alias("place"))["place"].to_numpy(),
        times["tokens"].cast(pl.Float64).to_numpy(),
        times["duration_ns"].cast(pl.Float64).to_numpy(),
    )
    beyond = (pl.col("tokens").max() - pl.col("tokens").mean()) * per_token
    return times.group_by(_LAYER).agg(beyond.alias("cost_ns"))


def forward_time_per_token(times: pl.DataFrame, loads: pl.DataFrame) -> float | None:
    """Nanoseconds of forward expert computation per received token, over all ranks, layers and steps."""
    joined = times.filter(pl.col("part") == "experts").join(loads, on=["rank", *_LAYER])
    tokens = int(joined["tokens"].sum())
    return float(joined["duration_ns"].sum()) / tokens if tokens else None


def expected_combine_wait(loads: pl.DataFrame, ns_per_token: float) -> pl.DataFrame:
    """Wait at combine if expert time were exactly proportional to tokens: `step`, `wait_ns`.

    Σ over layers and ranks of (largest load - own load) × time per token.
    """
    behind = (pl.col("tokens").max() - pl.col("tokens")).sum()
    return (
        loads.group_by(_LAYER)
        .agg(behind)
        .group_by("step")
        .agg((pl.col("tokens").sum() * ns_per_token).alias("wait_ns"))
        .sort("step")
    )


def waits_by_direction(collectives: pl.DataFrame) -> pl.DataFrame:
    """All-to-all time summed over the ranks of each group: `step`, `group`, `direction`, `wait_ns`, `transfer_ns`, `num`.

    From `COLLECTIVE_SPLITS`. Null where a split is unknown.
    """
    known = pl.col("wait_ns").is_not_null().all()
    return (
        collectives.filter(pl.col("kind") == "all_to_all")
        .group_by("step", "group", pl.col("direction").cast(pl.String))
        .agg(
            pl.when(known).then(pl.col("wait_ns").sum()).alias("wait_ns"),
            pl.when(known).then(pl.col("transfer_ns").sum()).alias("transfer_ns"),
            pl.len().alias("num"),
        )
        .sort("step", "group", "direction")
    )


def slowest_rank(times: pl.DataFrame, collectives: pl.DataFrame) -> int | None:
    """The rank that the others wait for most: by wait time caused at all-to-alls, else by expert time; None if unknown."""
    caused = (
        collectives.filter((pl.col("kind") == "all_to_all") & (pl.col("late_rank") != pl.col("rank")))
        .group_by(pl.col("late_rank").alias("rank"))
        .agg(pl.col("wait_ns").sum().alias("ns"))
        .filter(pl.col("ns") > 0)
    )
    busiest = times.group_by("rank").agg(pl.col("duration_ns").sum().alias("ns"))
    for table in (caused, busiest):
        if not table.is_empty():
            return int(table.sort(["ns", "rank"], descending=[True, False])["rank"][0])
    return None
