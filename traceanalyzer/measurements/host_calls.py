"""What the host did while its device had nothing to run: the call that fills most of a stall.

Looked at is the thread that launched what ended the stall. A call of a known kind that covers at least half of the stall
is its reason; else the innermost recorded operation that does; else nothing is recorded, and nothing is said of it.
"""

from __future__ import annotations

import polars as pl

MIN_COVER = 0.5
"""Of a stall."""
MAX_STALLS = 200
"""Longest stalls that are looked at."""
KINDS = {
    "synchronisation": r"(?i)(stream|device|event|ctx)synchronize|(cuda|hip)memcpy(dtoh|htod|dtod)?$|aten::item$|_local_scalar_dense|aten::nonzero$",
    "allocator": r"(?i)^(cuda|hip|cu)(malloc|free|hostalloc|hostfree|mem(create|map|unmap|release|address|pool))|caching_?allocator",
    "garbage collection": r"(?i)\bgc\b|garbage",
    "data loading": r"(?i)data_?loader|next_?(data|batch)|data[_ ]loading|load[_ ]batch",
    "compilation": r"(?i)dynamo|inductor|torch[-_. ]?compile|triton.*compile",
}  # fmt: skip
"""Of calls, by their names."""
_PLAIN = r"^(ProfilerStep|PP:|compute:|Optimizer\.step|nccl:)"
"""Ranges that hold everything of a phase: they tell nothing of a stall inside."""


def stall_calls(stalls: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """The reason of each of the longest stalls: `rank`, `start_ns`, `end_ns`, `call`, `kind` (null where nothing is recorded).

    `stalls` has `rank`, `start_ns`, `end_ns` and `thread`, `events` is `EVENTS` on the same clock.
    """
    longest = stalls.sort(pl.col("end_ns") - pl.col("start_ns"), descending=True).head(MAX_STALLS).with_row_index("stall")
    name = pl.col("name").cast(pl.String)
    calls = events.filter(
        (pl.col("ph") == "X") & (pl.col("duration_ns") > 0)
        & pl.col("rank").is_in(longest["rank"].unique().to_list())
        & ~pl.col("category").cast(pl.String).is_in(["kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation"])
        & ~name.str.contains(_PLAIN)
    ).select(
        "rank", pl.col("thread").cast(pl.String), name.alias("call"), pl.col("start_ns").alias("call_ns"),
        (pl.col("start_ns") + pl.col("duration_ns")).alias("call_end_ns"), "duration_ns", _kind(name).alias("kind"),
    )  # fmt: skip
    covered = (pl.min_horizontal("end_ns", "call_end_ns") - pl.max_horizontal("start_ns", "call_ns")).alias("covered_ns")
    met = (
        longest.join_where(
            calls.rename({"rank": "call_rank", "thread": "call_thread"}),
            pl.col("call_ns") < pl.col("end_ns"),
            pl.col("call_end_ns") > pl.col("start_ns"),
        )
        .filter((pl.col("call_rank") == pl.col("rank")) & (pl.col("call_thread") == pl.col("thread")).fill_null(value=True))
        .with_columns(covered)
        .filter(pl.col("covered_ns") >= MIN_COVER * (pl.col("end_ns") - pl.col("start_ns")))
        .sort("stall", pl.col("kind").is_null(), "duration_ns")
        .unique("stall", keep="first", maintain_order=True)
    )
    return longest.join(met.select("stall", "call", "kind"), on="stall", how="left").drop("stall")


def _kind(name: pl.Expr) -> pl.Expr:
    kind = pl.lit(None, pl.String)
    for known, pattern in KINDS.items():
        kind = pl.when(kind.is_null() & name.str.contains(pattern)).then(pl.lit(known)).otherwise(kind)
    return kind
