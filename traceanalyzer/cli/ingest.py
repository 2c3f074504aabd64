"""`traceanalyzer ingest PATH... --out CAPTURE`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from traceanalyzer.cli.options.reading import rank_map_option


@click.command("ingest")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="The capture: a new folder, or one to extend."
)
@rank_map_option
@click.option("--workers", type=click.IntRange(1, 1024), help="Processes; by default as cores and memory allow.")
@click.option("--memory", type=click.IntRange(300, 1 << 20), metavar="MB", help="Memory of one process; default 1000.")
@click.option("--strict", is_flag=True, help="Fail (status 1) if data was lost.")
def command(
    paths: tuple[str, ...], out: Path, rank_map: str | None, workers: int | None, memory: int | None, *, strict: bool
) -> None:
    """Read the traces at PATH... once and keep them as a capture: Parquet by rank with a manifest.

    Sources that the capture already holds are not read again: a stopped ingest resumes, new files extend it.
    """
    from traceanalyzer.cli.options.reading import Meter, announce, load_rank_map, refuse_loss, summary
    from traceanalyzer.traces import Limits, summarize
    from traceanalyzer.traces.capture.ingest import ingest
    from traceanalyzer.traces.nccl.records import num_record_files

    signal.signal(signal.SIGTERM, _terminate)
    limits = Limits() if memory is None else Limits.for_memory(memory << 20)
    result = ingest(
        paths, out, rank_map=load_rank_map(rank_map), limits=limits, num_workers=workers, progress=Meter("read")
    )
    traces = summarize(out, limits=limits, verify=False)
    announce([f"{out}: {result.num_read} files read, {result.num_unchanged} unchanged", *summary(traces)], click.echo)
    left_out = num_record_files(paths)
    if left_out:
        click.echo(
            f"{left_out} flight-recorder or NCCL Inspector files are not in the capture: analyze them where they are"
        )
    if strict:
        refuse_loss(out, traces.defects)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """Leave through the usual clean-up, with the status that shells expect of SIGTERM."""
    sys.exit(143)
