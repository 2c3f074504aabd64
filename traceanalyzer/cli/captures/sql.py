"""`traceanalyzer sql PATH QUERY`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.answers import answer_options, write_answer
from traceanalyzer.cli.options.reading import (
    column_map_option,
    kernel_rules_option,
    one_place,
    paths_argument,
    rank_map_option,
)

if TYPE_CHECKING:
    from traceanalyzer.queries.rendering import Format


@click.command(
    "sql", cls=Command, epilog="`traceanalyzer table PATH` lists the tables; docs/tables.md has their columns."
)
@paths_argument
@click.argument("query")
@answer_options
@column_map_option
@rank_map_option
@kernel_rules_option
def command(
    paths: tuple[str, ...],
    query: str,
    kind: Format | None,
    output: str,
    json_file: str | None,
    limit: int | None,
    rank_map: str | None,
    columns: Path | None,
    kernel_rules: str | None,
) -> None:
    """Answer an SQL query over all tables of PATH...: traces, a capture, or a kept result.

    Every table with starts has duration_ns and duration_ms too. A query reads these tables and nothing else. Text
    shows the first 20 rows unless --limit is given.
    """
    from traceanalyzer.cli.captures.table import reading
    from traceanalyzer.queries.rendering import format_of
    from traceanalyzer.queries.sql import ask

    kind = "json" if json_file is not None else kind or format_of(output)
    if limit is None and kind == "text":
        limit = 20
    write_answer(
        ask(one_place(paths), query, limit, reading(rank_map, columns, kernel_rules)), kind, json_file or output
    )
