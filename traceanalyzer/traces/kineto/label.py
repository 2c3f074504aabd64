"""Rows of files and their places to the tables `EVENTS` and `RANKS`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from traceanalyzer.schema import EVENTS, RANKS, conform
from traceanalyzer.traces.kineto.file import credible
from traceanalyzer.traces.kineto.ranks.identity import Placed


def label(frame: pl.DataFrame, place: Placed) -> pl.DataFrame:
    """Rows of a file (`ROW_SCHEMA`) as `EVENTS`: with rank and cycle, on the Unix epoch."""
    rank = pl.lit(place.rank, dtype=pl.Int32)
    if place.process_ranks:
        process = pl.col("process").cast(pl.String)
        rank = process.replace_strict(dict(place.process_ranks), default=place.rank, return_dtype=pl.Int32)
    frame = credible(frame, place.facts)
    if place.device_ranks:
        frame, rank = _by_device(frame, place), pl.col("_rank")
    return conform(
        frame.with_columns(
            rank.alias("rank"),
            pl.lit(place.cycle, dtype=pl.Int32).alias("cycle"),
            pl.col("start_ns") + place.facts.base_ns,
        ),
        EVENTS,
    )


def _by_device(frame: pl.DataFrame, place: Placed) -> pl.DataFrame:
    """Rows with `_rank`: device work of its own device's rank, that of other devices of the first, the host's of every rank."""
    on_device = (
        pl.col("category").cast(pl.String).is_in(_OF_DEVICE).fill_null(value=False) & pl.col("device").is_not_null()
    )
    own = pl.col("device").replace_strict(dict(place.device_ranks), default=place.rank, return_dtype=pl.Int32)
    ranks = pl.lit(place.ranks, pl.List(pl.Int32))
    return frame.with_columns(pl.when(on_device).then(pl.concat_list(own)).otherwise(ranks).alias("_rank")).explode(
        "_rank"
    )


_OF_DEVICE = ["kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation"]


def rank_table(placed: Sequence[Placed], events: pl.DataFrame | None) -> pl.DataFrame:
    """The table `RANKS`: one row per rank and cycle; counts and times from `events`, or from the files' facts."""
    rows = conform(pl.DataFrame([row for p in placed for row in _rows(p)], schema=RANKS, orient="row"), RANKS)
    if events is not None:
        start, end = pl.col("start_ns"), pl.col("start_ns") + pl.col("duration_ns")
        complete = pl.col("ph") == "X"
        measured = events.group_by(_KEYS).agg(
            pl.len().cast(pl.Int64).alias("num_events"),
            start.filter(complete).min().alias("start_ns"),
            end.filter(complete).max().alias("end_ns"),
        )
        rows = conform(rows.drop("num_events", "start_ns", "end_ns").join(measured, on=_KEYS, how="left"), RANKS)
    return rows.sort(_KEYS)


_KEYS = ["rank", "cycle"]


def _rows(place: Placed) -> list[dict[str, Any]]:
    facts = place.facts
    ranks = place.ranks
    alone = len(ranks) == 1
    return [
        {
            "rank": rank,
            "cycle": place.cycle,
            "file": facts.file,
            "rank_source": place.rank_source,
            "world_size": facts.world_size,
            "backend": facts.backend,
            "host": facts.host,
            "num_events": facts.num_events if alone else None,
            "start_ns": facts.base_ns + facts.start_ns if alone and facts.start_ns is not None else None,
            "end_ns": facts.base_ns + facts.end_ns if alone and facts.end_ns is not None else None,
            "process_groups": facts.process_groups,
            "devices": facts.devices,
            "metadata": facts.metadata,
        }
        for rank in ranks
    ]
