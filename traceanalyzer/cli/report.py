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
from traceanalyzer.cli.screen import say


@click.command("report", cls=Command)
@paths_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="HTML file."
)
@click.option(
    "--redact", metavar="CLASSES", help="Write pseudonyms: all, or a list of hosts, users, paths, kernels, annotations."
)
@columns_option
@rank_map_option
@choice_options
@job_options
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON beside it; - is standard output.")
def command(paths: tuple[str, ...], output: Path, json_file: str | None, redact: str | None, **asked: Any) -> None:  # noqa: ANN401 - options of several types
    """Write the report of the run in PATH as one offline HTML file.

    PATH may be a result that was kept by `analyze --out`, or a review.json alone: no trace is read again then.
    """
    from reports import render
    from traceanalyzer.analysis.redaction import classes_of, redacted
    from traceanalyzer.cli.analyze import kept, measured
    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json

    if str(output) == "-":
        raise UsageError("-o -: the page is written to a file, not to standard output", "name a file: -o report.html")
    path, classes = one_place(paths), classes_of(redact)
    result = redacted(kept(path, asked) or measured(path, asked), classes)
    if json_file is not None:
        write_result(json_file, to_json(result.review))
    written = render(result.review, result.tables, output)
    if json_file == "-":
        return
    for line in result.review.warnings:
        say(f"! {line}")
    for sentence in result.review.headline.sentences:
        say(sentence)
    say(f"report: {written}")
