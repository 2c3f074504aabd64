"""From what was asked for to what every rank gets: settings, and the files that a job needs in its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from instrumented_runs.kinds import SETTINGS
from instrumented_runs.launch import num_cuda_devices
from instrumented_runs.mixes.settings import TORCH_ORDERS, MixSettings
from instrumented_runs.pacing.faults import check_faults
from instrumented_runs.recorder import host_load
from instrumented_runs.settings import ORDER_FILE, PipelineSettings, RunSettings, resolve_compute_mode
from traceanalyzer.errors import UsageError
from traceanalyzer.theory.schedules.known import parse_schedule_name


def settle(
    kind: str, folder: str, compute: str, order: Path | None, options: dict[str, Any], ranks_here: int | None = None
) -> tuple[RunSettings, dict[str, str]]:
    """The job's settings from the values that were given, and the files it needs in its folder.

    `ranks_here`: ranks that share this machine; by default all. Raises `UsageError` on an option that means nothing to the
    job, `DomainError` on a point where the schedule does not exist, `InputError` on an unusable order.
    """
    settings_type = SETTINGS[kind]
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    _check_options(kind, given, order)
    if given.get("schedule"):
        given["schedule"] = parse_schedule_name(given["schedule"])
    num_stages = given.pop("num_stages", None)
    if "num_replicas" in given and "num_ranks" not in given:
        given["num_ranks"] = settings_type(folder=folder).num_ranks * given["num_replicas"]
    settings, files = settings_type(folder=folder, **given), dict[str, str]()
    if isinstance(settings, PipelineSettings):
        from instrumented_runs.pipeline.plan import plan_named, plan_order  # noqa: PLC0415 - needs polars

        settings, text = plan_order(settings, order) if order else plan_named(settings, num_stages)
        files = {ORDER_FILE: text} if text is not None else {}
    if isinstance(settings, MixSettings) and settings.pp > 1 and settings.schedule not in TORCH_ORDERS:
        from instrumented_runs.pipeline.plan import order_of  # noqa: PLC0415

        files = {ORDER_FILE: order_of(settings.schedule, settings.pp, settings.num_microbatches)}
    here = ranks_here or settings.num_ranks
    mode = resolve_compute_mode(kind, compute, here, len(host_load.cores()), num_cuda_devices())
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
