"""`traceanalyzer analyze PATH`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.budget import events_kept, memory_option
from traceanalyzer.cli.options.gate import GateFiles, gate_options, judge
from traceanalyzer.cli.options.job import job_options
from traceanalyzer.cli.options.reading import (
    Meter,
    announce,
    choice_options,
    columns_option,
    not_on_a_cluster,
    one_place,
    paths_argument,
    rank_map_option,
    refuse_lost,
)
from traceanalyzer.cli.screen import say, screen_width

if TYPE_CHECKING:
    from traceanalyzer.analysis.kept import Kept
    from traceanalyzer.traces.input.discovery import Where


@click.command("analyze", cls=Command)
@paths_argument
@click.option("--json", "json_file", metavar="FILE", help="Write the review as JSON; - is standard output.")
@click.option("--out", metavar="RESULT", help="Keep the result: a new folder for review.json and all tables.")
@click.option("--full", is_flag=True, help="Print every section, not one screen.")
@click.option(
    "--redact", metavar="CLASSES", help="Write pseudonyms: all, or a list of hosts, users, paths, kernels, annotations."
)
@gate_options
@columns_option
@rank_map_option
@choice_options
@job_options
@memory_option
@not_on_a_cluster
@click.option("--strict", is_flag=True, help="Fail (status 1) if data was lost.")
def command(
    paths: tuple[str, ...],
    json_file: str | None,
    out: str | None,
    redact: str | None,
    gate_file: Path | None,
    junit_file: str | None,
    gate_json: str | None,
    form: str,
    *,
    full: bool,
    strict: bool,
    **asked: Any,  # noqa: ANN401 - options of several types
) -> None:
    """Measure the run in PATH and compare it with theory.

    PATH is a run folder, a folder of traces, one trace, a capture or an op table. Several paths are one run. A result that was
    kept with --out, or its review.json, is printed again without reading traces.
    """
    from traceanalyzer.analysis.kept import keep_result
    from traceanalyzer.analysis.redaction import redacted
    from traceanalyzer.errors import UsageError
    from traceanalyzer.output import write_result
    from traceanalyzer.review import to_json
    from traceanalyzer.traces.capture.names.pseudonyms import classes_of

    files = GateFiles(gate_file, junit_file, gate_json)
    quiet = files.quiet(json_file)
    files.check(has_base=False)
    path, classes = one_place(paths), classes_of(redact)
    result = kept(path, asked)
    if result is not None and out is not None and not classes:
        raise UsageError(f"{path}: is already a kept result", "leave --out out, or give the traces")
    if result is None:
        result = measured(path, asked)
    result = redacted(result, classes)
    review = result.review
    if out is not None:
        keep_result(review, result.tables, out)
    if json_file is not None:
        write_result(json_file, to_json(review))
    if not quiet:
        _print(result, form, full=full)
    judge(files, [(str(path), review)], None, None, form, quiet=quiet)
    if strict:
        refuse_lost(path, review.quality.defects)


def _print(result: Kept, form: str, *, full: bool) -> None:
    from reports import summary_markdown, text
    from traceanalyzer.cli.manners.color import emphasized

    if form == "md":
        say(summary_markdown(result.review, result.tables), end="")
    elif form == "text":
        say(text(result.review, result.tables, screen_width(), one_screen=not full), style=emphasized)
    else:
        for sentence in result.review.headline.sentences:
            announce([sentence], say)


def kept(path: Where, asked: dict[str, Any]) -> Kept | None:
    """The result at `path`; None if that is not a result. Raises `UsageError` if options ask for another one."""
    from traceanalyzer.analysis.kept import is_result, read_result
    from traceanalyzer.traces.input.discovery import Paths

    if isinstance(path, Paths) or not is_result(path):
        return None
    refuse_options(path, asked)
    return read_result(path)


def refuse_options(path: Where, asked: dict[str, Any]) -> None:
    """Raise `UsageError` if an option was given that cannot change a result."""
    from traceanalyzer.errors import UsageError

    given = [name for name, value in asked.items() if value is not None]
    if given:
        option = "--job" if given[0] == "job_file" else f"--{given[0].replace('_', '-')}"
        raise UsageError(
            f"{path}: is a result, which {option} cannot change", "leave the option out, or give the traces"
        )


def measured(path: Where, asked: dict[str, Any]) -> Kept:
    """Read and measure what is at `path`, as the options `asked`."""
    from traceanalyzer.analysis.assemble import analyze, read, with_declaration
    from traceanalyzer.analysis.kept import Kept
    from traceanalyzer.options.declaration import declaration
    from traceanalyzer.options.reading import chosen_numbers, load_columns, load_rank_map

    reading = {name: asked.get(name) for name in ("columns", "rank_map", "ranks", "steps", "memory")}
    declared = declaration(**{name: value for name, value in asked.items() if name not in reading})
    only, at = chosen_numbers("--ranks", reading["ranks"]), chosen_numbers("--steps", reading["steps"])
    names, rank_map = load_columns(reading["columns"]), load_rank_map(reading["rank_map"])
    meter = Meter("read")
    with events_kept(reading["memory"]) as (store, at_once):
        run = read(
            path, names, rank_map=rank_map, ranks=only, steps=at, progress=meter, store=store, events_at_once=at_once
        )
        meter.next(f"measuring {run.traces.num_events:,} events")
        analysis = analyze(with_declaration(run, declared))
    meter.done()
    return Kept(analysis.review, analysis.tables)
