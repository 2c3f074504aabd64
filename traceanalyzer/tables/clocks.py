"""Put the ranks' events on one clock, or say that it cannot be done.

Ranks of one host share its clock: nothing is applied there, and an offset within its own uncertainty is never applied.
Across hosts a recorded ping-pong offset is interpolated between its two measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.job import ClockOffset, Job, RankRecord


@dataclass(frozen=True, slots=True)
class ClockState:
    """How well the ranks' clocks agree."""

    basis: str
    """`single_rank`, `same_host`, `recorded` or `unknown`."""
    residual_ns: int | None
    """Largest uncertainty of an offset; None where none was measured."""

    @property
    def one_clock(self) -> bool:
        """Whether times of different ranks may be compared."""
        return self.basis != "unknown"


def align(events: pl.DataFrame, ranks: pl.DataFrame, job: Job | None) -> tuple[pl.DataFrame, ClockState]:
    """Events on the clock of the first rank (`EVENTS`), and how that was reached. `ranks` is `RANKS`."""
    records = {record.rank: record for record in job.ranks} if job else {}
    present = sorted(ranks["rank"].unique().to_list())
    residual = _residual(records, present)
    if len(present) <= 1:
        return events, ClockState("single_rank", 0)
    if _on_one_host(ranks, records):
        return events, ClockState("same_host", residual)
    if residual is None:
        return events, ClockState("unknown", None)
    return _shifted(events, records, present), ClockState("recorded", residual)


def _on_one_host(ranks: pl.DataFrame, records: dict[int, RankRecord]) -> bool:
    """The trace's own host names decide; the run's description only where a trace has none."""
    hosts = {row["host"] or getattr(records.get(row["rank"]), "host", None) for row in ranks.iter_rows(named=True)}
    return len(hosts) == 1 and None not in hosts


def _residual(records: dict[int, RankRecord], present: list[int]) -> int | None:
    offsets = [_offsets(records[rank]) for rank in present if rank in records]
    if len(offsets) < len(present) or not all(offsets):
        return None
    return max(offset.uncertainty_ns for pair in offsets for offset in pair)


def _offsets(record: RankRecord) -> list[ClockOffset]:
    return [offset for offset in (record.clock_start, record.clock_end) if offset is not None]


def _shifted(events: pl.DataFrame, records: dict[int, RankRecord], present: list[int]) -> pl.DataFrame:
    """Subtract each rank's offset from rank 0, linear in time between start and end."""
    lines = pl.DataFrame(
        [_line(rank, _offsets(records[rank])) for rank in present],
        schema={"rank": pl.Int32, "_at": pl.Int64, "_offset": pl.Int64, "_slope": pl.Float64},
        orient="row",
    )
    drift = ((pl.col("start_ns") - pl.col("_at")).cast(pl.Float64) * pl.col("_slope")).round().cast(pl.Int64)
    return (
        events.join(lines, on="rank", how="left", maintain_order="left")
        .with_columns((pl.col("start_ns") - pl.col("_offset") - drift).alias("start_ns"))
        .drop("_at", "_offset", "_slope")
    )


def _line(rank: int, offsets: list[ClockOffset]) -> tuple[int, int, int, float]:
    """A rank's offset as a line in time; what lies within its uncertainty is no offset and no drift."""
    first, last = offsets[0], offsets[-1]
    offset = first.offset_ns if abs(first.offset_ns) > first.uncertainty_ns else 0
    elapsed = last.at_ns - first.at_ns
    change = last.offset_ns - first.offset_ns
    drifts = elapsed > 0 and abs(change) > first.uncertainty_ns + last.uncertainty_ns
    return rank, first.at_ns, offset, change / elapsed if drifts else 0.0
