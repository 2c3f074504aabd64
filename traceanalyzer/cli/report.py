"""`traceanalyzer report PATH -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from traceanalyzer.cli.job_options import declaration, job_options


@click.command("report")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file."
)
@job_options
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON beside it.")
def command(path: Path, output: Path, json_file: str | None, **described: Any) -> None:  # noqa: ANN401 - options of several types
    """Write the report of the run in PATH as one offline HTML file."""
    from reports import render
    from traceanalyzer.cli.output import write_bytes
    from traceanalyzer.gaps.analysis import analyze, read, with_declaration
    from traceanalyzer.gaps.review import to_builtins, to_json

    declared = declaration(**described)
    analysis = analyze(with_declaration(read(path), declared))
    if json_file is not None:
        write_bytes(json_file, to_json(analysis.review))
    written = render(to_builtins(analysis.review), analysis.tables, output)
    for line in analysis.review.warnings:
        click.echo(f"! {line}")
    for sentence in analysis.review.headline.sentences:
        click.echo(sentence)
    click.echo(f"report: {written}")
