"""Every table's columns: names, types, units and meaning, declared once.

Times are integer nanoseconds since the Unix epoch, on one clock per table from `steps` on (events keep the clock of
their own rank). `conform` is the only way a frame becomes one of these tables.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.schema.capture import DEFECTS, EVENTS, RANKS, STEP_RECORDS
from traceanalyzer.schema.categories import (
    BASIS,
    CAUSE,
    DIRECTION,
    GATHERED,
    KERNEL_KIND,
    MATCH_BASIS,
    OWNER,
    PHASE,
    ROLE,
    SEVERITY,
    STEP_PHASE,
)
from traceanalyzer.schema.columns import Column, Table
from traceanalyzer.schema.communication import (
    CLOCKS,
    COLLECTIVE_SPLITS,
    COLLECTIVES,
    COMMUNICATIONS,
    KERNEL_PHASES,
    KERNELS,
    MISSING_KERNELS,
    P2P,
    P2P_SPLITS,
    PLACED_BYTES,
    WAIT_BOUNDS,
)
from traceanalyzer.schema.computation import ROOFLINE
from traceanalyzer.schema.culprits import CULPRITS, LATE_MEMBERS
from traceanalyzer.schema.experts import EXCHANGES, EXPERT_BLAME, EXPERT_CHAIN, LOAD_STATISTICS, ROUTING, TRAFFIC
from traceanalyzer.schema.kernel_time import (
    BANDWIDTHS,
    COMMUNICATION_GROUPS,
    KERNEL_CLASSES,
    KERNEL_NAMES,
    RANK_SUMMARY,
)
from traceanalyzer.schema.pipeline import (
    ACCOUNTING,
    ACTIONS,
    ATTRIBUTION,
    BLAME,
    BUBBLE,
    OPS,
    OPTIMIZER,
    PASSES,
    RECEIVES,
    STEPS,
)
from traceanalyzer.schema.registry import TABLES, result_tables

__all__ = [
    "ACCOUNTING",
    "ACTIONS",
    "ATTRIBUTION",
    "BANDWIDTHS",
    "BASIS",
    "BLAME",
    "BUBBLE",
    "CAUSE",
    "CLOCKS",
    "COLLECTIVES",
    "COLLECTIVE_SPLITS",
    "COMMUNICATIONS",
    "COMMUNICATION_GROUPS",
    "CULPRITS",
    "DEFECTS",
    "DIRECTION",
    "EVENTS",
    "EXCHANGES",
    "EXPERT_BLAME",
    "EXPERT_CHAIN",
    "GATHERED",
    "KERNELS",
    "KERNEL_CLASSES",
    "KERNEL_KIND",
    "KERNEL_NAMES",
    "KERNEL_PHASES",
    "LATE_MEMBERS",
    "LOAD_STATISTICS",
    "MATCH_BASIS",
    "MISSING_KERNELS",
    "OPS",
    "OPTIMIZER",
    "OWNER",
    "P2P",
    "P2P_SPLITS",
    "PASSES",
    "PHASE",
    "PLACED_BYTES",
    "RANKS",
    "RANK_SUMMARY",
    "RECEIVES",
    "ROLE",
    "ROOFLINE",
    "ROUTING",
    "SEVERITY",
    "STEPS",
    "STEP_PHASE",
    "STEP_RECORDS",
    "TABLES",
    "TRAFFIC",
    "WAIT_BOUNDS",
    "Column",
    "Table",
    "conform",
    "empty",
    "result_tables",
]


def empty(schema: pl.Schema) -> pl.DataFrame:
    """A table of `schema` without rows."""
    return pl.DataFrame(schema=schema)


def conform(frame: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Select and cast the columns of `schema`, in order. Missing columns become null; a lossy cast raises."""
    columns = [
        pl.col(name).cast(dtype, strict=True) if name in frame.columns else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    ]
    return frame.select(columns)
