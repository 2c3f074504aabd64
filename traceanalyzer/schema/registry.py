"""Every table, once: what `table` prints, a result keeps, a report offers and the documentation lists.

A table is registered where it is declared: every `Table` of the modules below is one.
"""

from __future__ import annotations

from traceanalyzer.schema import capture, communication, computation, culprits, experts, kernel_time, pipeline
from traceanalyzer.schema.columns import Table

_MODULES = (capture, pipeline, communication, kernel_time, computation, experts, culprits)

TABLES: dict[str, Table] = {
    table.name: table for module in _MODULES for table in vars(module).values() if isinstance(table, Table)
}
"""By name, module by module in the order of the flow."""


def result_tables() -> list[str]:
    """Names of the tables that an analysis gives, a result keeps and a report offers."""
    return [name for name, table in TABLES.items() if table.in_result]
