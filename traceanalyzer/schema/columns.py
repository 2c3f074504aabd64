"""What a table is declared as: its name, what a row is, and every column with its type, unit and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl
from polars.datatypes import DataTypeClass

from traceanalyzer.schema.categories import BASIS, DIRECTION, MATCH_BASIS, ROLE

DataType = pl.DataType | DataTypeClass
Origin = Literal["traces", "run folder", "measured"]
"""Where a table is from: read as it is from the traces, or from what a run folder holds beside them, or measured."""

_UNITS = {
    "bytes_per_second": "bytes/s",
    "flops_per_second": "FLOP/s",
    "_ns": "ns",
    "_us": "µs",
    "_mhz": "MHz",
    "_mw": "mW",
    "_ppm": "ppm",
    "bytes": "bytes",
    "flops": "FLOP",
    "tokens": "tokens",
    "rows": "rows",
    "_share": "share of 1",
}
"""Unit by how the name of a column ends; the first that fits."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Its unit stands in its name."""

    dtype: DataType
    meaning: str


Columns = Mapping[str, Column]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: what `table` prints, a result keeps, a report offers and the documentation lists."""

    name: str
    meaning: str
    """What a row is, in one sentence."""
    columns: Columns
    origin: Origin = "measured"
    in_result: bool = True
    """Kept in the folder of a result and offered by its report; else `table` alone gives it, from the traces."""

    @property
    def schema(self) -> pl.Schema:
        """Names and types of the columns, in order."""
        return schema_of(self.columns)


def schema_of(columns: Columns) -> pl.Schema:
    """Names and types of `columns`, in order."""
    return pl.Schema({name: column.dtype for name, column in columns.items()})


def unit_of(name: str) -> str:
    """The unit of a column, which its name ends with; empty if it has none."""
    return next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), "")


# Columns that mean the same in several tables.
RANK = Column(pl.Int32, "Global rank.")
CYCLE = Column(pl.Int32, "Profiling cycle of the rank: 0 unless the same rank was captured again.")
STEP = Column(pl.Int32, "Number of the step, as the profiler counts.")
START = Column(pl.Int64, "Start.")
END = Column(pl.Int64, "End.")
STREAM = Column(pl.Int64, "Stream of the device; null on CPU.")
GROUP = Column(pl.String, "Member ranks of the process group, joined by commas.")
SEQUENCE = Column(pl.Int32, "Order of this kind in the group within the step.")
LAYER = Column(pl.Int32, "Expert layer; null if unknown.")
PIPELINE = Column(pl.Int32, "Pipeline, numbered from 0.")
WAY = Column(DIRECTION, "Where the exchange stands in the expert layer.")
SERVES = Column(ROLE, "The mesh dimension that the communication serves; null if unknown.")
SERVES_BY = Column(pl.String, "Source of the dimension: description, job or use.")
LAUNCH = Column(pl.Int64, "Start of the launching call; null without launch record.")
MATCHED_BY = Column(MATCH_BASIS, "How the parts were matched across ranks.")
WAITED_BY = Column(BASIS, "Basis of the wait: durations, clock, or own shortest; none: unknown.")
BETWEEN_HOSTS = Column(pl.Boolean, "Whether it crosses hosts; null if hosts are unknown.")
LINK_SHARE = Column(pl.Float64, "Bandwidth over the peak of the link; null if the peak is unknown.")
