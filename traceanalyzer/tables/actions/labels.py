r"""Names of profiler ranges → the compute actions they label.

Known are, in order of preference,

* the job's own pattern, a regular expression with the named groups `phase` and, where the name tells them, `stage`
  or `chunk`, and `microbatch`, for example `^(?P<phase>fwd|bwd) stage(?P<stage>\\d+) mb(?P<microbatch>\\d+)$`;
* ours, `compute:2F0`: the computation alone;
* torch's pipelining runtime, `PP:2F0`, and torch's own GPipe, `Forward 0` and `Backward 0`: these ranges also hold the
  wait for the receive;
* marks whose name tells a phase and whose arguments tell the microbatch and a chunk, stage or place, as MegatronApp
  writes them (`tables.label_arguments`).

The job's own pattern is looked for among ranges of the main thread, on ranks where it matches none of these among all
other events of the host, and then among events of the device, whose times are those of the device already.

What a name does not tell, arguments may. A chunk k of place s on p places is stage k · p + s of the model. An action
without any of these is of the rank's place in its pipeline; one without microbatch counts the ranges of its stage and
phase in the step. The phase is known by the first letter of its group: f(orward), b(ackward), i(nput gradient) or
d(grad), w(eight gradient).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from traceanalyzer.errors import UsageError
from traceanalyzer.schema import ACTIONS
from traceanalyzer.tables.actions.label_arguments import with_arguments
from traceanalyzer.tables.computation.phase_names import phase_of
from traceanalyzer.tables.steps.windows import assign_steps, on_main_thread

OWN = r"^compute:(?P<stage>\d+)(?P<phase>[FBIW])(?P<microbatch>\d+)$"
RUNTIME = r"^PP:(?P<stage>\d+)(?P<phase>[FBIW])(?P<microbatch>\d+)$"
GPIPE = r"^(?P<phase>Forward|Backward) (?P<microbatch>\d+)$"
_GROUPS = ("phase", "stage", "chunk", "microbatch")
_DEVICE = ["kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation"]
_PHASES = {"f": "F", "b": "B", "i": "I", "d": "I", "w": "W"}
_HINT = (
    "write a regular expression with the named groups phase and, if names hold them, stage, chunk and microbatch, such as "
    r"'^(?P<phase>fwd|bwd) stage(?P<stage>\d+) mb(?P<microbatch>\d+)$' (no look-around)"
)


Windows = Callable[[], pl.DataFrame]
"""Gives `STEPS`; asked only where ranges show no microbatch."""


@dataclass(frozen=True, slots=True)
class Labels:
    """How a job's actions are labelled."""

    places: pl.DataFrame
    """`rank`, `stage`: every rank's place in its pipeline, for names that show no stage."""
    pattern: str | None = None
    """The job's own."""


def user_ranges(events: pl.DataFrame) -> pl.DataFrame:
    """Ranges that a training loop marked: `rank`, `name`, `start_ns`, `end_ns`, `args`.

    User annotations of every rank's main thread, and complete events without category, as plain writers of the trace
    event format give them.
    """
    annotated = on_main_thread(events).filter(pl.col("category") == "user_annotation")
    plain = events.filter((pl.col("ph") == "X") & pl.col("category").is_null() & pl.col("name").is_not_null())
    return pl.concat([_as_ranges(annotated), _as_ranges(plain)])


def _as_ranges(events: pl.DataFrame) -> pl.DataFrame:
    return events.select(
        "rank",
        pl.col("name").cast(pl.String),
        "start_ns",
        (pl.col("start_ns") + pl.col("duration_ns")).alias("end_ns"),
        "args",
    )


def check_pattern(pattern: str) -> str:
    """The pattern, if it can label actions. Raises `UsageError`."""
    try:
        dtype = pl.Series([""]).str.extract_groups(pattern).dtype
    except pl.exceptions.PolarsError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UsageError(f"action_pattern '{pattern}' is not a regular expression: {lines[-1]}", _HINT) from None
    names = [field.name for field in dtype.fields] if isinstance(dtype, pl.Struct) else []
    if "phase" not in names:
        raise UsageError(f"action_pattern '{pattern}' has no group called phase", _HINT)
    return pattern


def labelled(ranges: pl.DataFrame, pattern: str, places: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    """Ranges whose name matches: `rank`, `stage`, `phase`, `microbatch`, `start_ns`, `end_ns`.

    `ranges` is as `user_ranges` gives it. `places` has `rank` and `stage` for ranges that show none, `windows` (gives `STEPS`)
    the steps within which microbatches are counted where nothing shows them. A match without known stage or phase is no
    action.
    """
    matching = ranges.filter(pl.col("name").str.contains(pattern))
    if matching.is_empty():
        return _none()
    parts = matching["name"].str.extract_groups(pattern).alias("_parts").struct.unnest()
    absent = [pl.lit(None, pl.String).alias(name) for name in _GROUPS if name not in parts.columns]
    letter = pl.col("phase").str.to_lowercase().str.slice(0, 1)
    found = with_arguments(
        pl.concat([matching.drop("name"), parts.with_columns(absent).select(_GROUPS)], how="horizontal")
    ).with_columns(
        letter.replace_strict(_PHASES, default=None, return_dtype=pl.String).cast(ACTIONS["phase"]).alias("phase"),
        *(pl.coalesce(pl.col(name).cast(pl.Int32, strict=False), f"arg_{name}").alias(name) for name in _GROUPS[1:]),
    )
    return _counted(_staged(found, places), windows).select(*_LABEL)


def marked(ranges: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Marks shown by name and arguments together, with the columns of `labelled`."""
    named = ranges.filter(pl.col("args").is_not_null()).with_columns(phase_of(pl.col("name")).alias("phase"))
    phased = named.filter(pl.col("phase").is_not_null())
    if phased.is_empty():
        return _none()
    found = with_arguments(phased).rename({f"arg_{name}": name for name in ("stage", "chunk", "microbatch")})
    placed = pl.any_horizontal(pl.col("stage", "chunk", "arg_place").is_not_null())
    return _staged(found.filter(placed & pl.col("microbatch").is_not_null()), places).select(*_LABEL)


_LABEL = ("rank", "stage", "phase", "microbatch", "start_ns", "end_ns")


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema={name: ACTIONS[name] for name in _LABEL})


def _staged(found: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Rows with a stage and a phase; the stage from that of the model, else from chunk and place, else the place.

    A stage that stays the same while the rank's chunks change is its place.
    """
    only_place = (pl.col("stage").n_unique().over("rank") == 1) & (pl.col("chunk").n_unique().over("rank") > 1)
    known = found.join(places.select("rank", pl.col("stage").alias("_place")), on="rank", how="left").with_columns(
        pl.when(~only_place | pl.col("chunk").is_null()).then("stage").alias("_of_model"),
        pl.coalesce("arg_place", pl.when(only_place).then("stage"), "_place").alias("_place"),
    )
    num_places = pl.max_horizontal(pl.col("_place").max(), pl.lit(places["stage"].max(), pl.Int32)) + 1
    looped = pl.col("chunk") * num_places + pl.col("_place")
    return known.with_columns(pl.coalesce("_of_model", looped, "_place").cast(pl.Int32).alias("stage")).filter(
        pl.col("stage").is_not_null() & pl.col("phase").is_not_null()
    )


def _counted(found: pl.DataFrame, windows: Windows) -> pl.DataFrame:
    """Microbatches that nothing shows: the ordinal among the ranges of the same stage and phase of the step."""
    unnamed = found.filter(pl.col("microbatch").is_null())
    if unnamed.is_empty():
        return found
    ordinal = pl.int_range(pl.len(), dtype=pl.Int32).over("rank", "step", "stage", "phase")
    counted = (
        assign_steps(unnamed, windows()).sort("rank", "start_ns", "end_ns").with_columns(ordinal.alias("microbatch"))
    )
    return pl.concat([found.filter(pl.col("microbatch").is_not_null()), counted.select(found.columns)])


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labelled ranges of actions, with the columns of `labelled`, by what they hold."""

    own: pl.DataFrame
    """The computation alone."""
    runtime: pl.DataFrame
    """Also the wait for the receive."""
    on_device: pl.DataFrame
    """Times of the device itself, not of the calls that launched it."""


def labels_of(events: pl.DataFrame, ranges: pl.DataFrame, labels: Labels, windows: Windows) -> Labelled:
    """Labelled ranges of actions among the `user_ranges` of `EVENTS`. On ranks where the job's own pattern labels anything, it alone counts."""
    own, runtime, gpipe = (labelled(ranges, pattern, labels.places, windows) for pattern in (OWN, RUNTIME, GPIPE))
    runtime = pl.concat([runtime, gpipe.join(runtime, on="rank", how="anti")])
    marks = marked(ranges, labels.places)
    runtime = pl.concat([runtime, marks.join(pl.concat([own, runtime]), on="rank", how="anti")])
    if labels.pattern is None:
        return Labelled(own, runtime, own.clear())
    chosen, on_device = _chosen(events, ranges, check_pattern(labels.pattern), labels.places, windows)
    stated = pl.concat([chosen, on_device])
    return Labelled(
        own.join(stated, on="rank", how="anti"),
        pl.concat([runtime.join(stated, on="rank", how="anti"), chosen]),
        on_device,
    )


def _chosen(
    events: pl.DataFrame, ranges: pl.DataFrame, pattern: str, places: pl.DataFrame, windows: Windows
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the job's own pattern labels on the host and, of ranks where that is nothing, on the device."""
    whole = pl.col("name").cast(pl.String).str.contains(pattern) & (pl.col("ph") == "X")
    on_device = pl.col("category").cast(pl.String).is_in(_DEVICE).fill_null(value=False)
    found = labelled(ranges, pattern, places, windows)
    rest = _as_ranges(events.join(found, on="rank", how="anti").filter(whole & ~on_device))
    found = pl.concat([found, labelled(rest, pattern, places, windows)])
    rest = _as_ranges(events.join(found, on="rank", how="anti").filter(whole & on_device))
    return found, labelled(rest, pattern, places, windows)
