"""Chrome's trace event format: JSON that every trace viewer reads.

Times are microseconds since `baseTimeNanoseconds` with three decimals, so nanoseconds are exact. Slices that overlap are on
lanes of their own, each a thread.
"""

from __future__ import annotations

from typing import IO

import msgspec
import polars as pl

from traceanalyzer.perfetto.timeline import Counter, Process, lanes_of

_CHUNK = 50_000
"""Slices that are text in memory at a time."""


class ChromeWriter:
    """Writes a timeline as Chrome's JSON."""

    def __init__(self, file: IO[bytes], zero_ns: int, about: dict[str, str]) -> None:
        self._file = file
        self._zero_ns = zero_ns
        self._first = True
        self._order = 0
        self.num_slices = 0
        head = {"displayTimeUnit": "ns", "baseTimeNanoseconds": zero_ns, "otherData": about}
        file.write(msgspec.json.encode(head)[:-1] + b',"traceEvents":[\n')

    def process(self, process: Process) -> None:
        """Write a process with all its tracks."""
        self._order += 1
        self._meta("process_name", process.id, 0, name=process.name)
        self._meta("process_sort_index", process.id, 0, sort_index=self._order)
        thread = 0
        for track in process.tracks:
            for lane, rows in lanes_of(track):
                thread += 1
                self._meta(
                    "thread_name", process.id, thread, name=track.name if lane == 0 else f"{track.name} ({lane + 1})"
                )
                self._meta("thread_sort_index", process.id, thread, sort_index=thread)
                self._slices(rows, process.id, thread)
        for counter in process.counters:
            self._counter(counter, process.id)

    def close(self) -> None:
        """Write what ends the file."""
        self._file.write(b"\n]}\n")

    def _meta(self, kind: str, process: int, thread: int, **args: str | int) -> None:
        self._text(msgspec.json.encode({"ph": "M", "name": kind, "pid": process, "tid": thread, "args": args}).decode())

    def _text(self, text: str) -> None:
        if text:
            self._file.write((text if self._first else f",\n{text}").encode())
            self._first = False

    def _slices(self, rows: pl.DataFrame, process: int, thread: int) -> None:
        for part in rows.iter_slices(_CHUNK):
            self._text(self._events(part, process, thread).str.join(",\n").item())
            for text in (self._flows(part, process, thread, way) for way in ("out", "into")):
                self._text(text)
            self.num_slices += part.height

    def _events(self, part: pl.DataFrame, process: int, thread: int) -> pl.Series:
        shown = part.select(
            pl.lit("X").alias("ph"),
            "name",
            pl.col("category").alias("cat"),
            *_place(process, thread),
            self._time(pl.col("start_ns")).alias("ts"),
            ((pl.col("end_ns") - pl.col("start_ns")) / 1e3).alias("dur"),
        )
        text = shown.select(pl.struct(pl.all()).struct.json_encode().alias("text"), part["args"])
        with_args = pl.concat_str(pl.col("text").str.head(-1), pl.lit(',"args":'), "args", pl.lit("}"))
        return text.select(pl.when(pl.col("args").is_null()).then("text").otherwise(with_args).alias("text"))["text"]

    def _flows(self, part: pl.DataFrame, process: int, thread: int, way: str) -> str:
        """Flows leave a slice at its start and enter it at its last moment, which is after they left wherever clocks agree."""
        at = pl.col("start_ns") if way == "out" else pl.max_horizontal("start_ns", pl.col("end_ns") - 1)
        ends = part.select(at.alias("at_ns"), pl.col(way).alias("flow")).explode("flow").drop_nulls("flow")
        if ends.is_empty():
            return ""
        shown = ends.select(
            pl.lit("s" if way == "out" else "f").alias("ph"),
            *([] if way == "out" else [pl.lit("e").alias("bp")]),
            pl.lit("flow").alias("name"),
            pl.lit("flow").alias("cat"),
            pl.col("flow").cast(pl.String).alias("id"),
            *_place(process, thread),
            self._time(pl.col("at_ns")).alias("ts"),
        )
        return str(shown.select(pl.struct(pl.all()).struct.json_encode().str.join(",\n")).item())

    def _counter(self, counter: Counter, process: int) -> None:
        if counter.points.is_empty():
            return
        shown = counter.points.select(
            pl.lit("C").alias("ph"),
            pl.lit(f"{counter.name} ({counter.unit})").alias("name"),
            *_place(process, 0),
            self._time(pl.col("at_ns")).alias("ts"),
            pl.struct("value").alias("args"),
        )
        self._text(str(shown.select(pl.struct(pl.all()).struct.json_encode().str.join(",\n")).item()))

    def _time(self, at_ns: pl.Expr) -> pl.Expr:
        return (at_ns - pl.lit(self._zero_ns, pl.Int64)) / 1e3


def _place(process: int, thread: int) -> list[pl.Expr]:
    return [pl.lit(process).alias("pid"), pl.lit(thread).alias("tid")]
