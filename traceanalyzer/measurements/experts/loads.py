"""How uneven loads are, in the usual figures, and whether the same rank or expert stays hot.

Loads are token copies of the ranks of one expert group, or of all experts of a layer. Of loads x₁ ≤ … ≤ xₙ with mean
μ: *max over mean* x_n/μ (what costs time), *MaxVio* = max over mean − 1 (Wang et al. 2024, arXiv:2408.15664), *CV* =
population standard deviation/μ, *Gini* = Σ(2i − n − 1)xᵢ/(nΣx), *entropy share* = entropy of the shares ÷ ln n.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import LOAD_STATISTICS, conform

LAYER = ["step", "layer", "group"]
STEADY_SHARE = 0.8
"""From this persistent share on the same member is hot in (nearly) every step."""
WANDERING_SHARE = 0.5
"""Up to this persistent share another member is hot each time."""
QUIET_SHARE = 0.25
"""Where the median step has less than this of the excess (max over mean − 1) of the worst one, imbalance comes in bursts."""
BURST_SHARE = 0.5
"""A burst is a step with at least this much of the worst step's excess."""
MIN_STEPS = 3


def load_statistics(loads: pl.DataFrame, unit: str, side: str) -> pl.DataFrame:
    """`LOAD_STATISTICS` of a table of loads with `step`, `layer`, `group`, `tokens` and a column called `unit`.

    `unit` is `rank` or `expert`; `side`, `received` or `sent`, is written down as given. Layers without tokens are left
    out: their loads have no mean.
    """
    load = pl.col("tokens").cast(pl.Float64)
    total, number = load.sum(), pl.len()
    position = pl.int_range(1, pl.len() + 1)
    share = load / total
    entropy = -pl.when(share > 0).then(share * share.log()).otherwise(0.0).sum()
    rows = (
        loads.lazy()
        .sort(*LAYER, "tokens", unit, descending=[False, False, False, False, True])
        .group_by(LAYER, maintain_order=True)
        .agg(
            pl.lit(unit).alias("unit"),
            pl.lit(side).alias("side"),
            number.alias("num"),
            pl.col("tokens").sum().alias("tokens"),
            (load.max() / load.mean()).alias("max_over_mean"),
            (load.std(ddof=0) / load.mean()).alias("cv"),
            (((2 * position - number.cast(pl.Int64) - 1) * load).sum() / (number * total)).alias("gini"),
            pl.when(number > 1).then(entropy / number.cast(pl.Float64).log()).otherwise(1.0).alias("entropy_share"),
            entropy.exp().alias("num_effective"),
            (pl.col("tokens") == 0).sum().alias("num_idle"),
            pl.col(unit).last().alias("hottest"),
        )
        .filter(pl.col("tokens") > 0)
        .with_columns((pl.col("max_over_mean") - 1).alias("max_vio"))
        .sort(LAYER)
        .collect()
    )
    return conform(rows, LOAD_STATISTICS)


def persistence(loads: pl.DataFrame, unit: str) -> pl.DataFrame:
    """Whether imbalance stays where it is: `layer`, `group`, `num_steps`, `persistent_share`, `hottest`, `pattern`, `bursts`.

    `persistent_share` = (max over mean of the loads summed over steps − 1) ÷ (mean over steps of max over mean − 1): the
    part of the imbalance that another placement of experts can remove. 1: the same member is hot in every step; for
    independent steps it falls like 1/√steps. `pattern` is `bursts` where few steps are uneven (these are listed), else
    `steady`, `mixed` or `wandering`; null below three steps or where nothing is uneven.
    """
    number, excess = pl.col("step").n_unique().over("layer", "group"), pl.col("ratio") - 1
    per_step = (
        loads.group_by(LAYER)
        .agg((pl.col("tokens").max() / pl.col("tokens").mean()).alias("ratio"))
        .filter(pl.col("ratio").is_finite())
        .sort("step")
        .group_by("layer", "group")
        .agg(
            pl.col("ratio").mean().alias("each"),
            (pl.col("ratio").median() - 1 < QUIET_SHARE * excess.max()).alias("is_bursty"),
            pl.col("step").filter(excess >= BURST_SHARE * excess.max()).alias("bursts"),
        )
    )
    summed = (
        loads.with_columns(number.alias("num_steps"))
        .group_by("layer", "group", "num_steps", unit)
        .agg(pl.col("tokens").sum())
        .sort("layer", "group", "tokens", unit, descending=[False, False, False, True])
        .group_by("layer", "group", "num_steps", maintain_order=True)
        .agg(
            (pl.col("tokens").max() / pl.col("tokens").mean()).alias("together"),
            pl.col(unit).last().alias("hottest"),
        )
    )
    share = ((pl.col("together") - 1) / (pl.col("each") - 1)).clip(0, 1)
    known = (pl.col("num_steps") >= MIN_STEPS) & (pl.col("each") > 1)
    return (
        summed.join(per_step, on=["layer", "group"])
        .with_columns(pl.when(known).then(share).alias("persistent_share"))
        .with_columns(_pattern().alias("pattern"))
        .with_columns(
            pl.when(pl.col("pattern") == "bursts").then("bursts").otherwise(pl.lit([], dtype=pl.List(pl.Int64)))
        )
        .select("layer", "group", "num_steps", "persistent_share", "hottest", "pattern", "bursts")
        .sort("group", "layer")
    )


def _pattern() -> pl.Expr:
    share = pl.col("persistent_share")
    return (
        pl.when(share.is_not_null() & pl.col("is_bursty"))
        .then(pl.lit("bursts"))
        .when(share >= STEADY_SHARE)
        .then(pl.lit("steady"))
        .when(share <= WANDERING_SHARE)
        .then(pl.lit("wandering"))
        .when(share.is_not_null())
        .then(pl.lit("mixed"))
    )
