"""Decoded events to rows that later layers can rely on: every rule that drops, clamps or renames an event is here."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.defects import DefectLog
from traceanalyzer.traces.pairing import Pairing
from traceanalyzer.traces.tally import Tally

CATEGORY_ALIASES = {
    "operator": "cpu_op",
    "runtime": "cuda_runtime",
    "driver": "cuda_driver",
    "memcpy": "gpu_memcpy",
    "memset": "gpu_memset",
    "gpu_user_annotations": "gpu_user_annotation",
    "python": "python_function",
}
"""Spellings of 2021, in lower case, and what newer torch calls the same."""

_MAX_NAME = 1 << 16
_REASONS = {
    "no_phase": "event.no_phase",
    "no_start": "event.no_start",
    "no_duration": "event.no_duration",
}

ROW_SCHEMA = pl.Schema(
    {
        "index": pl.Int64(),
        "ph": pl.Categorical(),
        "category": pl.Categorical(),
        "name": pl.Categorical(),
        "process": pl.Categorical(),
        "thread": pl.Categorical(),
        "start_ns": pl.Int64(),
        "duration_ns": pl.Int64(),
        "device": pl.Int64(),
        "stream": pl.Int64(),
        "correlation": pl.UInt64(),
        "external_id": pl.UInt64(),
        "flow_id": pl.UInt64(),
        "args": pl.String(),
    }
)
"""Rows of one file: `EVENTS` without rank and cycle, times without the file's base time."""


class Settling:
    """Settles the events of one file, frame by frame."""

    __slots__ = ("_log", "_next", "_pairing", "_tally")

    def __init__(self, tally: Tally, log: DefectLog) -> None:
        self._tally = tally
        self._log = log
        self._pairing = Pairing()
        self._next = 0

    def settle(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows (`ROW_SCHEMA`) of decoded events; `B` and `E` come out as `X` once both were seen."""
        frame = frame.with_row_index("index", offset=self._next).with_columns(pl.col("index").cast(pl.Int64))
        self._next += frame.height
        frame = self._drop(frame)
        if frame["ph"].is_in(["B", "E"]).any():
            frame = self._pairing.pair(frame)
        frame = self._clamp(frame)
        self._note(frame)
        return _categories(frame)

    @property
    def num_pairs(self) -> int:
        """`B`/`E` pairs that became one row."""
        return self._pairing.num_pairs

    def finish(self) -> None:
        """Count what is left open at the end of the file as dropped."""
        begins, ends = self._pairing.unpaired()
        for code, reason, count in (
            ("event.begin_without_end", "begin_without_end", begins),
            ("event.end_without_begin", "end_without_begin", ends),
        ):
            if count:
                self._tally.drop_events(reason, count, seen=False)
                self._log.add(code, events=count)

    def _drop(self, frame: pl.DataFrame) -> pl.DataFrame:
        ph, start = pl.col("ph"), pl.col("start_ns")
        nothing = pl.all_horizontal(pl.col("ph", "name", "start_ns", "args").is_null())
        reason = (
            pl.when(nothing)
            .then(pl.lit("empty_object"))
            .when(ph.is_null())
            .then(pl.lit("no_phase"))
            .when(start.is_null() & (ph != "M"))
            .then(pl.lit("no_start"))
            .when((ph == "X") & pl.col("duration_ns").is_null())
            .then(pl.lit("no_duration"))
        )
        reasons = frame.select(reason.alias("reason")).to_series()
        if reasons.null_count() == frame.height:
            return frame
        for name, count in reasons.drop_nulls().value_counts().iter_rows():
            self._tally.drop_events(name, count, seen=False)
            if name in _REASONS:
                self._log.add(_REASONS[name], events=count)
        return frame.filter(reasons.is_null())

    def _clamp(self, frame: pl.DataFrame) -> pl.DataFrame:
        negative = int((frame["duration_ns"] < 0).sum())
        long = int((frame["name"].str.len_bytes() > _MAX_NAME).sum())
        changes = [pl.col("duration_ns").fill_null(0).clip(0)]
        if negative:
            self._log.add("event.negative_duration", events=negative)
        if long:
            self._log.add("limit.name", events=long)
            changes.append(pl.col("name").str.slice(0, _MAX_NAME))
        return frame.with_columns(changes)

    def _note(self, frame: pl.DataFrame) -> None:
        complete = pl.col("ph") == "X"
        found = frame.select(
            no_name=pl.col("name").is_null().sum(),
            no_thread=(complete & (pl.col("process").is_null() | pl.col("thread").is_null())).sum(),
            name_unknown=(complete & (pl.col("name") == "unknown")).sum(),
        )
        for name, count in found.row(0, named=True).items():
            if count:
                self._log.add(f"event.{name}", events=count)


def _categories(frame: pl.DataFrame) -> pl.DataFrame:
    text = pl.col("category").str.to_lowercase().replace(CATEGORY_ALIASES)
    return frame.with_columns(text.alias("category")).select(
        pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items()
    )
