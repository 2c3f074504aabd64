"""`traceanalyzer report PATH -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from traceanalyzer.cli.options.job import declaration, job_options
from traceanalyzer.cli.options.reading import (
    choice_options,
    chosen_numbers,
    columns_option,
    load_columns,
    load_rank_map,
    rank_map_option,
)


@click.command("report")
@click.argument("path")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file."
)
@columns_option
@rank_map_option
@choice_options
@job_options
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON beside it; - is standard output.")
def command(
    path: str,
    output: Path,
    json_file: str | None,
    rank_map: Path | None,
    columns: Path | None,
    ranks: str | None,
    steps: str | None,
    **described: Any,  # noqa: ANN401 - options of several types
) -> None:
    """Write the report of the run in PATH as one offline HTML file."""
    from reports import render
    from traceanalyzer.analysis.assemble import analyze, read, with_declaration
    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json

    if str(output) == "-":
        raise UsageError("-o -: the page is written to a file, not to standard output", "name a file: -o report.html")
    declared = declaration(**described)
    only, at = chosen_numbers("--ranks", ranks), chosen_numbers("--steps", steps)
    run = read(path, load_columns(columns), rank_map=load_rank_map(rank_map), ranks=only, steps=at)
    analysis = analyze(with_declaration(run, declared))
    if json_file is not None:
        write_result(json_file, to_json(analysis.review))
    written = render(analysis.review, analysis.tables, output)
    if json_file == "-":
        return
    for line in analysis.review.warnings:
        click.echo(f"! {line}")
    for sentence in analysis.review.headline.sentences:
        click.echo(sentence)
    click.echo(f"report: {written}")
