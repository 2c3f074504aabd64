"""Steps, pipeline actions, the ideal schedule and findings."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from traceanalyzer.perfetto.source import Source
from traceanalyzer.perfetto.timeline import Track, slices
from traceanalyzer.perfetto.tracks.operations import action_name
from traceanalyzer.perfetto.window import Window

_FINDING = {"rank": pl.Int32, "start_ns": pl.Int64, "end_ns": pl.Int64, "id": pl.String, "title": pl.String, "evidence": pl.String, "worth_ms": pl.Float64}  # fmt: skip


def steps(rank: int, source: Source, window: Window) -> Track:
    """A rank's steps."""
    own = window.kept(source.of_rank("steps", rank))
    apart = pl.col("set_apart").cast(pl.String)
    name = (
        pl.when(apart.is_null()).then(pl.format("step {}", "step")).otherwise(pl.format("step {} ({})", "step", apart))
    )
    return Track("steps", slices(own, name, pl.lit("step"), ["step", "is_typical", "open_start", "open_end"]))


def actions(rank: int, kept: pl.DataFrame) -> Track:
    """A rank's actions, from `ACTIONS` that touch the window."""
    own = kept.filter(pl.col("rank") == rank)
    args = ["step", "stage", pl.col("phase").cast(pl.String), "microbatch", "position", "release_ns"]
    return Track("actions", slices(own, action_name(), pl.lit("action"), args), "Stage, phase and microbatch.")


def findings(rank: int, source: Source, window: Window) -> Track:
    """Findings about a moment of this rank."""
    moments = [
        {name: getattr(found, name) for name in _FINDING}
        for found in source.review.findings
        if found.rank == rank and found.start_ns is not None and found.end_ns is not None and not found.passed
    ]
    own = window.kept(pl.DataFrame(moments, schema=_FINDING))
    return Track("findings", slices(own, pl.col("title"), pl.lit("finding"), ["id", "evidence", "worth_ms"]))


def ideal(source: Source, window: Window) -> Iterator[Track]:
    """The ideal actions of every rank, once per measured step of its pipeline, from where the pipeline phase begins."""
    rows, table = source.whole("ideal_actions"), source.whole("bubble")
    if rows.is_empty() or table.is_empty():
        return
    places = table.select("pipeline", "rank", pl.col("step").alias("at_step"), "phase_start_ns")
    first = rows["start_ns"].min()
    begun = pl.col("phase_start_ns") - pl.lit(first, pl.Int64)
    placed = rows.join(places, on="rank").with_columns(pl.col("start_ns") + begun, pl.col("end_ns") + begun)
    placed = window.kept(placed).sort("rank", "start_ns")
    args = [pl.col("at_step").alias("step"), "stage", pl.col("phase").cast(pl.String), "microbatch", "position"]
    for key, own in placed.partition_by("rank", as_dict=True, maintain_order=True).items():
        yield Track(f"ideal, rank {key[0]}", slices(own, action_name(), pl.lit("ideal"), args))
