"""Time to match, solve clocks and split communication of many ranks, without reading files.

`python benchmarks/cost/communication.py [RANKS] [ROWS_PER_RANK]`: synthetic collectives and messages, prints seconds.
"""

from __future__ import annotations

import sys
import time

import polars as pl

from traceanalyzer.measurements.communication.collectives import split_collectives
from traceanalyzer.measurements.communication.messages import split_messages
from traceanalyzer.schema import COLLECTIVES, KERNELS, P2P, RANKS, conform
from traceanalyzer.tables.clocks.alignment import clocks
from traceanalyzer.tables.communication.matching import match_collectives, match_messages


def synthetic(num_ranks: int, num_rows: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Half collectives in groups of eight and of all ranks, half messages to the neighbours."""
    ranks = pl.DataFrame({"rank": range(num_ranks)}, schema={"rank": pl.Int32})
    rows = ranks.join(pl.DataFrame({"i": range(num_rows // 2)}, schema={"i": pl.Int64}), how="cross")
    eight = pl.concat_str([(pl.col("rank") // 8 * 8 + k).cast(pl.String) for k in range(8)], separator=",")
    world = ",".join(str(rank) for rank in range(num_ranks))
    start = pl.col("i") * 100_000 + pl.col("rank").hash(1) % 20_000 + pl.col("i").hash(2) % 1000
    timed = rows.with_columns(
        (pl.col("i") // 1000).cast(pl.Int32).alias("step"),
        start.cast(pl.Int64).alias("start_ns"),
        pl.col("i").alias("order_ns"),
        pl.lit(value=False).alias("assumed"),
        pl.lit(4096).alias("send_bytes"),
        pl.lit(4096).alias("receive_bytes"),
        pl.lit(4096).alias("bytes"),
        pl.col("i").alias("index"),
    ).with_columns((pl.col("i") * 100_000 + 50_000).alias("end_ns"))
    collectives = timed.with_columns(
        pl.when(pl.col("i") % 10 == 0).then(pl.lit(world)).otherwise(eight).alias("group"),
        pl.when(pl.col("i") % 10 == 0).then(pl.lit("0")).otherwise(pl.lit("1")).alias("pg_name"),
        pl.when(pl.col("i") % 2 == 0).then(pl.lit("all_reduce")).otherwise(pl.lit("all_to_all")).alias("kind"),
        pl.lit(None, pl.UInt64).alias("communicator"),
        pl.when(pl.col("i") % 10 == 0).then(pl.col("i") // 10).otherwise("i").alias("sequence_number"),
    )
    forward = (pl.col("rank") + pl.col("i") // 2) % 2 == 0
    messages = timed.with_columns(
        pl.lit(world).alias("group"),
        pl.lit("2").alias("pg_name"),
        pl.when(pl.col("i") % 2 == 0)
        .then(pl.lit("send"))
        .otherwise(pl.lit("receive"))
        .cast(P2P["direction"])
        .alias("direction"),
        ((pl.col("rank") + pl.when(forward).then(1).otherwise(-1)) % num_ranks).cast(pl.Int32).alias("peer"),
        pl.lit(value=False).alias("coalesced"),
    )
    return collectives, messages


def main(num_ranks: int, num_rows: int) -> None:
    collectives, messages = synthetic(num_ranks, num_rows)
    ids = pl.Series(range(num_ranks))
    ranks = conform(
        pl.DataFrame(
            {"rank": range(num_ranks), "start_ns": [0] * num_ranks, "end_ns": [num_rows * 50_000] * num_ranks}
        ),
        RANKS,
    )
    began = time.perf_counter()
    matched = conform(match_collectives(collectives, ids), COLLECTIVES)
    sent = conform(match_messages(messages, ids), P2P)
    matching = time.perf_counter()
    table, state = clocks(ranks, None, matched, sent)
    solving = time.perf_counter()
    splits = split_collectives(matched, one_clock=True, clocks=table)
    ends = split_messages(sent, pl.DataFrame(schema=KERNELS), one_clock=True, clocks=table)
    done = time.perf_counter()
    print(f"{num_ranks} ranks, {collectives.height + messages.height} rows, clocks {state.basis}")
    print(
        f"{splits['wait_ns'].is_not_null().sum()} collective and {ends['wait_ns'].is_not_null().sum()} message rows split"
    )
    print(
        f"match {matching - began:.2f} s, clocks {solving - matching:.2f} s, split {done - solving:.2f} s, all {done - began:.2f} s"
    )


if __name__ == "__main__":
    main(*(int(text) for text in (sys.argv[1:] or ["64", "20000"])))
