"""Decoded events to rows that later layers can rely on: every rule that drops, clamps or renames an event is here."""

from __future__ import annotations

import polars as pl

from traceanalyzer.traces.decoding.pairing import Pairing
from traceanalyzer.traces.defects import DefectLog
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
_MAX_TIME_NS = 1 << 61  # the year 2043; with a base time of the same size and a duration it stays within 64 bits
_MAX_DURATION_NS = 1 << 53  # 104 days; a thousand of them still add up within 64 bits
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
        index = pl.int_range(self._next, self._next + frame.height, dtype=pl.Int64, eager=True)
        self._next += frame.height
        frame = self._drop(_plain_categories(frame.insert_column(0, index.alias("index"))))
        if frame["ph"].is_in(["B", "E"]).any():
            frame = self._pairing.pair(frame)
        return self._clamp(frame).select(list(ROW_SCHEMA))

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
        in_range = start.is_between(-_MAX_TIME_NS, _MAX_TIME_NS)
        no_start = (start.is_null() & (ph != "M")) | ~in_range.fill_null(value=True)
        no_duration = (ph == "X") & ~pl.col("duration_ns").is_between(-_MAX_DURATION_NS, _MAX_DURATION_NS).fill_null(
            value=False
        )
        if not frame.select((ph.is_null() | no_start | no_duration).any()).item():
            return frame
        nothing = pl.all_horizontal(pl.col("ph", "name", "start_ns", "args").is_null())
        reason = (
            pl.when(nothing)
            .then(pl.lit("empty_object"))
            .when(ph.is_null())
            .then(pl.lit("no_phase"))
            .when(no_start)
            .then(pl.lit("no_start"))
            .when(no_duration)
            .then(pl.lit("no_duration"))
        )
        reasons = frame.select(reason.alias("reason")).to_series()
        for name, count in reasons.drop_nulls().value_counts().iter_rows():
            self._tally.drop_events(name, count, seen=False)
            if name in _REASONS:
                self._log.add(_REASONS[name], events=count)
        return frame.filter(reasons.is_null())

    def _clamp(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Durations at least zero, names no longer than allowed; what is strange is reported."""
        name, duration, complete = pl.col("name"), pl.col("duration_ns"), pl.col("ph") == "X"
        found = frame.select(
            negative_duration=(duration < 0).sum(),
            long_name=(name.cat.len_bytes() > _MAX_NAME).sum(),
            no_name=name.is_null().sum(),
            no_thread=(complete & (pl.col("process").is_null() | pl.col("thread").is_null())).sum(),
            name_unknown=(complete & (name == "unknown")).sum(),
        ).row(0, named=True)
        long = found.pop("long_name")
        for what, count in found.items():
            if count:
                self._log.add(f"event.{what}", events=count)
        frame = frame.with_columns(duration.fill_null(0).clip(0, _MAX_DURATION_NS))
        if long:
            self._log.add("limit.name", events=long)
            frame = frame.with_columns(name.cast(pl.String).str.slice(0, _MAX_NAME).cast(pl.Categorical()))
        return frame


def _plain_categories(frame: pl.DataFrame) -> pl.DataFrame:
    """Categories in lower case and today's spelling."""
    found = frame["category"].unique().drop_nulls()
    texts = found.cast(pl.String)
    plain = texts.str.to_lowercase().replace(CATEGORY_ALIASES)
    if texts.equals(plain):
        return frame
    return frame.with_columns(pl.col("category").cast(pl.String).replace_strict(texts, plain).cast(pl.Categorical()))
