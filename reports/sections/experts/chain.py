"""The chain of every expert layer as a table: tokens, bytes, transfer, expert time, and who waits for whom."""

from __future__ import annotations

import polars as pl

from reports.page.model import Grid
from traceanalyzer.review.words import Unit, quantity

MAX_ROWS = 32
_COLUMNS: tuple[tuple[str, str, Unit], ...] = (
    ("load", "load_over_mean", "ratio"),
    ("tokens", "received_tokens", "count"),
    ("dropped", "dropped_tokens", "count"),
    ("padded rows", "padded_rows", "count"),
    ("bytes", "dispatch_received_bytes", "bytes"),
    ("permutation", "permutation_ns", "ns"),
    ("counts", "count_exchange_ns", "ns"),
    ("transfer", "dispatch_transfer_ns", "ns"),
    ("experts", "experts_ns", "ns"),
    ("waits", "combine_wait_ns", "ns"),
    ("others wait", "combine_caused_wait_ns", "ns"),
)


def chain_grid(chain: pl.DataFrame) -> Grid | None:
    """`EXPERT_CHAIN` as means over steps, the layers and ranks that others wait for most first; None without rows."""
    if chain.is_empty():
        return None
    means = (
        chain.group_by("layer", "rank")
        .agg(pl.col(name).mean() for _, name, _ in _COLUMNS)
        .sort("combine_caused_wait_ns", "layer", "rank", descending=[True, False, False], nulls_last=True)
    )
    shown = [column for column in _COLUMNS if means[column[1]].null_count() < means.height]
    return Grid(
        id="expert-chain",
        title="Forward, layer by layer and rank by rank, mean over steps",
        columns=("layer", "rank", *(title for title, _, _ in shown)),
        rows=tuple(
            (str(row["layer"]), str(row["rank"]), *(quantity(row[name], unit) for _, name, unit in shown))
            for row in means.head(MAX_ROWS).iter_rows(named=True)
        ),
        numeric=frozenset(range(len(shown) + 2)),
        note="Load: tokens received ÷ the mean over ranks. Bytes: received at dispatch over links. Waits: at combine. Others "
        "wait: the sum of what the other ranks wait there for this one.",
        num_rows=means.height,
        all_rows="expert_chain",
        csv="expert_chain",
        few=0,
    )
