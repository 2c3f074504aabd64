"""`traceanalyzer report PATH -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.job import job_options
from traceanalyzer.cli.options.reading import (
    choice_options,
    columns_option,
    one_place,
    paths_argument,
    rank_map_option,
)


@click.command("report", cls=Command)
@paths_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file."
)
@columns_option
@rank_map_option
@choice_options
@job_options
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON beside it; - is standard output.")
def command(paths: tuple[str, ...], output: Path, json_file: str | None, **asked: Any) -> None:  # noqa: ANN401 - options of several types
    """Write the report of the run in PATH as one offline HTML file.

    PATH may be the folder of a sweep: the page then shows its points over theory. PATH may be a result that was kept by `analyze --out`, or a review.json alone: no trace is read again then.
    """
    from reports import render
    from traceanalyzer.cli.analyze import kept, measured
    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json

    if str(output) == "-":
        raise UsageError("-o -: the page is written to a file, not to standard output", "name a file: -o report.html")
    path = one_place(paths)
    if (table := _sweep_table(path)) is not None:
        from reports.sweep import render_sweep

        click.echo(f"report: {render_sweep(table, Path(path).resolve().name, output)}")
        return
    result = kept(path, asked) or measured(path, asked)
    if json_file is not None:
        write_result(json_file, to_json(result.review))
    written = render(result.review, result.tables, output)
    if json_file == "-":
        return
    for line in result.review.warnings:
        click.echo(f"! {line}")
    for sentence in result.review.headline.sentences:
        click.echo(sentence)
    click.echo(f"report: {written}")


def _sweep_table(path: str) -> Any:  # noqa: ANN401 - a frame; polars is imported late
    """The table of a sweep's folder; None if `path` is something else."""
    from reports.sweep import SWEEP_TABLE

    file = Path(path) / SWEEP_TABLE
    if not file.is_file():
        return None
    import polars as pl

    from traceanalyzer.errors import InputError
    from traceanalyzer.schema.sweeps import SWEEP_POINTS

    try:
        table = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            f"{file} cannot be read: {error}", "start the sweep again: it keeps points that are done"
        ) from None
    if missing := [name for name in SWEEP_POINTS if name not in table.columns]:
        raise InputError(f"{file} has no column {missing[0]}", "start the sweep again: it keeps points that are done")
    return table
