"""Which all-to-all of a device trace dispatches tokens, which brings them back, and between which of them experts run.

Device traces name no layer. An all-to-all whose splits are the next one's turned round sends out what that one brings
back: the two are a pair. The pair is forward or backward by the action it starts in, else by the thread that launched it
(autograd has its own; the thread of a rank's first all-to-all is forward). A small even exchange just before a pair
announces the counts. `layer` is the place of the pair in its pass, counted backward in backward passes; with labelled
stages, stages before it count as many pairs.

A range around the call, as reference runs write it, is better and is kept. Kernels of DeepEP and its kin are called
dispatch or combine and are recognised by that name alone: their backward runs the other kernel, so it is named as such.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema import DIRECTION
from traceanalyzer.tables.rank_groups import in_rank_groups

COMPUTE_KINDS = ["gemm", "attention", "other", "fused"]
MAX_COUNT_BYTES = 1 << 16
"""An exchange of counts is no larger than this."""
_GROUP = ["rank", "step", "group"]


def with_directions(collectives: pl.DataFrame, kernels: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """`COLLECTIVES` (further columns kept) with `direction` and `layer` of all-to-alls that had none.

    `kernels` is `KERNELS`, `actions` is `ACTIONS`; both may be empty.
    """
    unknown = (pl.col("kind") == "all_to_all") & pl.col("layer").is_null() & pl.col("group").is_not_null()
    rows = _by_name(collectives, kernels).with_row_index("_row")
    unknown = unknown & ~(_sizeless() & (pl.col("direction") != "other"))
    exchanges = _paired(rows.filter(unknown))
    if exchanges.is_empty():
        return rows.drop("_row")
    passes = _layers(_phases(exchanges, kernels, actions))
    forward = pl.col("_forward")
    direction = (
        pl.when(forward.is_null() & ~pl.col("_counts"))
        .then(pl.lit("other"))
        .when(pl.col("_place") == 0)
        .then(pl.when(forward).then(pl.lit("dispatch")).otherwise(pl.lit("combine_backward")))
        .when(pl.col("_place") == 1)
        .then(pl.when(forward).then(pl.lit("combine")).otherwise(pl.lit("dispatch_backward")))
        .when(pl.col("_counts"))
        .then(pl.lit("count_exchange"))
        .otherwise(pl.lit("other"))
    )
    found = passes.select("_row", direction.cast(DIRECTION).alias("_direction"), "_layer")
    return (
        rows.join(found, on="_row", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("_direction", "direction").alias("direction"), pl.coalesce("layer", "_layer").alias("layer")
        )
        .drop("_row", "_direction", "_layer")
    )


def _by_name(collectives: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """`direction` of all-to-alls that record no sizes and whose kernel is called dispatch or combine."""
    nameless = (pl.col("kind") == "all_to_all") & _sizeless()
    sizeless = collectives.filter(nameless)
    if kernels.is_empty() or sizeless.is_empty():
        return collectives
    names = kernels.join(sizeless, on=["rank", "cycle", "index"], how="semi").select(
        "rank", "cycle", "index", pl.col("name").cast(pl.String).str.to_lowercase().alias("_name")
    )
    stated = (
        pl.when(pl.col("_name").str.contains("dispatch"))
        .then(pl.lit("dispatch"))
        .when(pl.col("_name").str.contains("combine"))
        .then(pl.lit("combine"))
        .cast(DIRECTION)
    )
    return (
        collectives.join(names, on=["rank", "cycle", "index"], how="left", maintain_order="left")
        .with_columns(
            pl.when(nameless).then(pl.coalesce(stated, "direction")).otherwise("direction").alias("direction")
        )
        .drop("_name")
    )


def _sizeless() -> pl.Expr:
    return pl.all_horizontal(pl.col("send_bytes", "send_splits").is_null())


@in_rank_groups
def expert_kernels(collectives: pl.DataFrame, kernels: pl.DataFrame) -> pl.DataFrame:
    """Computation between a dispatch and its combine: `rank`, `step`, `part`, `layer`, `start_ns`, `end_ns`.

    One row per kernel of `KERNELS`, cut to lie after the dispatch's end and before the combine's start; `part` is
    `experts` or `experts_backward`. Whatever else computes in between (shared experts, an overlapped microbatch) counts.
    """
    ordered = collectives.filter(pl.col("kind") == "all_to_all").sort("rank", "start_ns")
    following = pl.col("direction").cast(pl.String).shift(-1).over(_GROUP)
    opens = pl.col("direction").cast(pl.String)
    spans = ordered.with_columns(
        following.alias("_next"), pl.col("start_ns").shift(-1).over(_GROUP).alias("_to")
    ).filter(
        ((opens == "dispatch") & (pl.col("_next") == "combine"))
        | ((opens == "combine_backward") & (pl.col("_next") == "dispatch_backward"))
    )
    part = pl.when(opens == "dispatch").then(pl.lit("experts")).otherwise(pl.lit("experts_backward"))
    named = spans.select("rank", "step", part.alias("part"), "layer", pl.col("end_ns").alias("_from"), "_to").sort(
        "_from"
    )
    computing = kernels.filter(pl.col("kind").cast(pl.String).is_in(COMPUTE_KINDS)).select("rank", "start_ns", "end_ns")
    middle = (pl.col("start_ns") + pl.col("end_ns")) // 2
    return (
        computing.with_columns(middle.alias("_middle"))
        .sort("_middle")
        .join_asof(named, left_on="_middle", right_on="_from", by="rank", strategy="backward", check_sortedness=False)
        .with_columns(pl.max_horizontal("start_ns", "_from"), pl.min_horizontal("end_ns", "_to"))
        .filter((pl.col("_middle") < pl.col("_to")) & (pl.col("end_ns") > pl.col("start_ns")))
        .select("rank", "step", "part", "layer", "start_ns", "end_ns")
        .sort("rank", "start_ns")
    )


def _paired(exchanges: pl.DataFrame) -> pl.DataFrame:
    """Add `_place` (0: first of a pair, 1: second, null: alone) and `_counts`."""
    following = {name: pl.col(name).shift(-1).over(_GROUP) for name in ("send_splits", "receive_splits")}
    sizes = {name: pl.col(name).shift(-1).over(_GROUP) for name in ("send_bytes", "receive_bytes")}
    lists = (pl.col("send_splits") == following["receive_splits"]) & (
        pl.col("receive_splits") == following["send_splits"]
    )
    cut = pl.all_horizontal(
        names.is_null() for names in (pl.col("send_splits"), pl.col("receive_splits"), *following.values())
    )
    turned = (
        (lists.fill_null(value=False) | cut)
        & (pl.col("send_bytes") == sizes["receive_bytes"])
        & (pl.col("receive_bytes") == sizes["send_bytes"])
    ).fill_null(value=False)
    run = (~pl.col("_turned").shift(1).fill_null(value=False)).cum_sum().over(_GROUP)
    place = pl.int_range(pl.len()).over(*_GROUP, "_run")
    last = place == pl.len().over(*_GROUP, "_run") - 1
    even = (pl.col("send_splits").list.n_unique() <= 1).fill_null(value=True)
    small = (pl.col("send_bytes") <= MAX_COUNT_BYTES) & even
    return (
        exchanges.sort("rank", "start_ns")
        .with_columns(turned.alias("_turned"))
        .with_columns(run.alias("_run"))
        .with_columns(pl.when(~(last & (place % 2 == 0))).then(place % 2).alias("_place"))
        .with_columns(
            (small & pl.col("_place").is_null() & (pl.col("_place").shift(-1).over(_GROUP) == 0))
            .fill_null(value=False)
            .alias("_counts")
        )
    )


def _phases(exchanges: pl.DataFrame, kernels: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Add `_forward` and, where an action holds the exchange, `_stage` and `_pass` (its position)."""
    inside = actions.select(
        "rank",
        pl.col("start_ns").alias("_from"),
        pl.col("end_ns").alias("_to"),
        pl.col("stage").alias("_stage"),
        pl.col("position").alias("_pass"),
        (pl.col("phase").cast(pl.String) == "F").alias("_by_action"),
    ).sort("_from")
    theirs = kernels.join(exchanges, on=["rank", "cycle", "index"], how="semi")
    threads = theirs.select("rank", "cycle", "index", pl.col("launch_thread").cast(pl.String).alias("_thread"))
    held = pl.col("start_ns") < pl.col("_to")
    by_thread = pl.col("_thread") == pl.col("_thread").drop_nulls().first().over("rank")
    known = (
        exchanges.join(threads, on=["rank", "cycle", "index"], how="left", maintain_order="left")
        .sort("start_ns")
        .join_asof(inside, left_on="start_ns", right_on="_from", by="rank", strategy="backward", check_sortedness=False)
        .with_columns(pl.when(held).then(name).alias(name) for name in ("_stage", "_pass", "_by_action"))
        .sort("rank", "start_ns")
        .with_columns(pl.coalesce("_by_action", by_thread).alias("_forward"))
        .drop("_from", "_to")
    )
    repeated = _by_splits(known.filter(pl.col("_forward").is_null()))
    return (
        known.join(repeated, on="_row", how="left", maintain_order="left")
        .with_columns(
            pl.coalesce("_forward", "_repeated").alias("_forward"), pl.coalesce("_place", "_only").alias("_place")
        )
        .drop("_repeated", "_only")
        .sort("rank", "start_ns")
        .with_columns(  # counts belong to the pair they announce
            pl.when("_counts").then(pl.col("_forward").shift(-1).over(_GROUP)).otherwise("_forward").alias("_forward")
        )
    )


def _by_splits(rows: pl.DataFrame) -> pl.DataFrame:
    """`_row`, `_repeated` (forward or not) and `_only`: 0 for a backward exchange whose way back was left out."""
    found: list[tuple[int, bool, int | None]] = []
    for _, part in rows.filter(~pl.col("_counts")).group_by(_GROUP, maintain_order=True):
        undone: list[tuple[object, object]] = []
        forward: bool | None = None
        for row, place, sent, received in part.select("_row", "_place", "send_splits", "receive_splits").iter_rows():
            if place == 1:
                if forward is not None:
                    found.append((row, forward, None))
                continue
            forward = None
            if not sent or not received or len({*sent, *received}) == 1:
                continue
            if undone and undone[-1] == (sent, received):
                undone.pop()
                forward = False
                found.append((row, forward, 0 if place is None else None))
            elif place == 0:
                undone.append((sent, received))
                forward = True
                found.append((row, forward, None))
    schema = {"_row": rows.schema["_row"], "_repeated": pl.Boolean, "_only": pl.Int64}
    return pl.DataFrame(found, schema=schema, orient="row")


def _layers(exchanges: pl.DataFrame) -> pl.DataFrame:
    """Add `_layer` to both members of a pair, and to the exchange of its counts."""
    changes = pl.struct("_forward", "_pass")
    first = (pl.col("_place") == 0).fill_null(value=False)
    number = first.cast(pl.Int64).cum_sum().over(*_GROUP, "_stretch") - 1
    size = first.sum().cast(pl.Int64).over(*_GROUP, "_stretch")
    counted = exchanges.with_columns(
        (changes != changes.shift(1)).fill_null(value=True).cum_sum().over(_GROUP).alias("_stretch")
    ).with_columns(pl.when(pl.col("_counts")).then(number + 1).otherwise(number).alias("_number"), size.alias("_size"))
    place = pl.when("_forward").then("_number").otherwise(pl.col("_size") - 1 - pl.col("_number"))
    before = pl.col("_stage").fill_null(0) * pl.col("_size").max().over("group")
    known = pl.col("_place").is_not_null() | pl.col("_counts")
    return counted.with_columns(pl.when(known).then(place + before).cast(pl.Int32).alias("_layer"))
