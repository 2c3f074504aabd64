"""`traceanalyzer table PATH NAME`."""

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
    rank_map_option,
)

if TYPE_CHECKING:
    from traceanalyzer.queries.rendering import Format
    from traceanalyzer.queries.sources import Reading


@click.command("table", cls=Command, epilog="Without NAME all tables are listed, each with what a row of it is.")
@click.argument("arguments", nargs=-1, required=True, metavar="PATH... [NAME]")
@click.option("--where", metavar="CONDITION", help='Only these rows, as in SQL: "rank == 3 and duration_ms > 2".')
@click.option("--columns", "chosen", metavar="LIST", help="Only these columns, in this order: name,rank,duration_ms.")
@click.option("--sort", metavar="LIST", help='Order of the rows: "duration_ms desc, rank".')
@click.option("--ranks", metavar="LIST", help="Only these ranks, for example 0,4-7.")
@answer_options
@column_map_option
@rank_map_option
@kernel_rules_option
def command(
    arguments: tuple[str, ...],
    where: str | None,
    chosen: str | None,
    sort: str | None,
    ranks: str | None,
    kind: Format | None,
    output: str,
    json_file: str | None,
    limit: int | None,
    rank_map: str | None,
    columns: Path | None,
    kernel_rules: str | None,
) -> None:
    """Print one table of PATH...: traces, a capture, or a result that was kept by `analyze --out`.

    Beside the columns of the table, conditions, columns and orders may name duration_ns and duration_ms. Text shows the
    first 20 rows unless --limit is given. Text cells that a spreadsheet would run as a formula get a leading ' in CSV.
    """
    from traceanalyzer.errors import UsageError
    from traceanalyzer.queries.durations import shown_columns, with_durations
    from traceanalyzer.queries.rendering import format_of
    from traceanalyzer.queries.selection import Selection, of_ranks, select
    from traceanalyzer.queries.sources import check_name, tables_at

    paths, name = (arguments, None) if len(arguments) == 1 else (arguments[:-1], arguments[-1])
    if name is None:
        given = {"--where": where, "--columns": chosen, "--sort": sort, "--ranks": ranks, "--limit": limit}
        for option in (option for option, value in given.items() if value is not None):
            raise UsageError(f"{option} needs the name of a table", "name one behind PATH")
        _list(kind, output, json_file)
        return
    check_name(name)
    names = _names(chosen)
    kind = "json" if json_file is not None else kind or format_of(output)
    declared = tables_at(one_place(paths), [name], reading(rank_map, columns, kernel_rules))[name]
    frame = with_durations(declared if ranks is None else of_ranks(declared, ranks, name))
    names = names or shown_columns(declared.columns, frame.columns, for_people=kind in ("text", "markdown"))
    if limit is None and kind == "text":
        limit = 20
    wanted = Selection(where=where, columns=tuple(names), sort=sort, limit=limit)
    write_answer(select(frame, wanted, name), kind, json_file or output)


def _names(chosen: str | None) -> list[str]:
    """Names of columns. Raises `UsageError` for an empty list, and for the file that --column-map takes."""
    from traceanalyzer.errors import UsageError

    if chosen is None:
        return []
    if chosen.endswith(".json"):
        raise UsageError(f"--columns '{chosen}' names a file", "give an op table's names with --column-map FILE")
    names = [part.strip() for part in chosen.split(",") if part.strip()]
    if not names:
        raise UsageError("--columns names no column", "write --columns name,rank,duration_ms")
    return names


def reading(rank_map: str | None, columns: Path | None, kernel_rules: str | None) -> Reading:
    """How traces are to be read. Raises `UsageError` and `InputError` where a file is none."""
    from traceanalyzer.options.kernel_rules import load_kernel_rules
    from traceanalyzer.options.reading import load_columns, load_rank_map
    from traceanalyzer.queries.sources import Reading

    return Reading(
        columns=load_columns(columns), rank_map=load_rank_map(rank_map), kernel_rules=load_kernel_rules(kernel_rules)
    )


def _list(kind: Format | None, output: str, json_file: str | None) -> None:
    """Every table by name, with what a row of it is; for programs with its columns too."""
    from traceanalyzer.output import write_result
    from traceanalyzer.queries.catalogue import catalogue_json, catalogue_lines
    from traceanalyzer.queries.rendering import format_of

    kind = "json" if json_file is not None else kind or format_of(output)
    as_json = kind in ("json", "jsonl")
    content = catalogue_json() if as_json else ("\n".join(catalogue_lines()) + "\n").encode()
    write_result(json_file or output, content)
