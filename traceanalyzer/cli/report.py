"""`traceanalyzer report PATH -o FILE`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("report")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON beside it.")
def command(path: Path, output: Path, json_file: str | None) -> None:
    """Write the report of the run in PATH as one offline HTML file."""
    from reports import render
    from traceanalyzer.cli.output import write_bytes
    from traceanalyzer.gaps.analysis import analyze, read
    from traceanalyzer.gaps.review import to_builtins, to_json

    analysis = analyze(read(path))
    if json_file is not None:
        write_bytes(json_file, to_json(analysis.review))
    written = render(to_builtins(analysis.review), analysis.tables, output)
    for line in analysis.review.warnings:
        click.echo(f"! {line}")
    for sentence in analysis.review.headline.sentences:
        click.echo(sentence)
    click.echo(f"report: {written}")
