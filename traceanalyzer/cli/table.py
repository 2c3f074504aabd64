"""`traceanalyzer table PATH NAME`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from traceanalyzer.cli.options.kernel_rules import kernel_rules_option, load_kernel_rules
from traceanalyzer.cli.options.reading import (
    columns_option,
    load_columns,
    load_rank_map,
    number_ranges,
    one_place,
    rank_map_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from traceanalyzer.traces.input.discovery import Where


@click.command("table", epilog="Without NAME all tables are listed, each with what a row of it is.")
@click.argument("arguments", nargs=-1, required=True, metavar="PATH... [NAME]")
@click.option(
    "--format", "kind", type=click.Choice(["text", "csv", "json", "parquet"]), help="Default: text, or as -o ends."
)
@click.option("-o", "--output", default="-", metavar="FILE", help="Where to write; - is standard output.")
@click.option("--ranks", metavar="LIST", help="Only these ranks, for example 0,4-7.")
@click.option("--head", type=click.IntRange(0), metavar="N", help="Only the first N rows (text: 20 by default).")
@columns_option
@rank_map_option
@kernel_rules_option
def command(
    arguments: tuple[str, ...],
    kind: str | None,
    output: str,
    ranks: str | None,
    head: int | None,
    rank_map: str | None,
    columns: Path | None,
    kernel_rules: str | None,
) -> None:
    """Print one table of PATH: traces, or a result that was kept by `analyze --out`.

    Text cells that a spreadsheet would run as a formula get a leading ' in CSV.
    """
    import polars as pl

    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result

    paths, name = _named(arguments)
    if name is None:
        click.echo("\n".join(_listed()))
        return
    ranges = None if ranks is None else number_ranges("--ranks", ranks)
    frame = _table(one_place(paths), name, rank_map, columns, kernel_rules)
    if ranges is not None:
        if "rank" not in frame.columns:
            raise UsageError(f"the table {name} has no rank to choose by", "leave --ranks out")
        chosen = [pl.col("rank").is_between(first, last) for first, last in ranges]
        frame = frame.filter(pl.any_horizontal(chosen))
    kind = kind or _kind_of(output)
    if head is not None or kind == "text":
        frame = frame.head(20 if head is None else head)
    write_result(output, render(frame, kind))


def _named(arguments: Sequence[str]) -> tuple[Sequence[str], str | None]:
    """Paths, and the name that follows them; None for a lone path. Raises `UsageError` if no table has the name."""
    from traceanalyzer.errors import UsageError
    from traceanalyzer.schema import TABLES

    if len(arguments) == 1:
        return arguments, None
    *paths, name = arguments
    if name not in TABLES:
        raise UsageError(f"there is no table {name}", f"NAME is one of {', '.join(TABLES)}")
    return paths, name


def _listed() -> list[str]:
    """Every table by name, with what a row of it is."""
    from traceanalyzer.schema import TABLES

    width = max(map(len, TABLES))
    return [f"{name:<{width}}  {table.meaning}" for name, table in TABLES.items()]


def _table(
    path: Where, name: str, rank_map: str | None, columns: Path | None, kernel_rules: str | None
) -> pl.DataFrame:
    from traceanalyzer.analysis.kept import is_result, read_table, result_folder
    from traceanalyzer.errors import UsageError
    from traceanalyzer.schema import TABLES
    from traceanalyzer.traces import read_traces
    from traceanalyzer.traces.input.discovery import Paths

    if not isinstance(path, Paths) and is_result(path):
        given = {"--rank-map": rank_map, "--columns": columns, "--kernel-rules": kernel_rules}
        for option in (name for name, value in given.items() if value is not None):
            raise UsageError(
                f"{path}: is a result, which {option} cannot change", "leave the option out, or give the traces"
            )
        folder = result_folder(path)
        if folder is None:
            raise UsageError(f"{path}: is a review without tables", "give the folder of a result, or the traces")
        return read_table(folder, name)
    if TABLES[name].origin != "traces":
        from traceanalyzer.analysis.assemble import analyze, read, with_declaration
        from traceanalyzer.gaps.efficiency.declaration import Declaration

        rules = Declaration(kernel_rules=load_kernel_rules(kernel_rules))
        run = read(path, load_columns(columns), rank_map=load_rank_map(rank_map))
        return analyze(with_declaration(run, rules)).tables[name]
    traces = read_traces(path, rank_map=load_rank_map(rank_map))
    return {"events": traces.events, "ranks": traces.ranks, "defects": traces.defects}[name]


def _kind_of(output: str) -> str:
    return {".csv": "csv", ".json": "json", ".parquet": "parquet"}.get(Path(output).suffix.lower(), "text")


def render(frame: pl.DataFrame, kind: str) -> bytes:
    """A table as text, CSV, JSON or Parquet."""
    import polars as pl

    from traceanalyzer.output import csv_text, flat

    if kind == "parquet":
        buffer = io.BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    if kind == "json":
        words = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Categorical | pl.Enum)]
        return frame.with_columns(pl.col(words).cast(pl.String)).write_json().encode() + b"\n"
    if kind == "csv":
        return csv_text(frame).encode()
    printable = pl.col(pl.String).str.replace_all(r"[\pC\s]+", " ").str.slice(0, 60)
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=400, fmt_str_lengths=60, tbl_formatting="NOTHING",
        tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True, tbl_cell_alignment="LEFT",
    ):  # fmt: skip
        return (str(flat(frame).with_columns(printable)) + "\n").encode()
