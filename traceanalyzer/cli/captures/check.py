"""`traceanalyzer check PATH`."""

from __future__ import annotations

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.reading import kernel_rules_option, one_place, paths_argument, rank_map_option
from traceanalyzer.cli.screen import say


@click.command("check", cls=Command)
@paths_argument
@rank_map_option
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    help="Write ranks, counts, defects and unmatched kernels as JSON; - is standard output.",
)
@kernel_rules_option
@click.option("--strict", is_flag=True, help="Fail (status 1) if data was lost.")
def command(
    paths: tuple[str, ...], rank_map: str | None, json_file: str | None, kernel_rules: str | None, *, strict: bool
) -> None:
    """Say what is in PATH... and what is wrong with it: ranks, every event counted, every defect named, kernels that no rule knows."""
    from msgspec import convert

    from traceanalyzer.cli.options.reading import (
        announce,
        apart_lines,
        kernel_lines,
        record_lines,
        refuse_loss,
        summary,
    )
    from traceanalyzer.cli.records import CheckRecord, EventCounts, RecordCounts, written
    from traceanalyzer.options.kernel_rules import load_kernel_rules
    from traceanalyzer.options.reading import load_rank_map
    from traceanalyzer.output import write_result
    from traceanalyzer.tables.computation.taxonomy import unmatched_kernels
    from traceanalyzer.traces.nccl.records import read_contents

    path = one_place(paths)
    traces, records = read_contents(path, load_rank_map(rank_map))
    unknown = unmatched_kernels(traces.kernel_times, load_kernel_rules(kernel_rules))
    if json_file is not None:
        result = CheckRecord(
            ranks=traces.ranks.drop("process_groups", "devices", "metadata").to_dicts(),
            counts=convert(traces.counts, EventCounts, from_attributes=True),
            defects=traces.defects.to_dicts(),
            unmatched_kernels=unknown.to_dicts(),
            records=RecordCounts(flight_recorder=records.flight.height, nccl_inspector=records.inspector.height),
        )
        write_result(json_file, written(result))
    if json_file != "-":
        lines = [
            *apart_lines(records),
            *summary(traces),
            *kernel_lines(traces.kernel_times, unknown),
            *record_lines(records),
        ]
        announce([str(path), *lines], say)
    if strict:
        refuse_loss(path, traces.defects)
