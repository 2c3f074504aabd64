"""Events → collectives of CPU (gloo) traces: who called what, when, with which splits.

Gloo records the call as `c10d::<op>` on the main thread (its start is this rank's arrival) and, on some of its worker
threads only, the work as `gloo:<kind>`. The end is therefore the end of our own `moe:<part>|layer=<n>` range where one
encloses the call, else of the `gloo:` range that follows the call, else the start of the next event on the main thread.
Shapes and splits need `record_shapes=True`.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.job import Job
from traceanalyzer.schema import COLLECTIVES, DIRECTION, GATHERED, MATCH_BASIS, conform
from traceanalyzer.tables.communication.matching import number_matches
from traceanalyzer.tables.computation.shapes import integer_list, tensor_bytes
from traceanalyzer.tables.groups.listed import process_groups, with_role
from traceanalyzer.tables.steps.windows import assign_steps, on_main_thread

KINDS = {
    "c10d::alltoall_base_": "all_to_all",
    "c10d::alltoall_": "all_to_all",
    "c10d::allreduce_": "all_reduce",
    "c10d::_allgather_base_": "all_gather",
    "c10d::allgather_": "all_gather",
    "c10d::allgather_into_tensor_coalesced_": "all_gather",  # of functional collectives: DTensor, compiled graphs
    "c10d::_reduce_scatter_base_": "reduce_scatter",
    "c10d::reduce_scatter_": "reduce_scatter",
    "c10d::reduce_scatter_tensor_coalesced_": "reduce_scatter",
    "c10d::broadcast_": "broadcast",
    "c10d::barrier": "barrier",
}
_LIST_AT = {
    "c10d::allreduce_": 0,
    "c10d::broadcast_": 0,
    "c10d::allgather_": 1,
    "c10d::reduce_scatter_": 1,
    "c10d::allgather_into_tensor_coalesced_": 1,
    "c10d::reduce_scatter_tensor_coalesced_": 1,
}
"""Calls that take a list of tensors, and where the one that is sent stands among their inputs."""
_PART = r"^moe:(\w+)\|layer=(\d+)$"


def collectives(
    events: pl.DataFrame, windows: pl.DataFrame, ranks: pl.DataFrame, job: Job | None = None
) -> pl.DataFrame:
    """Collectives inside the step windows (`COLLECTIVES`), sorted by rank and start. `ranks` is `RANKS`."""
    main = on_main_thread(events).with_columns(
        pl.col("name").cast(pl.String), (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns")
    )
    calls = _with_list_bytes(_calls(main), events)
    if calls.is_empty():
        return pl.DataFrame(schema=COLLECTIVES)
    ended = _with_end(_with_part(calls, main), main, events)
    grouped = _with_group(assign_steps(ended, windows), ranks)
    matched = _matched(grouped)
    if (job is None or job.layout is None) and _impossible(matched, ranks):
        matched = _matched(_with_own_group(grouped, ranks))
    named = with_role(matched.with_columns(pl.lit(None, pl.String).alias("pg_name")), ranks, job)
    return conform(named, COLLECTIVES)


def _matched(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the match by order: the n-th of its kind in the group and step (`sequence`)."""
    sequence = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step", "group", "kind").alias("sequence")
    rows = rows.sort("rank", "start_ns").with_columns(sequence)
    known = pl.col("group").is_not_null()
    keys = [pl.col(name).alias(f"_{name}") for name in ("step", "group", "kind", "sequence")]
    members = pl.col("group").str.split(",").list.len().cast(pl.Int32)
    present = pl.when(known).then(pl.col("rank").n_unique().over("match")).cast(pl.Int32)
    return (
        number_matches(rows, keys, known)
        .with_columns(members.alias("num_members"), present.alias("num_present"))
        .with_columns(
            pl.when(known).then(pl.lit("order")).otherwise(pl.lit("none")).cast(MATCH_BASIS).alias("match_basis"),
            pl.when(~known)
            .then(pl.lit("group unknown"))
            .when(pl.col("num_present") < pl.col("num_members"))
            .then(pl.lit("members were not captured"))
            .alias("unmatched"),
        )
    )


def _calls(main: pl.DataFrame) -> pl.DataFrame:
    """One row per `c10d::` call with sizes and splits."""
    splits = {
        name: integer_list(pl.col("args").str.json_path_match(f'$["Concrete Inputs"][{position}]'))
        for name, position in (("receive_splits", 3), ("send_splits", 4))
    }
    is_base = pl.col("name") == "c10d::alltoall_base_"
    return (
        main.filter(pl.col("name").is_in(list(KINDS)))
        .with_columns(
            pl.col("name").replace_strict(KINDS, return_dtype=pl.String).alias("kind"),
            pl.when(is_base).then(tensor_bytes(pl.col("args"), 0)).alias("receive_bytes"),
            tensor_bytes(pl.col("args"), 1).alias("send_bytes"),
            *[pl.when(is_base).then(expr).alias(name) for name, expr in splits.items()],
            _only_shape().alias("shape"),
        )
        .select(
            "rank",
            "kind",
            "start_ns",
            "end_ns",
            "send_bytes",
            "receive_bytes",
            "send_splits",
            "receive_splits",
            "shape",
        )
        .sort("rank", "start_ns")
    )


def _only_shape() -> pl.Expr:
    """The shape, as text without spaces, of the only tensor in the list that a call sends; null for longer lists."""
    found = pl.lit(None, pl.String)
    for position in sorted(set(_LIST_AT.values())):
        first, second = (
            pl.col("args").str.json_path_match(f'$["Input Dims"][{position}][{index}]') for index in (0, 1)
        )
        takes = pl.col("name").is_in([name for name, at in _LIST_AT.items() if at == position])
        found = pl.when(takes & second.is_null() & first.str.starts_with("[")).then(first).otherwise(found)
    return found.str.replace_all(" ", "")


def _with_list_bytes(calls: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Fill `send_bytes` of calls that take a list of tensors, and name no type, from the work on the same shape that follows.

    The type stands at the `gloo:` range alone, which for a reduce-scatter is that of the all-reduce that carries it out.
    """
    args = pl.col("args")
    shape = args.str.json_path_match('$["Input Dims"][0]').str.replace_all(" ", "")
    sized = pl.coalesce(tensor_bytes(args, 0), pl.when(shape == "[]").then(tensor_bytes(_as_one(args), 0)))
    work = (
        events.filter((pl.col("ph") == "X") & pl.col("name").cast(pl.String).str.starts_with("gloo:"))
        .select("rank", pl.col("start_ns").alias("_at"), shape.alias("shape"), sized.alias("_bytes"))
        .drop_nulls()
        .sort("_at")
    )
    return (
        calls.sort("start_ns")
        .join_asof(
            work,
            left_on="start_ns",
            right_on="_at",
            by=["rank", "shape"],
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(pl.coalesce("send_bytes", "_bytes").alias("send_bytes"))
        .drop("shape", "_at", "_bytes")
        .sort("rank", "start_ns")
    )


def _as_one(args: pl.Expr) -> pl.Expr:
    """Arguments of a call on a scalar, whose shape is empty, as of a tensor of one element."""
    return args.str.replace(r'"Input Dims":\s*\[\s*\[\s*\]', '"Input Dims": [[1]')


def _with_part(calls: pl.DataFrame, main: pl.DataFrame) -> pl.DataFrame:
    """Add `direction`, `layer` and `range_end_ns` from the enclosing expert range."""
    ranges = (
        main.filter(pl.col("name").str.contains(_PART))
        .select(
            "rank",
            pl.col("start_ns").alias("range_start_ns"),
            pl.col("end_ns").alias("range_end_ns"),
            pl.col("name").str.extract(_PART, 1).alias("part"),
            pl.col("name").str.extract(_PART, 2).cast(pl.Int32, strict=False).alias("layer"),
        )
        .sort("range_start_ns")
    )
    inside = pl.col("end_ns") <= pl.col("range_end_ns")
    known = [name for name in DIRECTION.categories if name != "other"]
    direction = pl.when(pl.col("part").is_in(known)).then("part").otherwise(pl.lit("other"))
    stated = (pl.col("kind") == "all_to_all") | pl.col("part").is_in(GATHERED)
    return (
        calls.sort("start_ns")
        .join_asof(
            ranges,
            left_on="start_ns",
            right_on="range_start_ns",
            by="rank",
            strategy="backward",
            check_sortedness=False,
        )
        .with_columns([pl.when(inside).then(c).alias(c) for c in ("part", "layer", "range_end_ns")])
        .with_columns(pl.when(stated).then(direction).cast(DIRECTION).alias("direction"))
        .drop("part", "range_start_ns")
    )


def _with_end(calls: pl.DataFrame, main: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Replace `end_ns`, the end of the call, by the end of the collective on this rank."""
    work = (
        events.filter((pl.col("ph") == "X") & pl.col("name").cast(pl.String).str.starts_with("gloo:"))
        .select(
            "rank",
            pl.col("name").cast(pl.String).str.strip_prefix("gloo:").alias("kind"),
            pl.col("start_ns").alias("work_start_ns"),
            (pl.col("start_ns") + pl.col("duration_ns")).alias("work_end_ns"),
        )
        .sort("work_start_ns")
    )
    following = main.select("rank", pl.col("start_ns").alias("next_ns")).sort("next_ns")
    next_call = pl.col("start_ns").shift(-1).over("rank", "kind")
    matched = pl.col("work_start_ns") < pl.coalesce(next_call, pl.col("work_start_ns") + 1)
    return (
        calls.sort("start_ns")
        .join_asof(
            work,
            left_on="start_ns",
            right_on="work_start_ns",
            by=["rank", "kind"],
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(pl.when(matched).then("work_end_ns").alias("work_end_ns"))
        .sort("end_ns")
        .join_asof(
            following, left_on="end_ns", right_on="next_ns", by="rank", strategy="forward", check_sortedness=False
        )
        .with_columns(
            pl.max_horizontal("end_ns", pl.coalesce("range_end_ns", "work_end_ns", "next_ns", "end_ns")).alias("end_ns")
        )
        .drop("range_end_ns", "work_start_ns", "work_end_ns", "next_ns")
        .sort("rank", "start_ns")
    )


def _with_group(calls: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Add `group`: the only process group of the rank that fits the number of splits, else of the whole job.

    Gloo events do not name their group. Where several groups of that size hold the rank, it is left null. Where times show
    that it was not the whole job's, `_with_own_group` decides.
    """
    groups = process_groups(ranks)
    default = groups.filter(pl.col("pg_desc") == "default_pg").select("rank", pl.col("group").alias("default_group"))
    fits = groups.group_by("rank", "size").agg(pl.col("group").unique()).filter(pl.col("group").list.len() == 1)
    by_size = fits.select("rank", "size", pl.col("group").list.first().alias("sized_group"))
    size = pl.when(pl.col("send_splits").list.len() > 0).then(pl.col("send_splits").list.len().cast(pl.Int64))
    return (
        calls.with_columns(size.alias("size"))
        .join(by_size, on=["rank", "size"], how="left")
        .join(default.unique("rank"), on="rank", how="left")
        .with_columns(pl.when(pl.col("size").is_null()).then("default_group").otherwise("sized_group").alias("group"))
        .drop("size", "sized_group", "default_group")
    )


_TOGETHER = ["all_reduce", "all_gather", "reduce_scatter"]
_ROUNDING_NS = 200_000
_MANY = 0.1


def _impossible(rows: pl.DataFrame, ranks: pl.DataFrame) -> bool:
    """Whether the assumed group of the whole job cannot be true: on one host, members ended before others began.

    One in ten may look so, as ranges end early or late where the host is busy.
    """
    hosts = ranks["host"].unique().to_list()
    if len(hosts) != 1 or hosts[0] is None:
        return False
    assumed = pl.col("send_splits").list.len().fill_null(0) == 0
    matches = (
        rows.filter(assumed & pl.col("kind").is_in(_TOGETHER) & pl.col("match").is_not_null())
        .group_by("match")
        .agg((pl.col("end_ns").min() < pl.col("start_ns").max() - _ROUNDING_NS).alias("apart"))
    )
    return matches.height > 0 and float(matches["apart"].sum()) > _MANY * matches.height


def _with_own_group(rows: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Collectives that name no group in the rank's only group beside the default one; null if it has several."""
    others = process_groups(ranks).filter((pl.col("pg_desc") != "default_pg") & (pl.col("size") > 1))
    single = others.group_by("rank").agg(pl.col("group").unique()).filter(pl.col("group").list.len() == 1)
    own = single.select("rank", pl.col("group").list.first().alias("_own"))
    assumed = pl.col("kind").is_in(_TOGETHER) & (pl.col("send_splits").list.len().fill_null(0) == 0)
    joined = rows.join(own, on="rank", how="left", maintain_order="left")
    return joined.with_columns(pl.when(assumed).then("_own").otherwise("group").alias("group")).drop("_own")
