"""The best changes of a run's configuration, by the model of `plan job` with the numbers that the run measured.

They are predictions of a model: withheld where it does not know the job, or misses the run's own step by a factor of two.
"""

from __future__ import annotations

import polars as pl

from traceanalyzer.errors import DomainError, UsageError
from traceanalyzer.gaps.efficiency.calibration import calibration, run_of
from traceanalyzer.gaps.efficiency.savings import RUN_TO_RUN, Known, RankTimes, saving
from traceanalyzer.hardware import find_device
from traceanalyzer.measurements.efficiency.devices import device_types
from traceanalyzer.model import ModelShape
from traceanalyzer.review import ConfigurationChange, NextConfigurations, Review
from traceanalyzer.theory.interconnect.topology import Cluster, clusters
from traceanalyzer.theory.memory.recipes import find_recipe
from traceanalyzer.theory.planning.changes import LEAST_SAVING, Change, best_changes
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.pricing import price
from traceanalyzer.theory.planning.runs.calibration import calibrated
from traceanalyzer.theory.planning.runs.own import own_run

_NS_PER_MS = 1e6
_TRUSTED = 2.0
"""Measured over predicted step, either way, beyond which the model does not describe the run."""
_RECIPES = {"bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "fp32": "fp32"}


def next_configurations(review: Review, ranks: pl.DataFrame, times: RankTimes | None) -> NextConfigurations | None:
    """The best three, or why there are none; None of a run without devices, where nobody would miss them.

    `ranks` is `RANKS`, whose traces name their devices; a declared device goes before them. `times` are those of
    the run's pipeline.
    """
    if review.kernels is None:
        return None
    try:
        return _found(review, _recorded(ranks), times)
    except (DomainError, UsageError) as error:
        return NextConfigurations(reason=f"{error.message} ({error.hint})" if error.hint else error.message)


def _recorded(ranks: pl.DataFrame) -> str | None:
    """The one type of device that traces name; None if they name none or several."""
    names = {name for text in ranks["devices"] for name, _ in device_types(text) if name}
    return names.pop() if len(names) == 1 else None


def _found(review: Review, device: str | None, times: RankTimes | None) -> NextConfigurations:
    job, cluster = _job(review, device)
    numbers = calibration(review, job)
    own = own_run(run_of(review), calibrated(job, numbers.measured))
    by_name = {each.name: each for each in numbers.measured}
    factor = by_name["step_factor"]
    if not 1 / _TRUSTED <= factor.value <= _TRUSTED:
        raise UsageError(
            f"the model of a plan predicts this run's own step wrong: measured ÷ predicted is {factor.value:.3g}",
            "its savings would be no better",
        )
    changes = best_changes(own.job, own.configuration)
    if changes is None:
        raise UsageError(f"{own.configuration.text()} is not a configuration that `plan job` knows", "see `plan job`")
    memory = price(own.job, own.configuration)[1]
    step_ms = review.step.duration_ms.median or 0.0
    noise_ns = max(review.step.noise_ms or 0.0, RUN_TO_RUN * step_ms) * _NS_PER_MS
    known = Known(job=own.job, own=own.configuration, times=times, noise_ns=noise_ns)
    options = sorted((_option(each, known, step_ms) for each in changes.best), key=lambda each: -each.saves_ms)
    return NextConfigurations(
        configuration=own.configuration.text(),
        cluster=cluster.name,
        step_factor=factor.value,
        step_error=factor.held_out_error,
        memory_bytes=memory,
        options=[each for each in options if each.saves_ms >= LEAST_SAVING * step_ms],
        too_large=None if changes.too_large is None else _option(changes.too_large, known, step_ms),
        assumptions=[*own.taken, f"weights, gradients and optimizer as in the recipe {job.recipe.name}"],
    )


def _option(change: Change, known: Known, step_ms: float) -> ConfigurationChange:
    low, best, high = (each / _NS_PER_MS for each in saving(known, change.configuration))
    return ConfigurationChange(
        decision=change.decision,
        change=change.words,
        configuration=change.configuration.text(),
        step_ms=step_ms - best,
        saves_ms=best,
        saves_low_ms=low,
        saves_high_ms=high,
        memory_bytes=change.memory_bytes,
        headroom_bytes=known.job.capacity_bytes - change.memory_bytes,
    )


def _job(review: Review, device: str | None) -> tuple[PlanJob, Cluster]:
    """The run's model on the cluster of its device; sizes are filled in by `own_run`. Raises `UsageError`."""
    facts = review.job
    if facts.model is None:
        raise UsageError("the model is not known", "analyze with --job FILE")
    name = (facts.hardware.value.device if facts.hardware else None) or device
    if not name:
        raise UsageError("the device is not known", "the traces name none; name it in the file of --job")
    cluster, shape = _cluster(name), facts.model.value
    dtype = facts.dtype.value if facts.dtype else "bf16"
    if dtype not in _RECIPES:
        raise UsageError(f"no recipe of a plan is of {dtype}", "plans know bf16, fp16, fp32 and fp8")
    recipe = find_recipe(_RECIPES[dtype])
    return PlanJob(shape=_described(shape), cluster=cluster, num_devices=1, sequence_length=1, batch_size=1, recipe=recipe), cluster  # fmt: skip


def _described(shape: ModelShape) -> ModelShape:
    if not shape.num_layers:
        raise UsageError("the model's sizes are not known", "analyze with --job FILE")
    return shape


def _cluster(device: str) -> Cluster:
    name = find_device(device).name
    found = next((each for each in clusters().values() if each.spec.name == name), None)
    if found is None:
        raise UsageError(f"no described cluster has the device {name}", "plans know those of data/clusters.csv")
    return found
