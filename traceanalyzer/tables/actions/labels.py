r"""Names of profiler ranges → the compute actions they label.

Known are, in order of preference,

* the job's own pattern, a regular expression with the named groups `phase` and, where the name tells them, `stage` and
  `microbatch`, for example `^(?P<phase>fwd|bwd) stage(?P<stage>\\d+) mb(?P<microbatch>\\d+)$`;
* ours, `compute:2F0`: the computation alone;
* torch's pipelining runtime, `PP:2F0`, and torch's own GPipe, `Forward 0` and `Backward 0`: these ranges also hold the
  wait for the receive.

A name without stage is of the rank's place in its pipeline; one without microbatch counts the ranges of its stage and
phase in the step. The phase is told by the first letter of its group: f(orward), b(ackward), i(nput gradient) or
d(grad), w(eight gradient).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.schema import ACTIONS
from traceanalyzer.tables.steps.windows import assign_steps, on_main_thread

OWN = r"^compute:(?P<stage>\d+)(?P<phase>[FBIW])(?P<microbatch>\d+)$"
RUNTIME = r"^PP:(?P<stage>\d+)(?P<phase>[FBIW])(?P<microbatch>\d+)$"
GPIPE = r"^(?P<phase>Forward|Backward) (?P<microbatch>\d+)$"
_GROUPS = ("phase", "stage", "microbatch")
_PHASES = {"f": "F", "b": "B", "i": "I", "d": "I", "w": "W"}
_HINT = (
    "write a regular expression with the named groups phase and, if names tell them, stage and microbatch, such as "
    r"'^(?P<phase>fwd|bwd) stage(?P<stage>\d+) mb(?P<microbatch>\d+)$' (no look-around)"
)


@dataclass(frozen=True, slots=True)
class Labels:
    """How a job's actions are labelled."""

    places: pl.DataFrame
    """`rank`, `stage`: every rank's place in its pipeline, for names that tell no stage."""
    pattern: str | None = None
    """The job's own."""


def user_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """User ranges of every rank's main thread: `rank`, `name`, `start_ns`, `end_ns`."""
    return (
        on_main_thread(events)
        .filter(pl.col("category") == "user_annotation")
        .select(
            "rank",
            pl.col("name").cast(pl.String),
            "start_ns",
            (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"),
        )
    )


def check_pattern(pattern: str) -> str:
    """The pattern, if it can label actions. Raises `UsageError`."""
    try:
        dtype = pl.Series([""]).str.extract_groups(pattern).dtype
    except pl.exceptions.PolarsError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"action_pattern '{pattern}': no regular expression: {lines[-1]}", _HINT) from None
    names = [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
    if "phase" not in names:
        raise UsageError(f"action_pattern '{pattern}' has no group called phase", _HINT)
    return pattern


def labelled(ranges: pl.DataFrame, pattern: str, places: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Ranges whose name matches: `rank`, `stage`, `phase`, `microbatch`, `start_ns`, `end_ns`.

    `places` has `rank` and `stage` for names that tell none, `windows` (`STEPS`) the steps within which microbatches are
    counted where names tell none. A match without known stage or phase is no action.
    """
    parts = ranges["name"].str.extract_groups(pattern).alias("_parts").struct.unnest()
    absent = [pl.lit(None, pl.String).alias(name) for name in _GROUPS if name not in parts.columns]
    letter = pl.col("phase").str.to_lowercase().str.slice(0, 1)
    found = (
        pl.concat(
            [ranges.select("rank", "start_ns", "end_ns"), parts.with_columns(absent).select(_GROUPS)], how="horizontal"
        )
        .with_columns(
            letter.replace_strict(_PHASES, default=None, return_dtype=pl.String).cast(ACTIONS["phase"]).alias("phase"),
            pl.col("stage").cast(pl.Int32, strict=False),
            pl.col("microbatch").cast(pl.Int32, strict=False),
        )
        .join(places.select("rank", pl.col("stage").alias("_place")), on="rank", how="left")
        .with_columns(pl.coalesce("stage", "_place").alias("stage"))
        .filter(pl.col("stage").is_not_null() & pl.col("phase").is_not_null())
    )
    return _counted(found, windows).select("rank", *("stage", "phase", "microbatch"), "start_ns", "end_ns")


def _counted(found: pl.DataFrame, windows: pl.DataFrame) -> pl.DataFrame:
    """Microbatches that no name tells: the ordinal among the ranges of the same stage and phase of the step."""
    unnamed = found.filter(pl.col("microbatch").is_null())
    if unnamed.is_empty():
        return found
    ordinal = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step", "stage", "phase")
    counted = (
        assign_steps(unnamed, windows).sort("rank", "start_ns", "end_ns").with_columns(ordinal.alias("microbatch"))
    )
    return pl.concat([found.filter(pl.col("microbatch").is_not_null()), counted.select(found.columns)])


def labels_of(ranges: pl.DataFrame, labels: Labels, windows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Ranges that hold an action's computation alone, and ranges that also hold the wait for its receive.

    On ranks where the job's own pattern labels anything, it alone counts. Columns as of `labelled`.
    """
    own, runtime, gpipe = (labelled(ranges, pattern, labels.places, windows) for pattern in (OWN, RUNTIME, GPIPE))
    runtime = pl.concat([runtime, gpipe.join(runtime, on="rank", how="anti")])
    if labels.pattern is None:
        return own, runtime
    chosen = labelled(ranges, check_pattern(labels.pattern), labels.places, windows)
    return own.join(chosen, on="rank", how="anti"), pl.concat([runtime.join(chosen, on="rank", how="anti"), chosen])
