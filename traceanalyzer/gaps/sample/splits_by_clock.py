"""Wait and transfer of every communication, by clocks only where the ranks that took part share one."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from traceanalyzer.measurements.communication.collectives import split_collectives
from traceanalyzer.measurements.communication.links import links
from traceanalyzer.measurements.communication.messages import split_messages
from traceanalyzer.tables import Tables
from traceanalyzer.tables.clocks.alignment import same_clock


class Splits(NamedTuple):
    """Waits and transfers of a run."""

    collectives: pl.DataFrame
    """`COLLECTIVE_SPLITS`."""
    messages: pl.DataFrame
    """`P2P_SPLITS`."""


def splits_by_clock(tables: Tables) -> Splits:
    """`COLLECTIVE_SPLITS` and `P2P_SPLITS` of a run.

    Where the ranks have several clocks that nothing joins, communications inside one set of ranks are split by its clock.
    """
    peaks = links(tables.ranks)
    references = same_clock(tables.ranks, tables.clocks, tables.clock)

    def collectives(rows: pl.DataFrame, *, one_clock: bool) -> pl.DataFrame:
        return split_collectives(rows, one_clock=one_clock, links=peaks, clocks=tables.clocks)

    def messages(rows: pl.DataFrame, *, one_clock: bool) -> pl.DataFrame:
        return split_messages(rows, tables.kernels, one_clock=one_clock, links=peaks, clocks=tables.clocks)

    if tables.clock.one_clock or references.is_empty():
        one_clock = tables.clock.one_clock
        return Splits(collectives(tables.collectives, one_clock=one_clock), messages(tables.p2p, one_clock=one_clock))
    joined, apart = _by_clock(tables.collectives, references)
    near, far = _by_clock(tables.p2p, references)
    return Splits(
        pl.concat([collectives(joined, one_clock=True), collectives(apart, one_clock=False)]).sort("rank", "start_ns"),
        pl.concat([messages(near, one_clock=True), messages(far, one_clock=False)]).sort("rank", "start_ns", "index"),
    )


def _by_clock(rows: pl.DataFrame, references: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows of operations whose members that are here share a clock, and all others."""
    single = (
        rows.filter(pl.col("match").is_not_null())
        .join(references, on="rank", how="left")
        .group_by("match")
        .agg((pl.col("reference").n_unique() == 1) & pl.col("reference").is_not_null().all())
        .filter("reference")
    )
    return (
        rows.join(single, on="match", how="semi", maintain_order="left"),
        rows.join(single, on="match", how="anti", maintain_order="left"),
    )
