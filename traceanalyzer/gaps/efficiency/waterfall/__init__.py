"""Where the FLOP/s went: from the devices' peak to the measured MFU, in milliseconds and MFU points, exactly.

One step is taken, the one of median duration. Its time is the longest rank's window; per rank on average it is

    FLOPs at peak + what the best GEMM misses of the peak + slow computation by class + recompute
    + every other owner of the accounting by cause + stagger,

where *slow computation* of a class is its time beyond what its FLOPs would take at the best rate known (the measured GEMM's,
else the peak), *recompute* what recomputed FLOPs take at the rate of their class, and *stagger* the longest window less
the mean one. Waiting for the pipeline is waiting for its messages, and waiting for other ranks in exchanges between replicas
after a rank's last chunk: there the drain of a pipeline and the wait for a slower one end. It is split at the bubble of the
ideal (`bubble.theory`, `attribution_ms.schedule`). What lies beyond, with what slow ranks compute longer themselves, is what
the attribution says that slow stages and stragglers cost the step; the rest is shared among the other causes of `BLAME` in the
proportion of what they made other ranks wait, and waiting at expert exchanges among those of `EXPERT_BLAME`.
`mfu_points = 100 · ms ÷ step`; the losses and the measured MFU sum to 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl

from traceanalyzer.gaps.causes.causes import PipelineCauses
from traceanalyzer.gaps.causes.slow_ranks import slow_computation_ms, slowness_ms, sync_waits_ms
from traceanalyzer.gaps.efficiency.step_flops import step_flops
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.gaps.efficiency.waterfall.losses import ClassFlops, StepTime, waterfall_steps
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.efficiency.mfu import median_step
from traceanalyzer.measurements.ledger.compute_classes import compute_classes
from traceanalyzer.review import Bubble, WaterfallStep, Withheld
from traceanalyzer.review.words import milliseconds
from traceanalyzer.tables import Tables

_MIN_BUSY = 0.98
"""Kernels do not beat the peak; clocks and rounding allow this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blames:
    """Why ranks waited."""

    pipeline: PipelineCauses
    experts: pl.DataFrame
    """`EXPERT_BLAME`."""


@dataclass(frozen=True, slots=True)
class Waterfall(SubjectPart):
    """Steps from peak to measured MFU; empty if they are withheld."""

    steps: list[WaterfallStep]
    withheld: tuple[Withheld, ...]

    @property
    def sections(self) -> Mapping[str, object]:
        """The way from peak to measured."""
        return {"waterfall": self.steps}


def waterfall(
    utilisation: UtilisationGap,
    bubble: Bubble | None,
    account: pl.DataFrame,
    tables: Tables,
    operators: pl.DataFrame,
    splits: pl.DataFrame,
    blames: Blames,
) -> Waterfall:
    """The way from peak to measured; without MFU there is none.

    `account` is `ACCOUNTING`, `operators` `SHAPE_FLOPS`, `splits` `COLLECTIVE_SPLITS`.
    """
    trained, peak = utilisation.training, utilisation.peak
    if utilisation.figures.mfu is None or trained is None or peak is None:
        return Waterfall([], ())
    step, step_ns = median_step(tables.steps)
    of_step = account.filter(pl.col("step") == step)
    num_ranks = of_step["rank"].n_unique()
    if num_ranks < trained.num_devices and _ranks_differ(account):
        reason = f"{num_ranks} of {trained.num_devices} ranks were captured, and in a pipeline or expert group ranks do unequal work"
        return Waterfall([], (Withheld(metric="waterfall", reason=reason),))
    computed = compute_classes(tables.steps.filter(pl.col("step") == step), tables.kernels, operators, of_step)
    idle = of_step.filter(pl.col("owner") != "compute")
    time = StepTime(
        step_ms=step_ns / 1e6,
        owners={(owner, cause): ms for (owner, cause), ms in _mean_ms(idle, num_ranks, ["owner", "cause"]).items()},
        classes={name: ms for (name,), ms in _mean_ms(computed, num_ranks, ["class"]).items()},
        theory_ms=_ideal_bubble_ms(bubble),
        sync_ms=sync_waits_ms(splits, tables, step),
        slow_ms=slow_computation_ms(blames.pipeline.steps, step),
        slowness_ms=slowness_ms(blames.pipeline, step),
        excess=_weights(blames.pipeline.blame_table, step),
        expert_excess=_weights(blames.experts, step),
    )
    flops = step_flops(trained)
    if flops is None:
        return Waterfall([], ())
    attention = flops.attention or 0.0
    counted = ClassFlops(
        gemm=flops.total - attention,
        attention=attention,
        recomputed_gemm=flops.recomputed - flops.recomputed_attention,
        recomputed_attention=flops.recomputed_attention,
    )
    if flops.attention is None:  # the count does not separate attention: nor can its time be
        time = replace(time, classes={"other": sum(time.classes.values())})
    achievable = peak.achievable.flops_per_second if peak.achievable else None
    ideal_ms = (counted.gemm + counted.attention) / (peak.flops_per_second * trained.num_devices / 1e3)
    busy_ms = sum(time.classes.values())
    if busy_ms < _MIN_BUSY * ideal_ms:
        reason = (
            f"a rank computes for {milliseconds(busy_ms)} per step, but its FLOPs take {milliseconds(ideal_ms)} at peak: "
            "the declared model, tokens, devices or peak are not this run's"
        )
        return Waterfall([], (Withheld(metric="waterfall", reason=reason),))
    return Waterfall(waterfall_steps(time, counted, trained.num_devices, peak.flops_per_second, achievable), ())


def _ideal_bubble_ms(bubble: Bubble | None) -> float | None:
    """Bubble of the simulated ideal per rank; by the closed form where the order cannot be simulated."""
    theory = bubble.theory if bubble else None
    if bubble is None or theory is None:
        return None
    if theory.simulated_share is not None and theory.simulated_phase_ms is not None:
        return theory.simulated_share * theory.simulated_phase_ms
    return theory.closed_form_share * bubble.phase_ms if theory.closed_form_share and bubble.phase_ms else None


def _ranks_differ(account: pl.DataFrame) -> bool:
    return bool(account["cause"].is_in(["pp", "ep", "receive"]).any())


def _weights(blame: pl.DataFrame, step: int) -> dict[str, float]:
    """Nanoseconds that ranks waited for others in one step, by cause."""
    of_others = blame.filter((pl.col("step") == step) & pl.col("culprit").ne_missing(pl.col("waiter")))
    totals = of_others.group_by(pl.col("cause").cast(pl.String)).agg(pl.col("duration_ns").sum()).sort("cause")
    return {cause: float(ns) for cause, ns in totals.iter_rows()}


def _mean_ms(table: pl.DataFrame, num_ranks: int, keys: list[str]) -> dict[tuple[str, ...], float]:
    totals = table.group_by([pl.col(key).cast(pl.String) for key in keys]).agg(pl.col("duration_ns").sum())
    return {tuple(map(str, row[:-1])): row[-1] / 1e6 / num_ranks for row in totals.sort(keys).iter_rows()}
