"""`traceanalyzer ingest PATH... --out CAPTURE`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.reading import rank_map_option
from traceanalyzer.cli.screen import say

if TYPE_CHECKING:
    from traceanalyzer.traces import Summary
    from traceanalyzer.traces.capture.ingest import Ingested


@click.command("ingest", cls=Command)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The capture: a new folder, or one to extend."
)
@rank_map_option
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes; by default as cores and memory allow.")
@click.option(
    "--cluster", metavar="URL", help="Read on a Dask cluster: the address of its scheduler, as tcp://HOST:8786."
)
@click.option("--memory", type=click.IntRange(300, 1 << 20), metavar="MB", help="Memory of one process; default 1000.")
@click.option(
    "--redact",
    metavar="CLASSES",
    help="Write pseudonyms in place of names: all, or a list of hosts, users, paths, kernels, annotations.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write what was done as JSON; - is standard output.")
@click.option("--strict", is_flag=True, help="Fail (status 1) if data was lost.")
def command(
    paths: tuple[str, ...],
    out: Path,
    rank_map: str | None,
    workers: int | None,
    cluster: str | None,
    memory: int | None,
    redact: str | None,
    json_file: str | None,
    *,
    strict: bool,
) -> None:
    """Read the traces at PATH... once and keep them as a capture: Parquet by rank with a manifest.

    Sources that the capture already holds are not read again: a stopped ingest resumes, new files extend it.
    Captures that the ranks of a run left in RUN/captures become one by: ingest RUN --out RUN. No data moves.
    """
    from traceanalyzer.cli.options.reading import Meter, announce, refuse_loss, summary
    from traceanalyzer.options.reading import load_rank_map
    from traceanalyzer.traces import Limits, summarize
    from traceanalyzer.traces.capture.ingest import ingest
    from traceanalyzer.traces.capture.many.merge import merge, own_captures
    from traceanalyzer.traces.capture.names.pseudonyms import classes_of
    from traceanalyzer.traces.nccl.records import num_record_files

    signal.signal(signal.SIGTERM, _terminate)
    if paths == (str(out),) and own_captures(out):
        merge(out)
        announce([f"{out}: the captures of its ranks are one", *summary(summarize(out, verify=False))], say)
        return
    limits = Limits() if memory is None else Limits.for_memory(memory << 20)
    result = ingest(
        paths,
        out,
        rank_map=load_rank_map(rank_map),
        limits=limits,
        num_workers=workers,
        cluster=cluster,
        progress=Meter("read"),
        redact=classes_of(redact),
    )
    traces = summarize(out, limits=limits, verify=False)
    left_out = num_record_files(paths)
    if json_file is not None:
        _write(json_file, str(out), result, traces, left_out)
    if json_file != "-":
        announce([f"{out}: {result.num_read} files read, {result.num_unchanged} unchanged", *summary(traces)], say)
        if left_out:
            say(
                f"{left_out} flight-recorder or NCCL Inspector files are not in the capture: analyze them where they are"
            )
    if strict:
        refuse_loss(out, traces.defects)


def _write(target: str, out: str, result: Ingested, traces: Summary, left_out: int) -> None:
    from msgspec import convert

    from traceanalyzer.cli.records import EventCounts, IngestRecord, written
    from traceanalyzer.output import write_result

    record = IngestRecord(
        capture=out,
        num_files_read=result.num_read,
        num_files_unchanged=result.num_unchanged,
        num_files_left_out=left_out,
        ranks=sorted(set(traces.ranks["rank"].to_list())),
        counts=convert(traces.counts, EventCounts, from_attributes=True),
        defects=traces.defects.to_dicts(),
    )
    write_result(target, written(record))


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave through the usual clean-up, with the status that shells expect of SIGTERM."""
    sys.exit(143)
