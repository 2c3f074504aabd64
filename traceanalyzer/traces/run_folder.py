"""What reference runs write beside their traces: the job, step records and routing records."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import msgspec
import polars as pl

from traceanalyzer.errors import InputError, UsageError
from traceanalyzer.hardware import parse_dtype
from traceanalyzer.job import RUN_FILE, Job, RoutingRecord, StepRecord
from traceanalyzer.regular_file import lies_within, read_regular, regular_below
from traceanalyzer.schema import STEP_RECORDS, conform
from traceanalyzer.traces.decoding.repair import repair_tokens
from traceanalyzer.traces.defects import defect_row

ROUTING_RECORDS = pl.Schema(
    {
        "step": pl.Int32,
        "layer": pl.Int32,
        "rank": pl.Int32,
        "tokens_to_expert": pl.List(pl.Int64),
        "send_splits": pl.List(pl.Int64),
        "receive_splits": pl.List(pl.Int64),
        "dropped": pl.Int64,
        "group": pl.List(pl.Int32),
        "dropped_to_expert": pl.List(pl.Int64),
        "expert_ranks": pl.List(pl.Int32),
        "filling_rows": pl.Int64,
        "aligned_rows": pl.Int64,
    }
)
"""One row per routing record, lists kept."""

SIDE_FILES = ("steps/*.jsonl", "routing/*.jsonl")
"""Record files of a run folder."""

_SCHEMAS = (STEP_RECORDS, ROUTING_RECORDS)
_MAX_JOB_BYTES = 64 << 20
_LONGEST = 1 << 31
_MOST_RANKS = 1 << 20  # far beyond any job; analyses walk over all ranks
_MOST_LAYERS = 1 << 16  # likewise
_JOB_HINT = "repair or remove the file; without it the job is inferred from the traces"
_FAILURES = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)


def read_job(folder: Path | str) -> Job | None:
    """The job that a run folder describes in `run.json`; None without such a file. Raises `InputError`."""
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        return None
    if not lies_within(path, path.parent):
        raise InputError(f"{path}: a link that leads out of its folder is not followed", _JOB_HINT)
    try:
        content = read_regular(path, _MAX_JOB_BYTES)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", _JOB_HINT) from None
    return decode_job(content, str(path))


def describes_a_job(folder: Path | str) -> bool:
    """Whether a folder's `run.json` is meant to describe a job: another program's file of that name is none.

    True if it cannot be read or decoded: then `read_job` tells what is wrong.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file() or not lies_within(path, path.parent):
        return True
    try:
        found = msgspec.json.decode(read_regular(path, _MAX_JOB_BYTES))
    except (OSError, *_FAILURES):
        return True
    return isinstance(found, dict) and "kind" in found


def decode_job(content: bytes, source: str) -> Job:
    """The job that JSON text describes; `source` names its file in errors. Raises `InputError` naming the field."""
    try:
        job = msgspec.json.decode(content, type=Job)
        _check_known(job)
        if job.declares_nothing:  # earlier recorders wrote "all ranks are replicas" where nobody had said so
            job = dataclasses.replace(job, layout=None)
    except UsageError as error:  # what no layout, model or number format can be
        raise InputError(f"{source}: {error.message}", _JOB_HINT) from None
    except _FAILURES as error:
        raise InputError(f"{source}: not the description of a job: {error}", _JOB_HINT) from None
    return job


def _check_known(job: Job) -> None:
    """What depends on more than one field. Raises `ValueError` and, for a number format, `UsageError`."""
    if job.layout is not None and job.layout.world_size > _MOST_RANKS:
        raise ValueError(f"`layout` has {job.layout.world_size} ranks, more than {_MOST_RANKS}")
    if job.model.num_layers > _MOST_LAYERS:
        raise ValueError(f"`model.num_layers` is {job.model.num_layers}, more than {_MOST_LAYERS}")
    for name in ("tokens_per_step", "sequence_length") if job.model.num_layers else ():
        if getattr(job, name) == 0:
            raise ValueError(f"`{name}` is 0, though the model is known")
    hardware = job.hardware
    for peak in (hardware.measured_peak, *hardware.measured_peaks) if hardware else ():
        if peak is not None:
            parse_dtype(peak.dtype)


def read_step_records(folder: Path | str | Iterable[Path]) -> pl.DataFrame:
    """What the loop saw of each step (`STEP_RECORDS`); a line that is cut or damaged is left out."""
    return _table(folder, SIDE_FILES[0], StepRecord, STEP_RECORDS)


def read_routing_records(folder: Path | str | Iterable[Path]) -> pl.DataFrame:
    """Where tokens went (`ROUTING_RECORDS`); a line that is cut or damaged is left out."""
    return _table(folder, SIDE_FILES[1], RoutingRecord, ROUTING_RECORDS)


def damaged_lines(folder: Path) -> list[dict[str, Any]]:
    """Rows of `DEFECTS` for a foreign `run.json`, and for record files of a run folder that hold lines that are not records."""
    rows: list[dict[str, Any]] = []
    if not describes_a_job(folder):
        rows.append(defect_row("run.damaged_job", str(folder / RUN_FILE)))
    for pattern, record, schema in zip(SIDE_FILES, (StepRecord, RoutingRecord), _SCHEMAS, strict=True):
        for path, readable in regular_below(folder, pattern):
            if not readable:
                rows.append(defect_row("folder.not_regular", str(path)))
                continue
            bad = [number for number, found in _lines(path, record, schema) if found is None]
            if bad:
                detail = f"line {bad[0]}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")
                rows.append(defect_row("run.damaged_line", str(path), events=len(bad), detail=detail))
    return rows


def _table(where: Path | str | Iterable[Path], pattern: str, record: type, schema: pl.Schema) -> pl.DataFrame:
    """Records of one folder, or of several that hold one run."""
    folders = [Path(where)] if isinstance(where, Path | str) else where
    rows = [
        {name: value for name, value in asdict(found).items() if name in schema}
        for folder in folders
        for path, readable in regular_below(folder, pattern)
        if readable
        for _, found in _lines(path, record, schema)
        if found is not None
    ]
    return conform(pl.DataFrame(rows, schema=schema, orient="row"), schema)


def _lines(path: Path, record: type, schema: pl.Schema) -> Iterator[tuple[int, Any]]:
    """Line numbers and records of a file; None for a line that is not a record."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(record)
    try:
        data = read_regular(path)
    except OSError:
        yield 0, None
        return
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found = _decode(decoder, line)
        except _FAILURES:
            found = None
        yield number, found if _fits(found, schema) else None


def _decode(decoder: msgspec.json.Decoder[Any], line: bytes) -> object:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return decoder.decode(repair_tokens(line)[0])  # a loss that is not a number becomes null


def _fits(found: Any, schema: pl.Schema) -> bool:  # noqa: ANN401 - one of two record types, distinguished by their fields
    """Whether rank and step can be such, sent rows have receivers, and every whole number fits the table's column."""
    if found is None or not all(0 <= getattr(found, name) < _LONGEST for name in ("rank", "step")):
        return False
    if isinstance(found, RoutingRecord) and found.send_splits and not (found.group or found.expert_ranks):
        return False
    return all(_fits_column(getattr(found, name, None), dtype) for name, dtype in schema.items())


def _fits_column(value: object, dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.List):
        inner = cast("pl.DataType", dtype.inner)
        return all(_fits_column(each, inner) for each in cast("tuple[object, ...]", value or ()))
    limit = _LONGEST if dtype == pl.Int32 else _LONGEST << 32
    return not isinstance(value, int) or not dtype.is_integer() or -limit <= value < limit
