"""Op tables: one row per operation with rank, stage, step, kind, start and duration, as Parquet or CSV.

Columns are found by the names of `OPS` or by those of the published straggler traces (Lin et al., OSDI 2025); a column
map gives other names. Times may be integers of nanoseconds (`start_ns`, `duration_ns`) or numbers in the unit that the
name ends with: `start_us`, `start_ms`, `start_s`. A file whose steps each start anew is laid out one step after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import polars as pl

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.regular_file import open_regular, read_regular
from traceanalyzer.schema import OPS, conform
from traceanalyzer.traces.input.discovery import Paths, Where
from traceanalyzer.traces.input.foreign import first_bytes, foreign, remedy_of

SUFFIXES = (".parquet", ".csv")
MAX_ROWS = 50_000_000
_MAX_MAP_BYTES = 1 << 20
MAX_TIME_NS = 1 << 61
"""Far beyond any epoch time; sums of such times still fit."""
STEP_PAUSE_NS = 1_000_000
"""Between steps that are laid out one after another."""

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_ALIASES = {
    "dp_rank": "replica",
    "optype": "kind",
    "phase": "kind",
    "start_ts": "start_s",
    "duration": "duration_s",
    "seq_id": "sequence",
    "mb_id": "microbatch",
    "mc": "chunk",
}
_KINDS = {
    "f": "forward-compute",
    "forward": "forward-compute",
    "b": "backward-compute",
    "backward": "backward-compute",
    "i": "input-gradient",
    "w": "weight-gradient",
}
_WHOLE, _NAME = "a whole number", "text"
_EXPECTED = {name: _NAME if dtype == pl.String else _WHOLE for name, dtype in OPS.items() if not name.endswith("_ns")}
_NEEDED = ("rank", "stage", "step", "kind")
_HINT = 'name them with a column map: a JSON object of our names and the file\'s, for example {"kind": "op", "start_us": "ts"}'


def is_op_table(path: Where) -> bool:
    """Whether a path is a file that is read as an op table: by its ending."""
    return not isinstance(path, Paths) and Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def op_tables_in(path: Where) -> list[Path]:
    """The files of a folder that are op tables, by their ending and their columns."""
    folder = None if isinstance(path, Paths) else Path(path)
    if folder is None or not folder.is_dir():
        return []
    return [file for file in sorted(folder.iterdir()) if is_op_table(file) and _has_columns(file)]


def _has_columns(file: Path) -> bool:
    try:
        read_op_table(file)
    except InputError:
        return False
    return True


def load_column_map(path: Path | str) -> dict[str, str]:
    """A JSON object of our column names and a file's. Raises `UsageError`."""
    try:
        return msgspec.json.decode(read_regular(path, _MAX_MAP_BYTES), type=dict[str, str])
    except (msgspec.MsgspecError, OSError, RecursionError) as error:
        raise UsageError(
            f"{path}: not a column map: {error}", 'write for example {"kind": "op", "start_us": "ts"}'
        ) from None


def read_op_table(path: Path | str, columns: Mapping[str, str] | None = None) -> pl.DataFrame:
    """Read an op table as `OPS`, sorted by step, rank and start.

    `columns` maps our names to the file's. Raises `InputError` naming what is missing or wrong.
    """
    frame = _named(_read(Path(path)), columns or {}, path)
    missing = [name for name in _NEEDED if name not in frame.columns]
    timed = [_time_of(frame, name) for name in ("start", "duration")]
    missing += [f"{name}_ns" for name, found in zip(("start", "duration"), timed, strict=True) if found is None]
    if missing:
        if (kind := foreign(Path(path).name, first_bytes(Path(path)))) is not None:
            raise InputError(f"{path}: {kind.what}", remedy_of(kind, str(path)))
        raise InputError(f"{path}: an op table without column {', '.join(missing)}", _HINT)
    _check_types(frame, path)
    try:
        typed = frame.with_columns(*[time for time in timed if time is not None], _kind())
        for name in ("microbatch", "chunk"):
            if name in typed.columns:
                known = pl.col(name).cast(pl.Float64) >= 0  # an empty column of a CSV file is text
                typed = typed.with_columns(pl.when(known).then(name).alias(name))
        rows = conform(_numbered(typed), OPS)
    except (pl.exceptions.PolarsError, OverflowError) as error:
        raise InputError(f"{path}: not an op table: {str(error).splitlines()[0]}", _HINT) from None
    _check(rows, path)
    return _laid_out(rows).sort("step", "rank", "start_ns", "kind", "sequence")


def _check_types(frame: pl.DataFrame, path: Path | str) -> None:
    """Whole numbers where we count, text where we name; a column of lists or structs is neither. Raises `InputError`."""
    for name, dtype in frame.schema.items():
        expected = "a number" if name.partition("_")[0] in {"start", "duration"} else _EXPECTED.get(name)
        if expected is None or dtype == pl.Null:
            continue
        text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
        fits = dtype.is_integer() or dtype == pl.Boolean if expected == _WHOLE else dtype.is_numeric() or text
        if expected == _WHOLE and (dtype.is_float() or text):
            fits = True  # 3.0 and "3" are whole numbers, and the cast says where one is not
        if expected == _NAME:
            fits = text or dtype.is_integer()
        if not fits:
            what = "a struct" if isinstance(dtype, pl.Struct) else f"of type {dtype}"
            raise InputError(f"{path}: not an op table: {name} is {what}, must be {expected}", _HINT)


def _read(path: Path) -> pl.DataFrame:
    try:
        with open_regular(path):
            pass
        lazy = (
            pl.scan_parquet(path, glob=False)
            if path.suffix.lower() == ".parquet"
            else pl.scan_csv(path, comment_prefix="#", glob=False)
        )
        return lazy.head(MAX_ROWS).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{path}: cannot be read: {str(error).splitlines()[0]}", "give a Parquet or CSV file"
        ) from None


def _named(frame: pl.DataFrame, columns: Mapping[str, str], path: Path | str) -> pl.DataFrame:
    absent = [name for name in columns.values() if name not in frame.columns]
    if absent:
        raise InputError(f"{path}: no column {', '.join(absent)}", f"the file has {', '.join(frame.columns)}")
    given = {theirs: ours for ours, theirs in columns.items()}
    known = {
        theirs: ours
        for theirs, ours in _ALIASES.items()
        if theirs in frame.columns and ours not in frame.columns and ours not in given.values() and theirs not in given
    }
    return frame.rename(given | known)


def _time_of(frame: pl.DataFrame, name: str) -> pl.Expr | None:
    for unit, factor in _UNITS.items():
        column = f"{name}_{unit}"
        if column not in frame.columns:
            continue
        if unit == "ns" and frame.schema[column].is_integer():
            return pl.col(column).cast(pl.Int64)
        return (pl.col(column).cast(pl.Float64) * factor).round().cast(pl.Int64).alias(f"{name}_ns")
    return None


def _kind() -> pl.Expr:
    text = pl.col("kind").cast(pl.String)
    return text.str.to_lowercase().replace(_KINDS).alias("kind")


def _numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """Add replica and sequence where the file has none."""
    if "replica" not in frame.columns:
        place = pl.col("rank").rank("dense").over("stage") - 1
        frame = frame.with_columns(place.cast(pl.Int32).alias("replica"))
    if "sequence" not in frame.columns:
        order = pl.col("start_ns").rank("ordinal").over("rank", "step", "kind") - 1
        frame = frame.with_columns(order.cast(pl.Int32).alias("sequence"))
    return frame


def _check(rows: pl.DataFrame, path: Path | str) -> None:
    if rows.is_empty():
        raise InputError(f"{path}: an op table without rows", "give one with at least one step")
    late = rows.filter(
        ~pl.col("start_ns").is_between(-MAX_TIME_NS, MAX_TIME_NS) | (pl.col("duration_ns") > MAX_TIME_NS)
    )
    if not late.is_empty():
        raise InputError(f"{path}: times beyond {MAX_TIME_NS} ns", "check the unit of start and duration")
    wrong = rows.with_row_index("row").filter(
        (pl.col("duration_ns") < 0)
        | pl.any_horizontal(pl.col(*_NEEDED, "start_ns", "duration_ns").is_null())
        | (pl.min_horizontal("rank", "stage") < 0)
    )
    if not wrong.is_empty():
        raise InputError(
            f"{path}: row {wrong['row'][0]} has no rank, stage, step, kind or time, or a negative one", "repair the row"
        )


def _laid_out(rows: pl.DataFrame) -> pl.DataFrame:
    """Steps one after another where a file counts time anew in every step."""
    steps = (
        rows.group_by("step")
        .agg(pl.col("start_ns").min().alias("from"), (pl.col("start_ns") + pl.col("duration_ns")).max().alias("to"))
        .sort("step")
    )
    if steps.filter(pl.col("from") < pl.col("from").cum_max().shift(1)).is_empty() and not _overlap(steps):
        return rows
    length = pl.col("to") - pl.col("from") + STEP_PAUSE_NS
    shift = steps.select("step", (length.cum_sum().shift(1).fill_null(0) - pl.col("from")).alias("shift"))
    moved = rows.join(shift, on="step").with_columns(pl.col("start_ns") + pl.col("shift"))
    return conform(moved, OPS)


def _overlap(steps: pl.DataFrame) -> bool:
    """Whether a step begins in the first half of the one before: steps of one clock overlap at their ends only."""
    middle = (pl.col("from") + pl.col("to")) // 2
    return not steps.filter(pl.col("from") < middle.shift(1)).is_empty()
