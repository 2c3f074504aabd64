"""What actions of unknown stage and microbatch waited for: the message before them, and who computed it.

Without labels, and in an order that no schedule known by name has, nothing shows which action needs which. But what a
receive brought was computed by the last chunk that its sender had ended before it sent, and the chunk that starts next
after the receive could not run before. So every chunk needs the latest such end among the receives before it; chunks
without a receive need nothing of others.
"""

from __future__ import annotations

import polars as pl


def with_message_needs(actions: pl.DataFrame, messages: pl.DataFrame) -> pl.DataFrame:
    """Add `needed_ns` and `needed_rank`, when and on which rank what the action received was ready; else null.

    `actions` is `ACTIONS` with `pipeline`, `messages` is `P2P` of the pipeline on one clock.
    """
    matched = messages.filter(pl.col("match").is_not_null())
    sends = matched.filter(pl.col("direction") == "send").select(
        "match", pl.col("rank").alias("needed_rank"), pl.col("start_ns").alias("sent_ns")
    )
    ends = actions.select(pl.col("rank").alias("needed_rank"), pl.col("end_ns").alias("needed_ns")).sort("needed_ns")
    received = (
        matched.filter((pl.col("direction") == "receive") & pl.col("end_ns").is_not_null())
        .select("rank", "match", pl.col("end_ns").alias("received_ns"))
        .join(sends, on="match")
        .sort("sent_ns")
        .join_asof(
            ends,
            left_on="sent_ns",
            right_on="needed_ns",
            by="needed_rank",
            strategy="backward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("needed_ns").is_not_null())
    )
    latest = (
        received.sort("received_ns")
        .join_asof(
            actions.select("rank", pl.col("start_ns").alias("_start_ns")).sort("_start_ns"),
            left_on="received_ns",
            right_on="_start_ns",
            by="rank",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .filter(pl.col("_start_ns").is_not_null())
        .sort("needed_ns", "needed_rank")
        .group_by("rank", pl.col("_start_ns").alias("start_ns"), maintain_order=True)
        .agg(pl.col("needed_ns", "needed_rank").last())
    )
    return actions.join(latest, on=["rank", "start_ns"], how="left", maintain_order="left")
