"""Put the ranks' times on one clock, or say that it cannot be done.

In order of preference:

* ranks of one boot of a kernel, as the run's description shows, read one clock: only the profiler's own conversion of
  times can set them apart;
* ranks of one host share its clock; its residual is the recorded ping-pong's, or unknown (containers on different hosts
  may give one name). In both cases nothing is applied, unless messages, collectives matched by number or a recorded offset
  contradict it by more than they and the host could explain. Collectives matched by their order alone never do: that takes
  their group for granted, which CPU traces do not name;
* a recorded ping-pong offset, interpolated between its two measurements;
* offsets solved from matched operations (`clock_solving`), within each set of ranks that such operations join: pipelines
  side by side that nothing joins have a clock each;
* ranks that one file holds stand on the time axis that its writer put them on;
* unknown.

A recorded offset within its own uncertainty is never applied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from traceanalyzer.job import ClockOffset, Job, RankRecord
from traceanalyzer.review.vocabulary import ClockBasis
from traceanalyzer.schema import CLOCKS, conform
from traceanalyzer.tables.clocks.solving import ClockLine, clock_bounds, solve_clocks

CONVERSION_NS = 10_000
"""Kineto turns processor ticks into Unix time by pairs of both taken at start and stop of a profile: within 6 µs of the
wall clock, the reading included (measured with torch 2.13 on one host)."""
_SAME_HOST_NS = 100_000
"""Operations of one host that are further apart than this, beyond their residual, are not on one clock."""


@dataclass(frozen=True, slots=True)
class ClockState:
    """How well the ranks' clocks agree."""

    basis: ClockBasis
    residual_ns: int | None
    """Largest uncertainty of an offset; None if none was measured."""
    num_clocks: int = 1
    """Sets of ranks that were put on a clock each, where no operation joins these sets."""

    @property
    def one_clock(self) -> bool:
        """Whether times of any two ranks may be compared."""
        return self.basis != "unknown" and self.num_clocks == 1


class Clocks(NamedTuple):
    """The clocks of a run."""

    table: pl.DataFrame
    """`CLOCKS`."""
    state: ClockState
    """How well they agree."""


def clocks(ranks: pl.DataFrame, job: Job | None, collectives: pl.DataFrame, messages: pl.DataFrame) -> Clocks:
    """Every rank's clock (`CLOCKS`) and how well they agree.

    `ranks` is `RANKS`; `collectives` and `messages` are matched `COLLECTIVES` and `P2P` on the ranks' own clocks.
    """
    present = sorted(ranks["rank"].unique().to_list())
    if not present:
        return Clocks(pl.DataFrame(schema=CLOCKS), ClockState("unknown", None))
    first, last = int(str(ranks["start_ns"].min() or 0)), int(str(ranks["end_ns"].max() or 0))
    solved = solve_clocks(clock_bounds(collectives, messages), present, first, last) if len(present) > 1 else {}
    numbered = collectives.filter(pl.col("match_basis").cast(pl.String).is_in(["communicator_id", "sequence"]))
    sure = solve_clocks(clock_bounds(numbered, messages), present, first, last) if len(present) > 1 else {}
    records = {record.rank: record for record in job.ranks} if job else {}
    basis, lines = _chosen(ranks, records, solved, sure, (first, last))
    references = {rank: _reference(lines.get(rank), present[0]) for rank in present}
    joined = {
        rank: line
        for rank, line in solved.items()
        if rank == present[0] or line.num_operations or line.reference != rank
    }
    rows = [_row(rank, references[rank], basis, lines.get(rank), joined.get(rank), (first, last)) for rank in present]
    table = conform(pl.DataFrame(rows, infer_schema_length=None), CLOCKS)
    return Clocks(table, _state(basis, lines, present, len(set(references.values()))))


def _reference(line: ClockLine | None, lowest: int) -> int:
    return lowest if line is None or line.reference is None else line.reference


def same_clock(ranks: pl.DataFrame, table: pl.DataFrame, clock: ClockState) -> pl.DataFrame:
    """The clock of every rank: `rank`, `reference`, from `RANKS` and `CLOCKS`; ranks of one reference may be compared.

    Empty if no two ranks may.
    """
    if clock.basis == "unknown":
        return pl.DataFrame(schema={"rank": pl.Int32, "reference": pl.Int32})
    known = table.select("rank", "reference").unique("rank")
    if clock.num_clocks == 1:
        known = ranks.select(pl.col("rank").unique().sort(), pl.lit(0, pl.Int32).alias("reference"))
    return known


def _chosen(
    ranks: pl.DataFrame,
    records: dict[int, RankRecord],
    solved: dict[int, ClockLine],
    sure: dict[int, ClockLine],
    span: tuple[int, int],
) -> tuple[ClockBasis, dict[int, ClockLine]]:
    """Basis and the lines it gives; `sure` are those solved without collectives matched by order alone."""
    present = sorted(ranks["rank"].unique().to_list())
    recorded = _recorded_lines(records, present, span)
    if len(present) == 1:
        return "single_rank", {present[0]: ClockLine(0.0, 0.0, 0.0, 0)}
    known = set(present) <= set(records)
    apart = _contradicted(sure) or (known and _contradicted(solved) and _recorded_apart(records, present))
    if _of_one_boot(records, present) and not apart and not _recorded_apart(records, present):
        return "same_boot", {rank: ClockLine(0.0, 0.0, CONVERSION_NS / 2, 0) for rank in present}
    if _on_one_host(ranks, records) and not apart:
        residuals = {rank: line.residual_ns for rank, line in recorded.items()}
        return "same_host", {rank: ClockLine(0.0, 0.0, residuals.get(rank, math.inf), 0) for rank in present}
    if len(recorded) == len(present):
        return "recorded", recorded
    if any(line.reference not in (None, rank) for rank, line in solved.items()):
        return "matched", _significant(solved)
    return _of_one_file(ranks, present) if not _contradicted(solved) else ("unknown", {})


def _of_one_file(ranks: pl.DataFrame, present: list[int]) -> tuple[ClockBasis, dict[int, ClockLine]]:
    """One file has one time axis: whoever wrote it put the ranks on it."""
    if ranks["file"].n_unique() > 1:
        return "unknown", {}
    return "one_file", {rank: ClockLine(0.0, 0.0, math.inf, 0) for rank in present}


def _on_one_host(ranks: pl.DataFrame, records: dict[int, RankRecord]) -> bool:
    """The trace's own host names decide; the run's description only where a trace has none."""
    hosts = {row["host"] or getattr(records.get(row["rank"]), "host", None) for row in ranks.iter_rows(named=True)}
    return len(hosts) == 1 and None not in hosts


def _of_one_boot(records: dict[int, RankRecord], present: list[int]) -> bool:
    boots = {records[rank].boot if rank in records else "" for rank in present}
    return len(boots) == 1 and "" not in boots


def _recorded_apart(records: dict[int, RankRecord], present: list[int]) -> bool:
    """A ping-pong put some rank's clock off by more than its own uncertainty and the profiler's conversion."""
    offsets = [offset for rank in present for offset in _offsets(records[rank])]
    return any(abs(offset.offset_ns) > offset.uncertainty_ns + CONVERSION_NS for offset in offsets)


def _contradicted(solved: dict[int, ClockLine]) -> bool:
    """Matched operations put some rank's clock off by more than one host can be."""
    return any(
        max(abs(line.first_ns), abs(line.last_ns)) > line.residual_ns + _SAME_HOST_NS for line in solved.values()
    )


def _significant(solved: dict[int, ClockLine]) -> dict[int, ClockLine]:
    """Solved lines, or none at all if every rank may well be on the reference's clock.

    All or nothing: neighbours' offsets are known better against each other than against the reference.
    """
    if all(max(abs(line.first_ns), abs(line.last_ns)) <= line.residual_ns for line in solved.values()):
        return {
            rank: ClockLine(0.0, 0.0, line.residual_ns, line.num_operations, line.reference)
            for rank, line in solved.items()
        }
    return solved


def _recorded_lines(records: dict[int, RankRecord], present: list[int], span: tuple[int, int]) -> dict[int, ClockLine]:
    """Lines through the recorded measurements of the ranks that have some."""
    found: dict[int, ClockLine] = {}
    for rank in present:
        offsets = _offsets(records[rank]) if rank in records else []
        if offsets:
            at, offset, slope = _line(offsets)
            first, last = (offset + slope * (time - at) for time in span)
            found[rank] = ClockLine(first, last, float(max(o.uncertainty_ns for o in offsets)), len(offsets))
    return found


def _offsets(record: RankRecord) -> list[ClockOffset]:
    return [offset for offset in (record.clock_start, record.clock_end) if offset is not None]


def _line(offsets: list[ClockOffset]) -> tuple[int, int, float]:
    """A rank's offset as a line in time; what lies within its uncertainty is neither offset nor drift."""
    first, last = offsets[0], offsets[-1]
    offset = first.offset_ns if abs(first.offset_ns) > first.uncertainty_ns else 0
    elapsed = last.at_ns - first.at_ns
    change = last.offset_ns - first.offset_ns
    drifts = elapsed > 0 and abs(change) > first.uncertainty_ns + last.uncertainty_ns
    return first.at_ns, offset, change / elapsed if drifts else 0.0


def _state(basis: ClockBasis, lines: dict[int, ClockLine], present: list[int], num_clocks: int) -> ClockState:
    residuals = [line.residual_ns for line in lines.values()]
    if basis == "unknown":
        return ClockState(basis, None)
    if len(residuals) < len(present) or math.isinf(max(residuals)):
        return ClockState(basis, None, num_clocks)
    return ClockState(basis, round(max(residuals)), num_clocks)


def _row(
    rank: int, reference: int, basis: str, line: ClockLine | None, solved: ClockLine | None, span: tuple[int, int]
) -> dict[str, object]:
    duration = max(span[1] - span[0], 1)
    applied = line is not None and (line.first_ns != 0 or line.last_ns != 0)
    return {
        "rank": rank,
        "reference": reference,
        "basis": basis,
        "offset_ns": round(line.first_ns) if line else None,
        "drift_ppm": (line.last_ns - line.first_ns) / duration * 1e6 if line else None,
        "at_ns": span[0],
        "residual_ns": round(line.residual_ns) if line and math.isfinite(line.residual_ns) else None,
        "applied": applied,
        "solved_offset_ns": round(solved.first_ns) if solved else None,
        "solved_residual_ns": round(solved.residual_ns) if solved else None,
        "num_operations": solved.num_operations if solved else 0,
    }


def on_one_clock(frame: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Take the clocks' offsets (`CLOCKS`) off every time column of a table with `rank`."""
    lines = table.filter("applied")
    if lines.is_empty() or frame.is_empty():
        return frame
    times = [name for name in frame.columns if name.endswith("_ns") and name not in _DURATIONS]
    offset, at, slope = (
        pl.col("rank").replace_strict(lines["rank"], values, default=None, return_dtype=values.dtype)
        for values in (lines["offset_ns"], lines["at_ns"], lines["drift_ppm"] * 1e-6)
    )
    return frame.with_columns(  # no join: it would copy all other columns
        pl.col(name) - offset.fill_null(0) - ((pl.col(name) - at) * slope).round().cast(pl.Int64).fill_null(0)
        for name in times
    )


_DURATIONS = frozenset({"duration_ns", "recorded_duration_ns"})
