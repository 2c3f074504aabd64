"""`traceanalyzer analyze PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from traceanalyzer.cli.job_options import declaration, job_options


@click.command("analyze")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON; - is standard output.")
@click.option(
    "--columns", type=click.Path(path_type=Path), help="Op table: JSON object of our column names and the file's."
)
@job_options
@click.option("--strict", is_flag=True, help="Fail (status 1) if any event was lost.")
def command(path: Path, json_file: str | None, columns: Path | None, *, strict: bool, **described: Any) -> None:  # noqa: ANN401 - options of several types
    """Measure the run in PATH and set it against theory: a run folder, a folder of traces, one trace or an op table."""
    from traceanalyzer.cli.output import write_bytes
    from traceanalyzer.cli.text import review_text
    from traceanalyzer.errors import GateError
    from traceanalyzer.gaps.analysis import analyze, read, with_declaration
    from traceanalyzer.gaps.review import to_builtins, to_json
    from traceanalyzer.traces.op_table import load_column_map

    declared = declaration(**described)
    run = with_declaration(read(path, load_column_map(columns) if columns else None), declared)
    review = analyze(run).review
    if json_file is not None:
        write_bytes(json_file, to_json(review))
    if json_file != "-":
        click.echo(review_text(to_builtins(review)))
    lost = sum(review.quality.events_dropped.values())
    if strict and lost:
        raise GateError(f"{path}: {lost} events were lost", "leave --strict out to accept the loss that is stated")
