"""Communication operations of all ranks and the flows between them: messages, collectives, and who was waited for.

A trace viewer points a flow from the slice that starts earlier to the one that starts later, so a flow into an operation
that waited enters its transfer, which begins when the other end has come; where that is not known, what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from traceanalyzer.perfetto.source import Source
from traceanalyzer.perfetto.timeline import Track, in_lanes, slices
from traceanalyzer.perfetto.window import Window

MESSAGE, COLLECTIVE, WAIT, LAUNCH = (number << 58 for number in (1, 2, 3, 4))
"""First number of every kind of flow; each has its own below the next."""
_KERNEL = ["rank", "cycle", "index"]
_FLOWS = pl.List(pl.UInt64)
_OPERATION = pl.Schema(
    {
        "rank": pl.Int32(),
        "step": pl.Int32(),
        "role": pl.String(),
        "name": pl.String(),
        "start_ns": pl.Int64(),
        "end_ns": pl.Int64(),
        "wait_ns": pl.Int64(),
        "basis": pl.String(),
        "late_rank": pl.Int32(),
        "bytes": pl.Int64(),
        "group": pl.String(),
        "match": pl.UInt64(),
        "sends": _FLOWS,
        "receives": _FLOWS,
    }
)


@dataclass(frozen=True, slots=True)
class Operations:
    """Operations of all chosen ranks that touch the window, their flows, and what these begin in."""

    rows: pl.DataFrame
    """An operation a row: what it is, when it ran, how long it waited for whom, and its flows: `out` leave it; others enter
    all of it (`into_whole`), its transfer, what is left of it when the other end begins (`into_arrival`, from
    `arrival_ns` on), its wait, or what the culprit computes inside its wait (`into_during`)."""
    actions: pl.DataFrame
    """`ACTIONS` that touch the window, with `out`."""
    owners: pl.DataFrame
    """Moments at which a flow leaves whatever owns a rank's time: `rank`, `at_ns`, `flow`."""
    num_flows: int

    def communication(self, rank: int) -> list[Track]:
        """A track for each dimension: operations, in them wait and transfer where these can be distinguished."""
        own = self.rows.filter(pl.col("rank") == rank).sort("start_ns", maintain_order=True)
        roles = own["role"].unique(maintain_order=True).sort(nulls_last=True).to_list()
        return [_communication(role, own.filter(pl.col("role").eq_missing(role))) for role in roles]

    def waits(self, rank: int) -> Track:
        """Waiting by the rank that was waited for, in it what that rank computed then."""
        own = self.rows.filter((pl.col("rank") == rank) & (pl.col("wait_ns") > 0)).with_columns(
            (pl.col("start_ns") + pl.col("wait_ns")).alias("end_ns"), pl.col("into_wait").alias("into")
        )
        own = in_lanes(own.with_columns(pl.lit([], _FLOWS).alias("out")))
        name = pl.format("waits for rank {}", "late_rank").fill_null("waits, for whom is not known")
        lane = pl.col("lane")
        whole = slices(own, name, pl.lit("wait"), ["step", pl.col("name").alias("in"), "role", "basis"], lane=lane)
        inner = own.filter(pl.col("during_start_ns").is_not_null()).with_columns(
            pl.col("during_start_ns").alias("start_ns"),
            pl.col("during_end_ns").alias("end_ns"),
            pl.col("into_during").alias("into"),
        )
        computing = pl.format("rank {} computes {}", "late_rank", "during")
        return Track(
            "waits",
            pl.concat([whole, slices(inner, computing, pl.lit("culprit"), lane=lane, depth=1)]),
            "Waiting inside communication, named by the rank that came last.",
        )


def operations(source: Source, window: Window, with_owners: Iterable[int]) -> Operations:
    """Operations and flows of the window; `with_owners` are ranks whose owners are drawn."""
    rows = pl.concat([_collectives(source, window), _messages(source, window)]).with_row_index("op")
    actions = window.kept(source.whole("actions")).with_row_index("action")
    waits = rows.filter((pl.col("wait_ns") > 0) & pl.col("late_rank").is_in(window.ranks)).with_columns(
        (pl.lit(WAIT, pl.UInt64) + pl.col("op").cast(pl.UInt64)).alias("flow")
    )
    culprits = _last_action(waits, actions)
    acting = culprits.filter(pl.col("action").is_not_null())
    asked = _owners_asked(waits.join(acting, on="op", how="anti"), source, window, with_owners)
    joined = _joined(rows, _message_flows(rows), _collective_flows(rows), _wait_flows(acting, asked))
    out = acting.group_by("action").agg(pl.col("flow").alias("out"))
    actions = actions.join(out, on="action", how="left", maintain_order="left").with_columns(_listed("out"))
    num = sum(joined.select(pl.col(name).list.len().sum()).item() or 0 for name in _ENDS)
    return Operations(joined, actions, asked.select("rank", "at_ns", "flow"), num)


_ENDS = ("into_whole", "into_transfer", "into_arrival", "into_wait", "into_during")


def _listed(name: str) -> pl.Expr:
    return pl.col(name).fill_null([]).alias(name)


def _collectives(source: Source, window: Window) -> pl.DataFrame:
    rows = window.kept(source.whole("collectives"))
    way = pl.when(pl.col("direction").is_not_null()).then(
        pl.format("{} ({})", "kind", pl.col("direction").cast(pl.String))
    )
    return _operation(
        rows.with_columns(
            pl.coalesce(way, "kind").alias("name"),
            pl.max_horizontal("send_bytes", "receive_bytes").alias("bytes"),
        )
    )


def _messages(source: Source, window: Window) -> pl.DataFrame:
    """Messages, those of one kernel as one operation."""
    rows = window.kept(source.whole("p2p"))
    sends = pl.col("direction") == "send"
    word = pl.when(sends).then(pl.lit("send to ")).otherwise(pl.lit("receive from "))
    rows = rows.with_columns((word + pl.col("peer").cast(pl.String).fill_null("?")).alias("name"))
    single = pl.col("match").is_not_null()
    flows = [
        pl.col("match").filter(single & (sends if way == "sends" else ~sends)).alias(way)
        for way in ("sends", "receives")
    ]
    device = rows.filter(pl.col("index").is_not_null())
    kernels = device.group_by(_KERNEL, maintain_order=True).agg(
        pl.col("step", "role", "start_ns", "end_ns", "group").first(),
        pl.col("name").unique(maintain_order=True).str.join(", "),
        pl.col("bytes").sum(),
        *flows,
    )
    splits = (
        source.whole("communications").filter(pl.col("kind") == "p2p").select(*_KERNEL, "wait_ns", "basis", "late_rank")
    )
    kernels = kernels.join(splits.unique(_KERNEL), on=_KERNEL, how="left", maintain_order="left")
    host = rows.filter(pl.col("index").is_null()).with_columns(
        pl.when(pl.col("wait_ns") > 0).then("peer").alias("late_rank"),
        *(pl.when(single & way).then(pl.concat_list("match")).otherwise(pl.lit([], _FLOWS)).alias(name)
          for name, way in (("sends", sends), ("receives", ~sends))),
    ).drop("match")  # fmt: skip
    return pl.concat([_operation(kernels), _operation(host)])


def _operation(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of an operation; waits longer than the operation are cut at its end."""
    columns = [
        pl.col(name).cast(dtype, strict=True) if name in frame.columns else pl.lit(None, dtype).alias(name)
        for name, dtype in _OPERATION.items()
    ]
    end = pl.max_horizontal("start_ns", pl.col("end_ns").fill_null(pl.col("start_ns")))
    return frame.select(columns).with_columns(end.alias("end_ns"), _listed("sends"), _listed("receives"))


def _message_flows(rows: pl.DataFrame) -> pl.DataFrame:
    """`out_op`, `into_op`, `flow` of messages of which both ends are here."""
    ends = [
        rows.select("op", pl.col(way).alias("match")).explode("match").drop_nulls().unique("match", maintain_order=True)
        for way in ("sends", "receives")
    ]
    pairs = ends[0].join(ends[1], on="match", suffix="_into")
    return pairs.select(
        pl.col("op").alias("out_op"),
        pl.col("op_into").alias("into_op"),
        (pl.lit(MESSAGE, pl.UInt64) + pl.col("match")).alias("flow"),
    )


def _collective_flows(rows: pl.DataFrame) -> pl.DataFrame:
    """The same from the last member of a collective to each that waited for it."""
    known = rows.filter(pl.col("match").is_not_null())
    last = known.select(pl.col("rank").alias("late_rank"), "match", pl.col("op").alias("out_op")).unique(
        ["late_rank", "match"], maintain_order=True
    )
    pairs = (
        known.filter(pl.col("wait_ns") > 0)
        .join(last, on=["late_rank", "match"])
        .filter(pl.col("op") != pl.col("out_op"))
    )
    return pairs.select(
        "out_op",
        pl.col("op").alias("into_op"),
        (pl.lit(COLLECTIVE, pl.UInt64) + pl.col("op").cast(pl.UInt64)).alias("flow"),
    )


def _last_action(waits: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Waits with the last action that the culprit began before the wait ended (`action`), and when it lay inside the wait."""
    begun = actions.select(
        pl.col("rank").alias("late_rank"),
        pl.col("start_ns").alias("at_ns"),
        "action",
        pl.col("start_ns").alias("action_start_ns"),
        pl.col("end_ns").alias("action_end_ns"),
        action_name().alias("during"),
    ).sort("at_ns")
    until = (pl.col("start_ns") + pl.col("wait_ns")).alias("wait_end_ns")
    found = (
        waits.with_columns(until, (until - 1).alias("at_ns"))
        .sort("at_ns")
        .join_asof(begun, on="at_ns", by="late_rank", strategy="backward", check_sortedness=False)
        .with_columns(
            pl.max_horizontal("start_ns", "action_start_ns").alias("during_start_ns"),
            pl.min_horizontal("wait_end_ns", "action_end_ns").alias("during_end_ns"),
        )
    )
    inside = pl.col("action").is_not_null() & (pl.col("during_start_ns") < pl.col("during_end_ns"))
    return found.with_columns(
        pl.when(inside).then(pl.col(name)).alias(name) for name in ("during_start_ns", "during_end_ns", "during")
    )


def _owners_asked(waits: pl.DataFrame, source: Source, window: Window, with_owners: Iterable[int]) -> pl.DataFrame:
    """Waits for ranks without actions: what such a rank did when the wait began is asked of its owners (`rank`, `at_ns`)."""
    asked = waits.filter(pl.col("late_rank").is_in(list(with_owners))).select(
        "op", pl.col("late_rank").alias("rank"), pl.col("start_ns").alias("at_ns"), "flow"
    )
    for spans in (source.whole("steps"), window.spans):
        if spans is not None:
            within = (pl.col("at_ns") >= pl.col("start_ns")) & (pl.col("at_ns") < pl.col("end_ns"))
            here = asked.join(spans.select("rank", "start_ns", "end_ns"), on="rank").filter(within)
            asked = asked.join(here.select("op").unique(), on="op", how="semi")
    return asked


def _wait_flows(acting: pl.DataFrame, asked: pl.DataFrame) -> pl.DataFrame:
    """Of every wait with a culprit: `op`, `flow`, and what was computed inside it."""
    columns = ("op", "flow", "during_start_ns", "during_end_ns", "during")
    nothing = [pl.lit(None, acting.schema[name]).alias(name) for name in columns[2:]]
    return pl.concat([acting.select(columns), asked.select("op", "flow", *nothing)])


def _joined(rows: pl.DataFrame, messages: pl.DataFrame, collectives: pl.DataFrame, waits: pl.DataFrame) -> pl.DataFrame:
    """Operations with the flows at their ends."""
    begun = rows.select(pl.col("op").alias("out_op"), pl.col("start_ns").alias("begun_ns"))
    pairs = pl.concat([messages, collectives]).join(begun, on="out_op")
    out = pairs.group_by(pl.col("out_op").alias("op")).agg(pl.col("flow").alias("out"))
    into = pairs.group_by(pl.col("into_op").alias("op")).agg(pl.col("flow").alias("into"), pl.col("begun_ns").max())
    split = (pl.col("wait_ns") > 0) & (pl.col("start_ns") + pl.col("wait_ns") < pl.col("end_ns"))
    split = split.fill_null(value=False)
    from_ns = pl.when(split).then(pl.col("start_ns") + pl.col("wait_ns")).otherwise("start_ns")
    later = ((pl.col("begun_ns") > from_ns) & (pl.col("begun_ns") < pl.col("end_ns"))).fill_null(value=False)
    inside = pl.col("during_start_ns").is_not_null()
    flow = pl.when(pl.col("flow").is_not_null()).then(pl.concat_list("flow")).otherwise(pl.lit([], _FLOWS))
    none = pl.lit([], _FLOWS)
    return (
        rows.join(out, on="op", how="left", maintain_order="left")
        .join(into, on="op", how="left", maintain_order="left")
        .join(waits, on="op", how="left", maintain_order="left")
        .with_columns(
            _listed("out"),
            pl.when(later).then("begun_ns").alias("arrival_ns"),
            pl.when(split | later).then(none).otherwise(pl.col("into").fill_null([])).alias("into_whole"),
            pl.when(later).then(pl.col("into").fill_null([])).otherwise(none).alias("into_arrival"),
            pl.when(split & later.not_()).then(pl.col("into").fill_null([])).otherwise(none).alias("into_transfer"),
            pl.when(inside).then(none).otherwise(flow).alias("into_wait"),
            pl.when(inside).then(flow).otherwise(none).alias("into_during"),
        )
        .drop("into", "flow", "sends", "receives", "begun_ns")
    )


def action_name() -> pl.Expr:
    """Action as PyTorch's pipelining runtime writes it, for example `2F0`."""
    return pl.concat_str(
        pl.col("stage").cast(pl.String).fill_null("?"),
        pl.col("phase").cast(pl.String),
        pl.col("microbatch").cast(pl.String).fill_null("?"),
    )


def _communication(role: str | None, own: pl.DataFrame) -> Track:
    laid = in_lanes(own.with_columns(pl.col("into_whole").alias("into")))
    lane, kind = pl.col("lane"), pl.lit("communication")
    late = pl.when(pl.col("wait_ns") > 0).then("late_rank").alias("waits_for")
    parts = [slices(laid, pl.col("name"), kind, ["step", "bytes", "group", "wait_ns", "basis", late], lane=lane)]
    middle = pl.col("start_ns") + pl.col("wait_ns")
    split = laid.filter((pl.col("wait_ns") > 0) & (middle <= pl.col("end_ns"))).drop("into", "out")
    parts.append(slices(split.with_columns(middle.alias("end_ns")), pl.lit("wait"), pl.lit("part"), lane=lane, depth=1))
    moved = split.with_columns(middle.alias("start_ns"), pl.col("into_transfer").alias("into"))
    moved = moved.filter(pl.col("start_ns") < pl.col("end_ns"))
    parts.append(slices(moved, pl.lit("transfer"), pl.lit("part"), lane=lane, depth=1))
    arrived = laid.filter(pl.col("arrival_ns").is_not_null()).drop("into", "out").with_columns(
        pl.col("arrival_ns").alias("start_ns"), pl.col("into_arrival").alias("into")
    )  # fmt: skip
    parts.append(slices(arrived, pl.lit("the other end has begun"), pl.lit("part"), lane=lane, depth=2))
    name = "communication" if role is None else f"communication {role}"
    return Track(name, pl.concat(parts), "Collectives and messages, split into wait and transfer if both are known.")
