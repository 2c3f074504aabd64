"""`traceanalyzer perfetto PATH -o FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.budget import events_at_once, memory_option
from traceanalyzer.cli.options.job import job_options
from traceanalyzer.cli.options.reading import choice_options, columns_option, one_place, paths_argument, rank_map_option
from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    from traceanalyzer.perfetto.export import Format, Written
    from traceanalyzer.perfetto.source import Source
    from traceanalyzer.traces.input.discovery import Where


@click.command(
    "perfetto", cls=Command, epilog="Open FILE at https://ui.perfetto.dev; it is read in the browser and sent nowhere."
)
@paths_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="What to write; compressed if it ends in .gz.")  # fmt: skip
@click.option("--format", "kind", type=click.Choice(["perfetto", "json"]), help="Default: json if FILE ends in .json or .json.gz, else perfetto.")  # fmt: skip
@click.option(
    "--from",
    "from_ms",
    type=float,
    metavar="MS",
    help="From this moment on, in ms since the first chosen step began on a chosen rank.",
)
@click.option("--to", "to_ms", type=float, metavar="MS", help="Up to this moment.")
@click.option("--cpu", is_flag=True, help="The host's threads as well.")
@click.option("--traces", metavar="CAPTURE", help="PATH is a result: the capture that it was made of, for recorded arguments and --cpu.")  # fmt: skip
@click.option("--json", "json_file", metavar="FILE", help="Write what was written as JSON; - is standard output.")
@columns_option
@rank_map_option
@choice_options
@job_options
@memory_option
def command(
    paths: tuple[str, ...],
    output: Path,
    kind: str | None,
    from_ms: float | None,
    to_ms: float | None,
    traces: str | None,
    json_file: str | None,
    *,
    cpu: bool,
    **asked: Any,  # noqa: ANN401 - options of several types
) -> None:
    """Write all ranks of the run in PATH on one clock as one timeline for Perfetto.

    PATH is traces, a capture, or a result that was kept by `analyze --out`. All of it is measured; --ranks, --steps, --from
    and --to choose what is written.
    """
    import tempfile

    from traceanalyzer.errors import UsageError
    from traceanalyzer.options.reading import chosen_numbers
    from traceanalyzer.perfetto.export import format_of, write_timeline
    from traceanalyzer.perfetto.window import Choice

    if str(output) == "-":
        raise UsageError("-o -: a timeline is written to a file", "name a file: -o timeline.pftrace")
    ranks, steps = asked.pop("ranks"), asked.pop("steps")
    choice = Choice(chosen_numbers("--ranks", ranks), chosen_numbers("--steps", steps), from_ms, to_ms)
    form = format_of(output) if kind is None else "json" if kind == "json" else "perfetto"
    with tempfile.TemporaryDirectory(prefix="traceanalyzer-", ignore_cleanup_errors=True) as store:
        source = _source(one_place(paths), traces, asked, Path(store), cpu=cpu)
        done = write_timeline(source, choice, output, form, cpu=cpu)
    if json_file is not None:
        _tell(done, output, form, json_file)
    for note in done.notes:
        say(f"! {note}", err=True)
    if json_file != "-":
        say(
            f"{output}: {done.num_slices:,} slices and {done.num_flows:,} flows in {done.num_processes} processes, "
            f"{done.num_bytes / 1e6:,.1f} MB"
        )


def _tell(done: Written, output: Path, form: Format, json_file: str) -> None:
    from traceanalyzer.cli.records import TimelineRecord, written
    from traceanalyzer.output import write_result

    record = TimelineRecord(
        file=str(output),
        format=form,
        num_processes=done.num_processes,
        num_slices=done.num_slices,
        num_flows=done.num_flows,
        num_bytes=done.num_bytes,
        notes=list(done.notes),
    )
    write_result(json_file, written(record))


def _source(path: Where, traces: str | None, asked: dict[str, Any], store: Path, *, cpu: bool) -> Source:
    """What is at `path`, measured where it is not a result.

    `store` takes the events of large traces and the tables that are measured, until they are written.
    """
    from traceanalyzer.analysis.assemble import read, with_declaration
    from traceanalyzer.analysis.kept import is_result
    from traceanalyzer.cli.analyze import refuse_options
    from traceanalyzer.errors import UsageError
    from traceanalyzer.options.declaration import declaration
    from traceanalyzer.options.reading import load_columns, load_rank_map
    from traceanalyzer.perfetto.source import kept_source, measured_source, with_capture
    from traceanalyzer.traces.input.discovery import Paths

    if not isinstance(path, Paths) and is_result(path):
        refuse_options(path, asked)
        if cpu and traces is None:
            raise UsageError(
                f"{path}: is a result, which does not keep the host's threads",
                "add --traces CAPTURE, or give the traces",
            )
        source = kept_source(str(path))
        return source if traces is None else with_capture(source, traces)
    if traces is not None:
        raise UsageError(f"{path}: is not a result, so --traces does not apply", "leave --traces out")
    names, rank_map, memory = (
        load_columns(asked.pop("columns")),
        load_rank_map(asked.pop("rank_map")),
        asked.pop("memory"),
    )
    at_once = None if memory is None else events_at_once(memory)
    events = store / "events"
    events.mkdir()
    run = read(path, names, rank_map=rank_map, store=events, events_at_once=at_once)
    return measured_source(with_declaration(run, declaration(**asked)), store / "result")
