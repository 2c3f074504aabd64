"""What reference runs write beside their traces: the job, step records and routing records."""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.job import RUN_FILE, Job, RoutingRecord, StepRecord
from traceanalyzer.schema import STEP_RECORDS, conform

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
    }
)
"""One row per routing record, lists kept."""


def read_job(folder: Path | str) -> Job | None:
    """The job that a run folder describes in `run.json`; None without such a file. Raises `InputError`."""
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Job)
    except (msgspec.MsgspecError, ValueError, RecursionError, OSError) as error:
        raise InputError(
            f"{path}: not the description of a job: {error}",
            "repair or remove the file; without it the job is inferred from the traces",
        ) from None


def _records(folder: Path, pattern: str, record: type, schema: pl.Schema) -> pl.DataFrame:
    decoder = msgspec.json.Decoder(record)
    rows: list[dict[str, object]] = []
    for path in sorted(folder.glob(pattern)):
        for line in path.read_bytes().splitlines():
            try:
                rows.append({name: getattr(decoder.decode(line), name) for name in schema})
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
    return conform(pl.DataFrame(rows, schema=schema, orient="row"), schema)


def read_step_records(folder: Path | str) -> pl.DataFrame:
    """What the loop saw of each step (`STEP_RECORDS`); a line that is cut or damaged is left out."""
    return _records(Path(folder), "steps/*.jsonl", StepRecord, STEP_RECORDS)


def read_routing_records(folder: Path | str) -> pl.DataFrame:
    """Where tokens went (`ROUTING_RECORDS`); a line that is cut or damaged is left out."""
    return _records(Path(folder), "routing/*.jsonl", RoutingRecord, ROUTING_RECORDS)
