"""`traceanalyzer analyze PATH`."""

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
    refuse_loss,
)


@click.command("analyze")
@click.argument("path")
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON; - is standard output.")
@columns_option
@rank_map_option
@choice_options
@job_options
@click.option("--strict", is_flag=True, help="Fail (status 1) if data was lost.")
def command(
    path: str,
    json_file: str | None,
    columns: Path | None,
    rank_map: Path | None,
    ranks: str | None,
    steps: str | None,
    *,
    strict: bool,
    **described: Any,  # noqa: ANN401 - options of several types
) -> None:
    """Measure the run in PATH and set it against theory: a run folder, a folder of traces, one trace or an op table."""
    from reports import text
    from traceanalyzer.analysis.assemble import analyze, read, with_declaration
    from traceanalyzer.cli.screen import screen_width
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json

    declared = declaration(**described)
    only, at = chosen_numbers("--ranks", ranks), chosen_numbers("--steps", steps)
    names = load_columns(columns)
    run = with_declaration(read(path, names, rank_map=load_rank_map(rank_map), ranks=only, steps=at), declared)
    analysis = analyze(run)
    if json_file is not None:
        write_result(json_file, to_json(analysis.review))
    if json_file != "-":
        click.echo(text(analysis.review, analysis.tables, screen_width()))
    if strict:
        refuse_loss(path, run.traces.defects)
