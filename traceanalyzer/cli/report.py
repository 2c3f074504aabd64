"""`traceanalyzer report PATH -o FILE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.budget import memory_option
from traceanalyzer.cli.options.job import job_options
from traceanalyzer.cli.options.reading import (
    choice_options,
    columns_option,
    not_on_a_cluster,
    one_place,
    paths_argument,
    rank_map_option,
)
from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    import polars as pl

    from traceanalyzer.review import Review


@click.command("report", cls=Command)
@paths_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.  [default: report.FORMAT]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "png", "svg"]),
    help="html: the whole report; md: the same as Markdown; png, svg: a picture of its first screen (png needs Chromium).  [default: by the file's ending, else html]",
)
@click.option(
    "--print",
    "printed",
    is_flag=True,
    help="Write the first screen as a PDF of one page too, by Chromium if there is one.",
)
@click.option(
    "--redact", metavar="CLASSES", help="Write pseudonyms: all, or a list of hosts, users, paths, kernels, annotations."
)
@columns_option
@rank_map_option
@choice_options
@job_options
@memory_option
@not_on_a_cluster
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON beside it; - is standard output.")
def command(
    paths: tuple[str, ...],
    output: Path | None,
    form: str | None,
    *,
    printed: bool,
    json_file: str | None,
    redact: str | None,
    **asked: Any,  # noqa: ANN401 - options of several types
) -> None:
    """Write the report of the run in PATH as one offline HTML file, as Markdown or as a picture.

    PATH is what `analyze` takes. A result that was kept by `analyze --out`, or its review.json, is drawn without reading traces
    again. PATH may also be the folder of a sweep: the page then shows its points over theory.
    """
    from traceanalyzer.analysis.redaction import redacted
    from traceanalyzer.cli.analyze import kept, measured
    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json
    from traceanalyzer.traces.capture.names.pseudonyms import classes_of

    if str(output) == "-":
        raise UsageError("-o -: the page is written to a file, not to standard output", "name a file: -o report.html")
    form = form or _form_of(output)
    target = output or Path(f"report.{form}")
    path, classes = one_place(paths), classes_of(redact)
    if (swept := _sweep_table(path)) is not None:
        if form != "html" or printed or classes or json_file:
            raise UsageError("the page of a sweep is HTML alone", "leave the other options out: -o sweep.html")
        from reports.sweep import render_sweep

        say(f"report: {render_sweep(swept, Path(str(path)).resolve().name, target)}")
        return
    result = redacted(kept(path, asked) or measured(path, asked), classes)
    if json_file is not None:
        write_result(json_file, to_json(result.review))
    _write(result.review, result.tables, target, form)
    if printed:
        _print(result.review, result.tables, target)
    if json_file == "-":
        return
    for line in result.review.warnings:
        say(f"! {line}")
    for sentence in result.review.headline.sentences:
        say(sentence)
    say(f"report: {target}")


_FORMS = ("html", "md", "png", "svg")
_OTHERS = ("pdf", "csv", "json", "txt", "docx", "pptx", "jpg", "jpeg", "gif", "parquet")
"""Endings that promise another kind of file."""


def _form_of(output: Path | None) -> str:
    """The form that a file's ending names. Raises `UsageError` for the ending of another kind of file."""
    from traceanalyzer.errors import UsageError

    ending = output.suffix.lstrip(".").lower() if output is not None else ""
    if ending in _OTHERS:
        hint = (
            "write -o report.html --print: it makes report.pdf too"
            if ending == "pdf"
            else "name a file: -o report.html"
        )
        raise UsageError(f"-o {output}: a report is not written as {ending.upper()}", hint)
    return ending if ending in _FORMS else "html"


def _write(review: Review, tables: Mapping[str, pl.DataFrame], target: Path, form: str) -> None:
    """Write the report in one form."""
    import reports
    from reports.charts.headless import headless
    from traceanalyzer.output import write_result

    if form == "html":
        with headless():
            reports.render(review, tables, target)
    elif form == "md":
        write_result(target, reports.full_markdown(review, tables).encode())
    elif form == "svg":
        write_result(target, reports.svg(review, tables).encode())
    else:
        _picture(review, tables, target)


def _picture(review: Review, tables: Mapping[str, pl.DataFrame], target: Path) -> None:
    from reports import first_screen
    from reports.browser import browser, write_png
    from traceanalyzer.errors import UsageError

    program = browser()
    if program is None:
        raise UsageError(
            "--format png: no Chromium, Chrome or Edge was found",
            "use --format svg, which needs none, or name one in TRACEANALYZER_CHROMIUM",
        )
    write_png(first_screen(review, tables), target, program)


def _print(review: Review, tables: Mapping[str, pl.DataFrame], beside: Path) -> None:
    """The page to print, beside the report; without a browser a line says how to print it."""
    from reports import first_screen
    from reports.browser import browser, write_pdf

    program, target = browser(), beside.with_suffix(".pdf")
    if program is None:
        say(f"no Chromium, Chrome or Edge here: open {beside} in a browser and print its first page", err=True)
        return
    write_pdf(first_screen(review, tables), target, program)
    say(f"printed: {target}", err=True)


def _sweep_table(path: object) -> Any:  # noqa: ANN401 - a frame; polars is imported late
    """The table of a sweep's folder; None if `path` is something else."""
    from reports.sweep import SWEEP_TABLE

    if not isinstance(path, str | Path):
        return None
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
