"""`traceanalyzer run`: launch an instrumented reference training job."""

from __future__ import annotations

import dataclasses
from itertools import count
from pathlib import Path
from typing import Any

import click

from instrumented_runs.launch import LOG_FILE, launch, num_cuda_devices
from instrumented_runs.pacing.faults import check_faults, write_truth
from instrumented_runs.recorder import host_load
from instrumented_runs.settings import (
    ORDER_FILE,
    SETTINGS,
    PipelineSettings,
    RunSettings,
    resolve_compute_mode,
)
from traceanalyzer.cli.options.experts import expert_options
from traceanalyzer.cli.screen import say
from traceanalyzer.errors import UsageError
from traceanalyzer.job import RUN_FILE
from traceanalyzer.theory.schedules.known import parse_schedule_name


@click.command()
@click.argument("kind", type=click.Choice(list(SETTINGS)), default="pipeline")
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
    default="auto",
    show_default=True,
    help="auto: real if every rank has a core or GPU of its own, else paced.",
)
@click.option("--seed", type=int, help="Of weights, data and routing.  [default: 0]")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="Plant a fault, e.g. die:rank=2,step=3.")
@click.option(
    "--truth", type=click.Path(path_type=Path), help="Where to record the planted faults.  [default: OUT.truth.json]"
)
@click.option("--schedule", help="pipeline: the schedule.  [default: 1F1B]")
@click.option("--microbatches", "num_microbatches", type=click.IntRange(1), help="pipeline: per step.  [default: 8]")
@click.option(
    "--chunks", "num_chunks", type=click.IntRange(1), help="pipeline: stages per rank.  [default: the fewest]"
)
@click.option("--stages", "num_stages", type=click.IntRange(1), help="pipeline: of one pipeline, instead of --ranks.")
@click.option(
    "--replicas", "num_replicas", type=click.IntRange(1, 64), help="pipeline: data-parallel pipelines.  [default: 1]"
)
@click.option("--order", type=click.Path(path_type=Path), help="pipeline: a CSV order instead of --schedule.")
@click.option("--forward-ms", type=click.FloatRange(0), help="pipeline, paced: per microbatch and rank.  [default: 50]")
@click.option("--backward-ms", type=click.FloatRange(0), help="pipeline, paced: likewise.  [default: 100]")
@expert_options
@click.option("--json", "json_file", metavar="FILE", help="Write what was run as JSON; - is standard output.")
@click.option("--force", is_flag=True, help="Replace the run that is in --out.")
@click.option("--sweep", metavar="SWEEP", help="All combinations, e.g. schedule=GPipe,1F1B,microbatches=4,8,16.")
def command(
    kind: str,
    out: Path | None,
    compute: str,
    order: Path | None,
    truth: Path | None,
    sweep: str | None,
    json_file: str | None,
    *,
    force: bool,
    **options: Any,  # noqa: ANN401 - click's values
) -> None:
    """Launch an instrumented reference training job and write its run folder."""
    if sweep is not None:
        if json_file is not None:
            raise UsageError("--json describes one run, not a sweep", "a sweep writes sweep.json into its folder")
        _sweep(kind, out or Path("runs") / f"{kind}-sweep", compute, order, truth, sweep, options)
        return
    settings, files = make_settings(kind, str(_folder(out, kind, force=force)), compute, order, options)
    say(f"{kind}: {settings.num_ranks} ranks, compute {settings.compute_mode}", err=True)
    if settings.faults:
        folder = Path(settings.folder)
        write_truth(truth or folder.with_name(f"{folder.name}.truth.json"), folder, settings.faults)
    done = launch(kind, settings, lambda text: say(text, err=True), files)
    if json_file is not None:
        _write(json_file, kind, done, settings)
    if json_file != "-":
        say(done)


def _folder(out: Path | None, kind: str, *, force: bool) -> Path:
    """The folder of a run: as given, else the first of runs/KIND, runs/KIND-2, ... that holds none. Raises `UsageError`."""
    if out is None:
        first = Path("runs") / kind
        later = (first.with_name(f"{kind}-{number}") for number in count(2))
        return first if force or not _holds_run(first) else next(each for each in later if not _holds_run(each))
    if _holds_run(out) and not force:
        raise UsageError(f"{out}: holds an earlier run", "give another --out, or --force to replace it")
    return out


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (RUN_FILE, LOG_FILE))


def _write(target: str, kind: str, folder: Path, settings: RunSettings) -> None:
    from msgspec import convert, to_builtins

    from traceanalyzer.cli.records import RunRecord, written
    from traceanalyzer.output import write_result

    asked = {"kind": kind, "folder": str(folder), "settings": to_builtins(settings)}
    sizes = {"num_ranks": settings.num_ranks, "compute_mode": settings.compute_mode}
    write_result(target, written(convert(asked | sizes, RunRecord)))


def _sweep(
    kind: str,
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
        return make_settings(kind, run, compute, order, {**options, **swept})

    if options["faults"]:
        write_truth(truth or folder.with_name(f"{folder.name}.truth.json"), folder, options["faults"])
    sweep(kind, folder, text, plan, options)


def make_settings(
    kind: str, folder: str, compute: str, order: Path | None, options: dict[str, Any]
) -> tuple[RunSettings, dict[str, str]]:
    """The job's settings from the options that were given, and the files it needs in its folder.

    Raises `UsageError` on an option that means nothing to the job, `DomainError` on a point where the schedule does
    not exist, `InputError` on an unusable order.
    """
    settings_type = SETTINGS[kind]
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    _check_options(kind, given, order)
    if "schedule" in given:
        given["schedule"] = parse_schedule_name(given["schedule"])
    num_stages = given.pop("num_stages", None)
    if "num_replicas" in given and "num_ranks" not in given:
        given["num_ranks"] = settings_type(folder=folder).num_ranks * given["num_replicas"]
    settings, files = settings_type(folder=folder, **given), dict[str, str]()
    if isinstance(settings, PipelineSettings):
        from instrumented_runs.pipeline.plan import plan_named, plan_order

        settings, text = plan_order(settings, order) if order else plan_named(settings, num_stages)
        files = {ORDER_FILE: text} if text is not None else {}
    mode = resolve_compute_mode(kind, compute, settings.num_ranks, len(host_load.cores()), num_cuda_devices())
    check_faults(settings.faults, kind, mode, settings.num_ranks)
    return dataclasses.replace(settings, compute_mode=mode), files


def _check_options(kind: str, given: dict[str, Any], order: Path | None) -> None:
    known = {field.name for field in dataclasses.fields(SETTINGS[kind])}
    known |= {"num_stages"} if kind == "pipeline" else set()
    if {"num_stages", "num_ranks"} <= given.keys():
        raise UsageError("--stages and --ranks both say how many ranks there are", "leave one of them out")
    meaningless = sorted(given.keys() - known) + (["order"] if order and kind != "pipeline" else [])
    for name in meaningless:
        raise UsageError(f"{_option(name)} does not apply to a job of kind '{kind}'", "see traceanalyzer run --help")
    fixed = (
        given.keys() & {"schedule", "num_ranks", "num_stages", "num_microbatches", "num_chunks"}
        if order
        else set[str]()
    )
    for name in sorted(fixed):
        raise UsageError(f"--order already determines {_option(name)}", f"leave {_option(name)} out")


def _option(name: str) -> str:
    return "--" + name.removeprefix("num_").removesuffix("_size").replace("_", "-")
