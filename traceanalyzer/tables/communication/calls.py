"""Events → communication calls: what the process group was asked to do.

Three generations of records, the best that a rank has:

* `record_param_comms` with arguments (torch 2.2 and later; later versions add peers, sequence numbers, communicator ids);
* the `nccl:<collective>` range around the launch (torch 1.9 and later), with sizes only if shapes were recorded;
* neither: the kernel's name is all there is.

Groups are read from the call's own list; a list that torch cut (`[0, 1, ..., 63]`) is replaced by the group of that name
in `distributedInfo`, else by first rank, stride and size.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.tables.computation.shapes import integer_list, tensor_bytes
from traceanalyzer.tables.groups.listed import process_groups, world_group
from traceanalyzer.traces.kineto.facts import MAX_WORLD

KINDS = {
    "allreduce": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "all_reduce": "all_reduce",
    "_allgather_base": "all_gather",
    "_all_gather_base": "all_gather",
    "allgather": "all_gather",
    "all_gather": "all_gather",
    "allgather_coalesced": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_to_all": "all_to_all",
    "all_to_allv": "all_to_all",
    "alltoall": "all_to_all",
    "alltoall_base": "all_to_all",
    "broadcast": "broadcast",
    "_broadcast_oop": "broadcast",
    "reduce": "reduce",
    "_reduce_oop": "reduce",
    "gather": "gather",
    "scatter": "scatter",
    "barrier": "barrier",
    "all_reduce_barrier": "barrier",
    "send": "send",
    "recv": "receive",
}
"""torch's names for collectives in `Collective name` and in `nccl:` ranges. `wait` and others are not calls."""

ELEMENT_BYTES = {
    "Double": 8, "ComplexFloat": 8, "Long": 8, "UInt64": 8,
    "Float": 4, "Int": 4, "UInt32": 4,
    "Half": 2, "BFloat16": 2, "Short": 2, "UInt16": 2,
    "Char": 1, "Byte": 1, "Bool": 1,
    "Float8_e4m3fn": 1, "Float8_e5m2": 1, "Float8_e4m3fnuz": 1, "Float8_e5m2fnuz": 1, "Float8_e8m0fnu": 1,
}  # fmt: skip
"""Bytes per element by the type names of `record_param_comms` (c10's ScalarType)."""
_STRIDED = ("Global rank start", "Global rank stride", "Group size")
_MOST_ELEMENTS = 1 << 48
_MOST_MEMBERS = 1 << 24  # of all groups together that are written out from three numbers each

CALLS = pl.Schema(
    {
        "rank": pl.Int32,
        "cycle": pl.Int32,
        "call": pl.Int64,  # index of the event
        "thread": pl.Categorical(),
        "start_ns": pl.Int64,
        "end_ns": pl.Int64,
        "kind": pl.String,  # all_reduce, ..., send, receive
        "pg_name": pl.String,
        "group": pl.String,  # null if unknown
        "assumed": pl.Boolean,  # the group was not recorded and is taken to be the whole job
        "send_bytes": pl.Int64,
        "receive_bytes": pl.Int64,
        "send_splits": pl.List(pl.Int64),
        "receive_splits": pl.List(pl.Int64),
        "peer": pl.Int32,  # global rank
        "sequence_number": pl.Int64,
        "communicator": pl.UInt64,  # torch's Comms Id: one number per collective, equal on its members
    }
)


def calls(events: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Communication calls of GPU traces (`CALLS`), sorted by rank and start. `ranks` is `RANKS`."""
    name = pl.col("name").cast(pl.String)
    timed = events.filter(pl.col("ph") == "X").with_columns(
        (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns")
    )
    ranged = timed.filter((pl.col("category") == "user_annotation") & name.str.starts_with("nccl:"))
    recorded = _with_peer(_recorded(timed.filter(name == "record_param_comms"), ranks), ranged)
    annotated = _annotated(ranged.join(recorded, on=["rank", "cycle"], how="anti"), ranks)
    frames = [frame.select(CALLS.names()).cast(CALLS) for frame in (recorded, annotated)]
    return pl.concat(frames).sort("rank", "cycle", "start_ns", "call")


def _recorded(events: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """`record_param_comms` events that carry arguments."""

    def text(key: str) -> pl.Expr:
        return pl.col("args").str.json_path_match(f'$["{key}"]')

    def number(key: str, dtype: type[pl.DataType] = pl.Int64) -> pl.Expr:
        return text(key).cast(dtype, strict=False)

    def elements(key: str) -> pl.Expr:
        count = number(key)
        return pl.when(count.is_between(0, _MOST_ELEMENTS)).then(count)  # more would leave 64 bits as bytes

    element = text("dtype").replace_strict(ELEMENT_BYTES, default=None, return_dtype=pl.Int64)
    rows = events.with_columns(
        pl.col("index").alias("call"),
        text("Collective name").replace_strict(KINDS, default=None, return_dtype=pl.String).alias("kind"),
        text("Process Group Name").alias("pg_name"),
        (elements("In msg nelems") * element).alias("send_bytes"),
        (elements("Out msg nelems") * element).alias("receive_bytes"),
        integer_list(text("In split size")).alias("send_splits"),
        integer_list(text("Out split size")).alias("receive_splits"),
        pl.coalesce(number("Dst Rank", pl.Int32), number("Src Rank", pl.Int32)).alias("peer"),
        number("Seq").alias("sequence_number"),
        number("Comms Id", pl.UInt64).alias("communicator"),
        _members(integer_list(text("Process Group Ranks"))).alias("listed"),
        *[number(key).alias(key) for key in _STRIDED],
    ).filter(pl.col("kind").is_not_null())
    return _with_group(rows, ranks)


def _with_peer(rows: pl.DataFrame, ranges: pl.DataFrame) -> pl.DataFrame:
    """Fill `peer` of calls older than `Dst Rank` from the `nccl:send 0->1` range inside, whose numbers are group-local."""
    local = (
        pl.col("name").cast(pl.String).str.extract(r"^nccl:(?:send \d+->|recv \d+<-)(\d+)").cast(pl.Int64, strict=False)
    )
    inside = ranges.select("rank", "cycle", "thread", pl.col("start_ns").alias("range_ns"), local.alias("local"))
    peers = pl.col("group").str.split(",").list.get(pl.col("local"), null_on_oob=True).cast(pl.Int32, strict=False)
    return (
        rows.sort("start_ns")
        .join_asof(
            inside.drop_nulls("local").sort("range_ns"),
            left_on="start_ns",
            right_on="range_ns",
            by=["rank", "cycle", "thread"],
            strategy="forward",
            check_sortedness=False,
        )
        .with_columns(pl.when(pl.col("range_ns") < pl.col("end_ns")).then("local").alias("local"))
        .with_columns(pl.when(pl.col("kind").is_in(["send", "receive"])).then(pl.coalesce("peer", peers)).alias("peer"))
    )


def _with_group(rows: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Add `group`: the listed members, the configured group of that name, or first rank, stride and size."""
    configured = process_groups(ranks).select("rank", "pg_name", pl.col("group").alias("configured"))
    listed = pl.when(pl.col("listed") != "").then("listed")
    found = rows.join(
        configured.unique(["rank", "pg_name"], maintain_order=True), on=["rank", "pg_name"], how="left"
    ).with_columns(pl.coalesce(listed, "configured").alias("group"), pl.lit(value=False).alias("assumed"))
    unknown = found.filter(pl.col("group").is_null())
    return (
        found.join(_strided(unknown, ranks), on=["rank", *_STRIDED], how="left", maintain_order="left")
        .with_columns(pl.coalesce("group", "strided").alias("group"))
        .drop("strided")
    )


def _members(listed: pl.Expr) -> pl.Expr:
    """A list of ranks as the text of a group; null if one of them cannot be a rank."""
    possible = listed.list.eval(pl.element().is_between(0, MAX_WORLD)).list.all()
    return pl.when(possible).then(listed.list.eval(pl.element().cast(pl.String)).list.join(","))


def _strided(rows: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """Groups by first rank, stride and size, as `strided`; those that the job cannot have are left out.

    These numbers come from the file and set the length of a list, so they are held against the size of the job first.
    """
    start, stride, size = (pl.col(key) for key in _STRIDED)
    worlds = ranks.select("rank", pl.col("world_size").cast(pl.Int64).fill_null(MAX_WORLD)).unique("rank")
    possible = (
        rows.select("rank", *_STRIDED)
        .drop_nulls()
        .unique()
        .join(worlds, on="rank")
        .filter(start.is_between(0, MAX_WORLD) & stride.is_between(1, MAX_WORLD) & size.is_between(1, MAX_WORLD))
        .filter(start + stride * (size - 1) < pl.col("world_size"))
        .sort(size, "rank", *_STRIDED)
        .filter(size.cum_sum() <= _MOST_MEMBERS)
    )
    members = pl.int_ranges(start, start + stride * size, stride).list.eval(pl.element().cast(pl.String)).list.join(",")
    return possible.select("rank", *_STRIDED, members.alias("strided"))


def _annotated(ranges: pl.DataFrame, ranks: pl.DataFrame) -> pl.DataFrame:
    """`nccl:` ranges of ranks whose `record_param_comms` say nothing; the group is taken to be the whole job."""
    name = pl.col("name").cast(pl.String).str.strip_prefix("nccl:")
    send, receive = name.str.extract(r"^send \d+->(\d+)"), name.str.extract(r"^recv \d+<-(\d+)")
    kind = name.str.extract(r"^(\w+)").replace_strict(KINDS, default=None, return_dtype=pl.String)
    return ranges.with_columns(
        pl.col("index").alias("call"),
        kind.alias("kind"),
        pl.lit(None, pl.String).alias("pg_name"),
        pl.lit(world_group(ranks), pl.String).alias("group"),
        pl.lit(value=True).alias("assumed"),
        tensor_bytes(pl.col("args"), 0).alias("send_bytes"),
        pl.lit(None, pl.Int64).alias("receive_bytes"),
        pl.lit(None, pl.List(pl.Int64)).alias("send_splits"),
        pl.lit(None, pl.List(pl.Int64)).alias("receive_splits"),
        pl.coalesce(send, receive).cast(pl.Int32, strict=False).alias("peer"),
        pl.lit(None, pl.Int64).alias("sequence_number"),
        pl.lit(None, pl.UInt64).alias("communicator"),
    ).filter(pl.col("kind").is_not_null())
