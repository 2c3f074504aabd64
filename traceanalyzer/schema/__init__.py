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
from traceanalyzer.schema.communication import (
    CLOCKS,
    COLLECTIVE_SPLITS,
    COLLECTIVES,
    COMMUNICATIONS,
    KERNEL_PHASES,
    KERNELS,
    P2P,
    P2P_SPLITS,
    WAIT_BOUNDS,
)
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
    "OPS",
    "OPTIMIZER",
    "OWNER",
    "P2P",
    "P2P_SPLITS",
    "PASSES",
    "PHASE",
    "RANKS",
    "RANK_SUMMARY",
    "RECEIVES",
    "ROLE",
    "ROUTING",
    "SEVERITY",
    "STEPS",
    "STEP_PHASE",
    "STEP_RECORDS",
    "TABLES",
    "TRAFFIC",
    "WAIT_BOUNDS",
    "conform",
    "empty",
]

TABLES: dict[str, pl.Schema] = {
    "events": EVENTS,
    "ranks": RANKS,
    "defects": DEFECTS,
    "steps": STEPS,
    "actions": ACTIONS,
    "receives": RECEIVES,
    "kernels": KERNELS,
    "kernel_phases": KERNEL_PHASES,
    "kernel_classes": KERNEL_CLASSES,
    "kernel_names": KERNEL_NAMES,
    "communication_groups": COMMUNICATION_GROUPS,
    "bandwidths": BANDWIDTHS,
    "rank_summary": RANK_SUMMARY,
    "p2p": P2P_SPLITS,
    "communications": COMMUNICATIONS,
    "wait_bounds": WAIT_BOUNDS,
    "clocks": CLOCKS,
    "collectives": COLLECTIVE_SPLITS,
    "routing": ROUTING,
    "step_records": STEP_RECORDS,
    "accounting": ACCOUNTING,
    "bubble": BUBBLE,
    "blame": BLAME,
    "attribution": ATTRIBUTION,
    "ops": OPS,
    "traffic": TRAFFIC,
    "load_statistics": LOAD_STATISTICS,
    "expert_chain": EXPERT_CHAIN,
    "exchanges": EXCHANGES,
    "expert_blame": EXPERT_BLAME,
    "culprits": CULPRITS,
    "late_members": LATE_MEMBERS,
}


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
