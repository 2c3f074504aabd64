"""Who sends how many tokens to whom, and how even the loads are: what the charts of experts are drawn from."""

from __future__ import annotations

import math

import polars as pl

from reports.charts.loads import Loads

LOADED = "dispatch"
"""The direction whose rows are routed tokens."""
_SAMPLE = ("step", "layer", "group")
"""What one observation of the load is: one layer of one step in one expert group."""


def all_to_alls(collectives: pl.DataFrame) -> pl.DataFrame:
    """The timed all-to-alls among the collectives."""
    return collectives.filter(pl.col("kind") == "all_to_all").drop_nulls(["rank", "step", "start_ns", "end_ns"])


def routed(routing: pl.DataFrame) -> pl.DataFrame:
    """The routing rows to use: the side file's if there are any, else those inferred from split sizes."""
    if "group" not in routing.columns:
        routing = routing.with_columns(group=pl.lit("", pl.String))
    known = routing.filter(pl.col("tokens").is_not_null())
    recorded = known.filter(pl.col("source") == "side_file")
    return known if recorded.is_empty() else recorded


def exchanges(routing: pl.DataFrame, collectives: pl.DataFrame) -> pl.DataFrame:
    """Token copies sent from rank to rank: step, layer, group, source, destination, tokens.

    From the routing table; without one, from the split sizes of the dispatch all-to-alls.
    """
    known = routed(routing).drop_nulls(["rank", "expert_rank"])
    if not known.is_empty():
        return known.group_by(*_SAMPLE, source="rank", destination="expert_rank").agg(pl.col("tokens").sum())
    split = (
        all_to_alls(collectives)
        .filter(pl.col("direction").cast(pl.String) == LOADED)
        .drop_nulls(["send_splits", "group"])
        .with_columns(members=pl.col("group").str.split(",").list.eval(pl.element().cast(pl.Int32, strict=False)))
        .filter(pl.col("members").list.len() == pl.col("send_splits").list.len())
        .explode("members", "send_splits")
    )
    return split.group_by(*_SAMPLE, source="rank", destination="members").agg(tokens=pl.col("send_splits").sum())


def rank_loads(exchanged: pl.DataFrame) -> Loads | None:
    """Received token copies of every rank, as load over the mean of its expert group."""
    return _loads(exchanged.group_by(*_SAMPLE, place="destination").agg(pl.col("tokens").sum()), "rank")


def expert_loads(routing: pl.DataFrame) -> Loads | None:
    """Token copies of every expert over all groups, as load over the mean of its layer."""
    known = routed(routing).drop_nulls("expert").with_columns(group=pl.lit("", pl.String))
    return _loads(known.group_by(*_SAMPLE, place="expert").agg(pl.col("tokens").sum()), "expert")


def _loads(received: pl.DataFrame, word: str) -> Loads | None:
    """Mean, lowest and highest ratio of each place over its layers and steps, and the band that chance gives.

    The band is ±2 standard deviations of one place's ratio in one layer of one step when N token copies choose
    among n places evenly and independently: sqrt((n − 1) / N), the binomial's.
    """
    samples = received.group_by(*_SAMPLE).agg(total=pl.col("tokens").sum()).filter(pl.col("total") > 0)
    places = received.select("group", "place").unique().with_columns(num_places=pl.len().over("group"))
    if samples.is_empty() or places["num_places"].min() == 1:
        return None
    ratios = (
        samples.join(places, on="group")
        .join(received, on=[*_SAMPLE, "place"], how="left", nulls_equal=True)
        .with_columns(ratio=pl.col("tokens").fill_null(0) * pl.col("num_places") / pl.col("total"))
    )
    copies = sum(samples["total"].to_list()) / samples.height
    num_places = max(places["num_places"].to_list())
    return Loads(
        word=word,
        ratios=ratios.group_by("place")
        .agg(mean=pl.col("ratio").mean(), low=pl.col("ratio").min(), high=pl.col("ratio").max())
        .sort("place"),
        chance=2.0 * math.sqrt((num_places - 1) / copies),
        copies=round(copies),
        num_samples=samples.select("step", "layer").unique().height,
    )
