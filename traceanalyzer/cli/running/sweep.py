"""`traceanalyzer run --sweep`: one launch command, many runs, one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from instrumented_runs.launching.launch import launch
from instrumented_runs.settings import RunSettings
from instrumented_runs.sweep import (
    DONE,
    FAILED,
    POINTS,
    REFUSED,
    PointRecord,
    asked,
    forget,
    is_done,
    make_sweep_folder,
    parse_sweep,
    point_name,
    points,
    write_record,
)
from traceanalyzer.cli.running.points import reviewed, sweep_table, sweep_text
from traceanalyzer.cli.screen import say
from traceanalyzer.errors import JobError, TraceAnalyzerError, UsageError
from traceanalyzer.output import write_result
from traceanalyzer.queries.rendering import render

NOT_SWEPT = (
    "kind",
    "out",
    "compute",
    "order",
    "truth",
    "faults",
    "sweep",
    "force",
    "json_file",
    "timeout",
    "max_memory",
    "config",
    "assignments",
    "dry_run",
    "nnodes",
    "node_rank",
    "rendezvous",
)
"""Parameters of `run` that are the same at all points."""

Plan = Callable[[str, dict[str, Any]], tuple[RunSettings, dict[str, str]]]
"""Folder and options of a point to its settings and files; raises where there is no such job."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point that can exist."""

    values: dict[str, str]
    settings: RunSettings
    files: dict[str, str]


def sweep(kind: str, folder: Path, text: str, plan: Plan, given: Mapping[str, Any]) -> None:
    """Run every point of `text` that is not done yet, and write and print the table of all.

    Raises `UsageError` on a sweep that makes no sense, `JobError` once all points were tried if some are not done.
    """
    axes = parse_sweep(text)
    chosen = points(axes)
    options = {name: [_convert(name, value, given) for value in values] for name, values in axes.items()}
    make_sweep_folder(folder)
    planned = [_planned(folder, values, plan, _options(values, axes, options)) for values in chosen]
    figures = _kept(folder, [point for point in planned if point is not None])
    todo = [point for point in planned if point is not None and point_name(point.values) not in figures]
    _tell(f"{kind}: {len(chosen)} points, {len(todo)} to run, into {folder}")
    for point in todo:
        forget(folder, point.values)
    for number, point in enumerate(todo, 1):
        _tell(f"point {number} of {len(todo)}: {point_name(point.values)}")
        figures[point_name(point.values)] = _run(kind, folder, point)
        _write(folder, sweep_table(folder, chosen, figures))
    table = sweep_table(folder, chosen, figures)
    _write(folder, table)
    say(sweep_text(table, list(axes)))
    _tell(f"table: {folder / 'sweep.csv'}, .json, .parquet")
    missing = table.filter(table["status"] != DONE)
    if len(missing):
        first = missing.row(0, named=True)
        raise JobError(
            f"{len(missing)} of {len(table)} points are not done; {first['run']}: {first['reason']}",
            "the table keeps them with their reasons; the same command tries failed ones again",
        )


def _kept(folder: Path, planned: Sequence[Point]) -> dict[str, dict[str, Any]]:
    """Figures of the points that an earlier sweep finished and whose runs can still be analysed."""
    found: dict[str, dict[str, Any]] = {}
    for point in planned:
        if is_done(folder, point.values, asked(point.settings, point.files)):
            figures, problem = reviewed(Path(point.settings.folder))
            if problem is None:
                found[point_name(point.values)] = figures
    return found


def _planned(folder: Path, values: dict[str, str], plan: Plan, options: dict[str, Any]) -> Point | None:
    """The point; None, and its refusal on record, where it cannot exist."""
    run = folder / POINTS / point_name(values)
    try:
        settings, files = plan(str(run), options)
    except TraceAnalyzerError as error:
        write_record(folder, PointRecord(values, REFUSED, error.message, ""))
        return None
    return Point(values, settings, files)


def _run(kind: str, folder: Path, point: Point) -> dict[str, Any]:
    """Launch and analyse one point, and put on record what became of it; its figures."""
    request = asked(point.settings, point.files)
    try:
        run = launch(kind, point.settings, _tell, point.files)
    except JobError as error:
        _tell(f"failed: {error.message}")
        write_record(folder, PointRecord(point.values, FAILED, error.message, request))
        return {}
    figures, problem = reviewed(run)
    write_record(folder, PointRecord(point.values, FAILED if problem else DONE, problem, request))
    return figures


def _convert(name: str, value: str, given: Mapping[str, Any]) -> tuple[str, Any]:
    """The parameter that an option sets, and a value as click reads it. Raises `UsageError`."""
    context = click.get_current_context()
    known = {
        option.opts[0].removeprefix("--"): option
        for option in context.command.params
        if isinstance(option, click.Option) and option.name not in NOT_SWEPT
    }
    option = known.get(name)
    if option is None or not option.name:
        raise UsageError(f"--sweep cannot vary '{name}'", f"it varies {', '.join(sorted(known))}")
    if given.get(option.name) is not None:
        raise UsageError(f"--{name} is given and swept", f"leave --{name} or '{name}=' out")
    return option.name, option.type.convert(value, option, context)


def _options(
    values: Mapping[str, str], axes: Mapping[str, Sequence[str]], converted: Mapping[str, Sequence[tuple[str, Any]]]
) -> dict[str, Any]:
    return dict(converted[name][list(axes[name]).index(value)] for name, value in values.items())


def _write(folder: Path, table: Any) -> None:  # noqa: ANN401 - a frame; polars is imported late
    for kind in ("csv", "json", "parquet"):
        write_result(str(folder / f"sweep.{kind}"), render(table, kind))


def _tell(text: str) -> None:
    say(text, err=True)
