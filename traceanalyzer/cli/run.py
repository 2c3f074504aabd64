"""`traceanalyzer run`: launch an instrumented reference training job."""

from __future__ import annotations

from pathlib import Path

import click

from instrumented_runs import host_load
from instrumented_runs.faults import parse_fault
from instrumented_runs.launch import launch
from instrumented_runs.settings import PipelineSettings, resolve_compute_mode
from traceanalyzer.schedule import parse_schedule_name


@click.command()
@click.argument("kind", type=click.Choice(["pipeline"]), default="pipeline")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/KIND]")
@click.option("--schedule", default="1F1B", show_default=True, help="Pipeline schedule.")
@click.option("--ranks", type=click.IntRange(1, 64), default=4, show_default=True, help="Processes.")
@click.option("--microbatches", type=click.IntRange(1), default=8, show_default=True)
@click.option("--steps", type=click.IntRange(1), default=5, show_default=True, help="Profiled steps.")
@click.option(
    "--compute",
    type=click.Choice(["auto", "real", "paced"]),
    default="auto",
    show_default=True,
    help="auto: real where every rank has a core or GPU of its own, else paced.",
)
@click.option(
    "--forward-ms", type=click.FloatRange(0), default=50.0, show_default=True, help="Paced: per microbatch and rank."
)
@click.option("--backward-ms", type=click.FloatRange(0), default=100.0, show_default=True, help="Paced: likewise.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--fault", "faults", multiple=True, metavar="KIND:KEY=VALUE,…", help="Plant a fault, e.g. die:rank=2,step=3."
)
def command(  # noqa: PLR0913 - one argument per option
    kind: str,
    out: Path | None,
    schedule: str,
    ranks: int,
    microbatches: int,
    steps: int,
    compute: str,
    forward_ms: float,
    backward_ms: float,
    seed: int,
    faults: tuple[str, ...],
) -> None:
    """Launch an instrumented reference training job and write its run folder."""
    for fault in faults:
        parse_fault(fault)
    mode = resolve_compute_mode(compute, ranks, len(host_load.cores()), has_cuda=False)
    settings = PipelineSettings(
        folder=str(out or Path("runs") / kind),
        num_ranks=ranks,
        num_steps=steps,
        compute_mode=mode,
        seed=seed,
        faults=faults,
        schedule=parse_schedule_name(schedule).value,
        num_microbatches=microbatches,
        forward_ms=forward_ms,
        backward_ms=backward_ms,
    )
    click.echo(f"{kind}: {ranks} ranks, {settings.schedule}, {microbatches} microbatches, compute {mode}", err=True)
    folder = launch(kind, settings, lambda text: click.echo(text, err=True))
    click.echo(folder)
