"""`traceanalyzer run`: launch an instrumented reference training job."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import click

from instrumented_runs.kinds import SETTINGS
from instrumented_runs.launching.launch import holds_run, launch, num_cuda_devices
from instrumented_runs.launching.nodes import Nodes
from instrumented_runs.pacing.faults import write_truth
from instrumented_runs.presets import PRESETS
from instrumented_runs.requests import Request, make_request
from instrumented_runs.settings import RunSettings
from instrumented_runs.settle import settle
from traceanalyzer.cli.manners.help import Command
from traceanalyzer.cli.options.experts import expert_options
from traceanalyzer.cli.options.launching import launch_options
from traceanalyzer.cli.screen import say
from traceanalyzer.errors import UsageError


@click.command("run", cls=Command)
@click.argument("kind", metavar="[KIND|PRESET]", type=click.Choice([*SETTINGS, *PRESETS]), required=False)
@launch_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run.  [default: runs/KIND, or the next free runs/KIND-N]",
)
@click.option("--ranks", "num_ranks", type=click.IntRange(1, 64), help="Processes.  [default: 4; dense: 1]")
@click.option("--steps", "num_steps", type=click.IntRange(1), help="Profiled steps.  [default: 5]")
@click.option(
    "--compute",
    type=click.Choice(["auto", "real", "paced"]),
    help="auto: real if every rank has a core or GPU of its own, else paced.  [default: auto]",
)
@click.option("--seed", type=int, help="Seed of weights, data and routing.  [default: 0]")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="Plant a fault, e.g. die:rank=2,step=3.")
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Where to record the planted faults.  [default: OUT.truth.json]"
)
@click.option("--schedule", help="Schedule by name.  [default: 1F1B]")
@click.option(
    "--microbatches", "num_microbatches", type=click.IntRange(1), help="Microbatches of a step.  [default: 8]"
)
@click.option("--chunks", "num_chunks", type=click.IntRange(1), help="Stages per rank.  [default: the fewest]")
@click.option("--stages", "num_stages", type=click.IntRange(1), help="Stages of one pipeline, instead of --ranks.")
@click.option("--replicas", "num_replicas", type=click.IntRange(1, 64), help="Data-parallel pipelines.  [default: 1]")
@click.option("--order", type=click.Path(path_type=Path), help="An order as CSV, instead of --schedule.")
@click.option("--forward-ms", type=click.FloatRange(0), help="Paced: forward of a microbatch on a rank.  [default: 50]")
@click.option("--backward-ms", type=click.FloatRange(0), help="Paced: backward, likewise.  [default: 100]")
@expert_options
@click.option("--json", "json_file", metavar="FILE", help="Write what was run as JSON; - is standard output.")
@click.option("--force", is_flag=True, help="Replace the run that is in --out.")
@click.option("--sweep", metavar="SWEEP", help="All combinations, e.g. schedule=GPipe,1F1B,microbatches=4,8,16.")
def command(
    kind: str | None,
    out: Path | None,
    compute: str | None,
    order: Path | None,
    truth: Path | None,
    sweep: str | None,
    json_file: str | None,
    config: Path | None,
    assignments: tuple[str, ...],
    nnodes: int,
    node_rank: int,
    rendezvous: str | None,
    *,
    force: bool,
    dry_run: bool,
    **options: Any,  # noqa: ANN401 - click's values
) -> None:
    """Launch an instrumented reference training job and write its run folder.

    KIND is pipeline (default), experts, dense or mix; a PRESET is a mix with settings, such as llama-3-8b-like. Settings come from the preset, then --config, --set, and options.
    """
    request = make_request(kind, config, assignments)
    mode = compute or request.compute or "auto"
    asked = {**request.values, **{name: value for name, value in options.items() if value is not None and value != ()}}
    if sweep is not None:
        _check_sweep(json_file, nnodes, dry_run=dry_run)
        folder = out or Path("runs") / f"{request.kind}-sweep"
        _sweep(request, folder, mode, order, truth, sweep, options)
        return
    nodes = Nodes.of(nnodes, node_rank, rendezvous)
    folder = nodes.folder(_folder(out, request.kind, nodes, force=force or dry_run))
    settings, files = settle(request.kind, str(folder), mode, order, asked)
    if nodes.count > 1:
        settings, files = settle(request.kind, str(folder), mode, order, asked, nodes.ranks_here(settings.num_ranks))
    if dry_run:
        from traceanalyzer.cli.running.dry_run import dry_run_text

        say(dry_run_text(request.kind, settings, files, nodes))
        return
    if not num_cuda_devices():
        from traceanalyzer.cli.running.room import check_room

        check_room(settings, nodes)
    say(f"{request.kind}: {settings.num_ranks} ranks, compute {settings.compute_mode}", err=True)
    if settings.faults and nodes.rank == 0:
        write_truth(truth or folder.with_name(f"{folder.name}.truth.json"), folder, settings.faults)
    done = launch(request.kind, settings, lambda text: say(text, err=True), files, nodes)
    if json_file is not None:
        _write(json_file, request.kind, done, settings)
    if json_file != "-":
        say(done)


def _check_sweep(json_file: str | None, nnodes: int, *, dry_run: bool) -> None:
    if json_file is not None:
        raise UsageError("--json describes one run, not a sweep", "a sweep writes sweep.json into its folder")
    if dry_run or nnodes > 1:
        raise UsageError("a sweep runs its points on one node", "leave --dry-run and --nnodes out")


def _folder(out: Path | None, kind: str, nodes: Nodes, *, force: bool) -> Path:
    """The folder of a run: as given, else the first of runs/KIND, runs/KIND-2, ... that holds none. Raises `UsageError`."""
    if out is None:
        first = Path("runs") / kind
        later = (first.with_name(f"{kind}-{number}") for number in count(2))
        if nodes.count > 1:
            raise UsageError("nodes have to agree on a folder", "give --out, the same on all nodes")
        return first if force or not holds_run(first) else next(each for each in later if not holds_run(each))
    for folder in {out, nodes.folder(out)}:
        if holds_run(folder) and not force:
            raise UsageError(f"{folder}: holds an earlier run", "give another --out, or --force to replace it")
    return out


def _write(target: str, kind: str, folder: Path, settings: RunSettings) -> None:
    from msgspec import convert, to_builtins

    from traceanalyzer.cli.records import RunRecord, written
    from traceanalyzer.output import write_result

    asked = {"kind": kind, "folder": str(folder), "settings": to_builtins(settings)}
    sizes = {"num_ranks": settings.num_ranks, "compute_mode": settings.compute_mode}
    write_result(target, written(convert(asked | sizes, RunRecord)))


def _sweep(
    request: Request,
    folder: Path,
    compute: str,
    order: Path | None,
    truth: Path | None,
    text: str,
    options: dict[str, Any],
) -> None:
    """Launch the same job at every point of a sweep."""
    from traceanalyzer.cli.running.sweep import sweep

    def plan(run: str, swept: dict[str, Any]) -> tuple[RunSettings, dict[str, str]]:
        given = {name: value for name, value in options.items() if value is not None and value != ()}
        return settle(request.kind, run, compute, order, {**request.values, **given, **swept})

    if options["faults"]:
        write_truth(truth or folder.with_name(f"{folder.name}.truth.json"), folder, options["faults"])
    sweep(request.kind, folder, text, plan, options)
