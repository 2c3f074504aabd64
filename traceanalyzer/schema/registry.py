"""Every table, once: what `table` prints, a result keeps, a report offers and the documentation lists."""

from __future__ import annotations

from traceanalyzer.schema.capture import DEFECTS_TABLE, EVENTS_TABLE, RANKS_TABLE, STEP_RECORDS_TABLE
from traceanalyzer.schema.columns import Table
from traceanalyzer.schema.communication import (
    CLOCKS_TABLE,
    COLLECTIVE_SPLITS_TABLE,
    COMMUNICATIONS_TABLE,
    KERNEL_PHASES_TABLE,
    KERNELS_TABLE,
    MISSING_KERNELS_TABLE,
    P2P_SPLITS_TABLE,
    WAIT_BOUNDS_TABLE,
)
from traceanalyzer.schema.computation import ROOFLINE_TABLE
from traceanalyzer.schema.culprits import CULPRITS_TABLE, LATE_MEMBERS_TABLE
from traceanalyzer.schema.experts import (
    EXCHANGES_TABLE,
    EXPERT_BLAME_TABLE,
    EXPERT_CHAIN_TABLE,
    LOAD_STATISTICS_TABLE,
    ROUTING_TABLE,
    TRAFFIC_TABLE,
)
from traceanalyzer.schema.kernel_time import (
    BANDWIDTHS_TABLE,
    COMMUNICATION_GROUPS_TABLE,
    KERNEL_CLASSES_TABLE,
    KERNEL_NAMES_TABLE,
    RANK_SUMMARY_TABLE,
)
from traceanalyzer.schema.pipeline import (
    ACCOUNTING_TABLE,
    ACTIONS_TABLE,
    ATTRIBUTION_TABLE,
    BLAME_TABLE,
    BUBBLE_TABLE,
    IDEAL_ACTIONS_TABLE,
    OPS_TABLE,
    STEPS_TABLE,
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EVENTS_TABLE,
        RANKS_TABLE,
        DEFECTS_TABLE,
        STEPS_TABLE,
        STEP_RECORDS_TABLE,
        ACTIONS_TABLE,
        IDEAL_ACTIONS_TABLE,
        BUBBLE_TABLE,
        ATTRIBUTION_TABLE,
        BLAME_TABLE,
        OPS_TABLE,
        ACCOUNTING_TABLE,
        RANK_SUMMARY_TABLE,
        KERNELS_TABLE,
        MISSING_KERNELS_TABLE,
        KERNEL_PHASES_TABLE,
        KERNEL_CLASSES_TABLE,
        KERNEL_NAMES_TABLE,
        ROOFLINE_TABLE,
        COLLECTIVE_SPLITS_TABLE,
        P2P_SPLITS_TABLE,
        COMMUNICATIONS_TABLE,
        COMMUNICATION_GROUPS_TABLE,
        BANDWIDTHS_TABLE,
        CLOCKS_TABLE,
        WAIT_BOUNDS_TABLE,
        ROUTING_TABLE,
        TRAFFIC_TABLE,
        LOAD_STATISTICS_TABLE,
        EXPERT_CHAIN_TABLE,
        EXCHANGES_TABLE,
        EXPERT_BLAME_TABLE,
        CULPRITS_TABLE,
        LATE_MEMBERS_TABLE,
    )
}
"""By name, in the order of the flow."""


def result_tables() -> list[str]:
    """Names of the tables that an analysis gives, a result keeps and a report offers."""
    return [name for name, table in TABLES.items() if table.in_result]
