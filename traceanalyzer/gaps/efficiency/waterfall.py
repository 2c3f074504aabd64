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
from dataclasses import dataclass, field, replace

import polars as pl

from traceanalyzer.gaps.causes.causes import PipelineCauses
from traceanalyzer.gaps.causes.slow_ranks import slow_computation_ms, slowness_ms, sync_waits_ms
from traceanalyzer.gaps.efficiency.step_flops import step_flops
from traceanalyzer.gaps.efficiency.utilisation import UtilisationGap
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.efficiency.mfu import median_step
from traceanalyzer.measurements.ledger.compute_classes import compute_classes
from traceanalyzer.review import Bubble, WaterfallStep, Withheld
from traceanalyzer.review.words import milliseconds
from traceanalyzer.tables import Tables

_OWNERS = {
    "transfer": "exposed transfer",
    "wait": "waiting",
    "communication": "exposed communication",
    "copy": "copies",
    "queued": "launched, not started",
    "launch_gap": "launch gaps",
    "host": "host",
    "unknown": "unknown",
}
_BY_CAUSE = ("transfer", "wait", "communication")
_CAUSES = {
    "pp": ", pipeline",
    "receive": ", pipeline",
    "ep": ", experts",
    "cp": ", context",
    "tp": ", tensor",
    "dp": ", data",
    "world": ", all ranks",
    "collective": ", collectives",
    "unnamed": "",
}
_MIN_BUSY = 0.98
"""Kernels do not beat the peak; clocks and rounding allow this much."""
_PIPELINE_WAIT = "waiting, pipeline"
_BEYOND = "waiting in the pipeline beyond it"
_SLOWNESS = {"stage": "slow stages", "straggler": "stragglers", "overlap_dp": "computation slowed beside exchanges"}
"""Causes of longer computation: what a rank computes longer and what others wait for it are one loss."""
_COMPUTED = ("slow matrix multiplications", "slow attention", "slow computation", "other computation")
_SYNC = {"dp": "waiting, data", "world": "waiting, all ranks"}
_ANY_SYNC = "waiting, collectives"
_EXCESS = {
    "chunk_comm": "waiting for communication inside chunks",
    "jitter": "waiting for jitter",
    "host": "waiting for other ranks' hosts",
    "outside_sample": "waiting for ranks that were not captured",
    "unexplained": "waiting for unexplained late starts",
    "transfer": "waiting for messages to others",
}
"""Causes of `BLAME` that make others wait; a message on its way to the rank itself is transfer, not waiting."""
_EXPERT_WAIT = "waiting, experts"
_EXPERT_CAUSES = {"experts": "expert imbalance"}
"""Causes of `EXPERT_BLAME`; all others stay waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFlops:
    """FLOPs of one step over the job, of matrix multiplications and of core attention."""

    gemm: float
    attention: float
    recomputed_gemm: float = 0.0
    recomputed_attention: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step, in milliseconds per rank."""

    step_ms: float
    owners: Mapping[tuple[str, str], float]
    """By owner and cause, without computation."""
    classes: Mapping[str, float]
    """Computation by class."""
    theory_ms: float | None
    """Bubble of the ideal."""
    sync_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    """Waiting in exchanges between replicas after the last chunk, by role."""
    slow_ms: float = 0.0
    """What slow stages and stragglers compute longer than their kind."""
    slowness_ms: Mapping[str, float] = field(default_factory=dict[str, float])
    """What causes of `_SLOWNESS` cost the step, as the attribution says."""
    excess: Mapping[str, float] = field(default_factory=dict[str, float])
    """What made others wait in the pipeline, by cause of `BLAME`: weights of any unit."""
    expert_excess: Mapping[str, float] = field(default_factory=dict[str, float])
    """What made others wait at expert exchanges, by cause of `EXPERT_BLAME`: weights of any unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blames:
    """Why ranks waited."""

    pipeline: PipelineCauses
    experts: pl.DataFrame
    """`EXPERT_BLAME`."""


@dataclass(frozen=True, slots=True)
class Waterfall(SubjectPart):
    """Steps from peak to measured MFU; empty where they are withheld."""

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
        reason = f"{num_ranks} of {trained.num_devices} ranks are here, and in a pipeline or expert group ranks do unequal work"
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


def waterfall_steps(
    time: StepTime, flops: ClassFlops, num_devices: int, peak: float, achievable: float | None
) -> list[WaterfallStep]:
    """Peak, losses, measured MFU. Rates are in FLOP/s of one device; `achievable` is at most `peak`."""
    total = flops.gemm + flops.attention
    ideal_ms = total / (peak * num_devices / 1e3)
    rate = (achievable or peak) * num_devices / 1e3
    losses = {"best GEMM below the peak": total / rate - ideal_ms}
    computed = _computation(time.classes, flops, rate)
    waits = _pipeline_split(_synchronised(_named(time.owners), time), time.theory_ms)
    losses |= _waits_by_cause(_slowness(computed, waits, time), time)
    busy_ms = sum(time.classes.values()) + sum(time.owners.values())
    losses["stagger of the ranks"] = time.step_ms - busy_ms
    lost = [(name, ms) for name, ms in losses.items() if abs(ms) > 1e-9]
    rows = [("peak", time.step_ms), *lost, ("measured MFU", ideal_ms)]
    return [WaterfallStep(name=name, ms=ms, mfu_points=100 * ms / time.step_ms) for name, ms in rows]


def _computation(classes: Mapping[str, float], flops: ClassFlops, rate: float) -> dict[str, float]:
    """Time beyond FLOPs at `rate` (of the job, per ms) by class, and recompute.

    Taken is the finest split whose classes all take at least the time of their FLOPs: attention that is not fused runs as
    matrix multiplications, and some of these run in kernels whose names do not show it.
    """
    gemm_ms, attention_ms, other_ms = (classes.get(name, 0.0) for name in ("gemm", "attention", "other"))
    total, again = flops.gemm + flops.attention, flops.recomputed_gemm + flops.recomputed_attention
    apart = {
        "slow matrix multiplications": (gemm_ms, flops.gemm, flops.recomputed_gemm),
        "slow attention": (attention_ms, flops.attention, flops.recomputed_attention),
    }
    matrices = {"slow matrix multiplications": (gemm_ms + attention_ms, total, again)}
    whole = {"slow computation": (gemm_ms + attention_ms + other_ms, total, again)}
    for parts in (apart, matrices):
        losses = _beyond(parts, rate)
        if min(losses.values()) >= 0:
            return losses | {"other computation": other_ms, "recompute": _recompute_ms(parts)}
    return _beyond(whole, rate) | {"recompute": _recompute_ms(whole)}


_Parts = Mapping[str, tuple[float, float, float]]
"""Time, FLOPs and recomputed FLOPs by name of the loss."""


def _again_ms(ms: float, once: float, again: float) -> float:
    return ms * again / (once + again) if again else 0.0


def _beyond(parts: _Parts, rate: float) -> dict[str, float]:
    return {name: ms - _again_ms(ms, once, again) - once / rate for name, (ms, once, again) in parts.items()}


def _recompute_ms(parts: _Parts) -> float:
    return sum(_again_ms(*part) for part in parts.values())


def _named(owners: Mapping[tuple[str, str], float]) -> dict[str, float]:
    named: dict[str, float] = {}
    for owner, owner_name in _OWNERS.items():
        for (key, cause), ms in owners.items():
            if key == owner:
                name = owner_name + (_CAUSES.get(cause, "") if owner in _BY_CAUSE else "")
                named[name] = named.get(name, 0.0) + ms
    return named


def _pipeline_split(named: Mapping[str, float], theory_ms: float | None) -> dict[str, float]:
    """Waiting in the pipeline, up to the schedule's own bubble and beyond it. What a rank waits elsewhere stays there."""
    if theory_ms is None or _PIPELINE_WAIT not in named:
        return dict(named)
    split: dict[str, float] = {}
    for name, ms in named.items():
        if name == _PIPELINE_WAIT:
            own = min(ms, theory_ms)
            split |= {"bubble of the schedule": own, _BEYOND: ms - own}
        else:
            split[name] = ms
    return split


def _synchronised(named: Mapping[str, float], time: StepTime) -> dict[str, float]:
    """Waiting in exchanges between replicas after the last chunk counted as waiting for the pipeline."""
    moved = dict(named)
    if time.theory_ms is None:
        return moved
    for role, ms in time.sync_ms.items():
        left = ms
        for name in (_SYNC.get(role, ""), _ANY_SYNC):
            taken = min(left, max(0.0, moved.get(name, 0.0)))
            if taken > 0:
                moved[name] -= taken
                moved[_PIPELINE_WAIT] = moved.get(_PIPELINE_WAIT, 0.0) + taken
                left -= taken
    return moved


def _slowness(computed: Mapping[str, float], waits: Mapping[str, float], time: StepTime) -> dict[str, float]:
    """Losses with rows for slow stages and stragglers: taken from what they compute longer, then from waiting for them."""
    losses = {**computed, **dict.fromkeys(_SLOWNESS.values(), 0.0), **waits}
    wanted = {_SLOWNESS[cause]: ms for cause, ms in time.slowness_ms.items() if cause in _SLOWNESS and ms > 0}
    total = sum(wanted.values())
    slow = {name: losses[name] for name in _COMPUTED if losses.get(name, 0.0) > 0}
    own = min(max(0.0, time.slow_ms), sum(slow.values()), total)
    waited = min(total - own, max(0.0, losses.get(_BEYOND, 0.0)))
    if own + waited <= 0:
        return losses
    for name, ms in slow.items():
        losses[name] -= own * ms / sum(slow.values())
    if waited:
        losses[_BEYOND] -= waited
    return losses | {name: (own + waited) * ms / total for name, ms in wanted.items()}


def _waits_by_cause(named: Mapping[str, float], time: StepTime) -> dict[str, float]:
    """Waiting beyond the schedule's and at expert exchanges, by what caused it; as it is where no cause is known."""
    found: dict[str, float] = {}
    for name, ms in named.items():
        if name == _BEYOND:
            shares = _shares(time.excess, _EXCESS, others=None)
        elif name == _EXPERT_WAIT:
            shares = _shares(time.expert_excess, _EXPERT_CAUSES, others=_EXPERT_WAIT)
        else:
            shares = {}
        found |= {row: ms * share for row, share in shares.items()} if shares and ms > 0 else {name: ms}
    return found


def _shares(weights: Mapping[str, float], names: Mapping[str, str], *, others: str | None) -> dict[str, float]:
    """Positive weights as shares by row; causes without a row of their own go to `others`, or do not count without one."""
    rows: dict[str, float] = {}
    for cause, weight in weights.items():
        row = names.get(cause, others)
        if row is not None and weight > 0:
            rows[row] = rows.get(row, 0.0) + weight
    total = sum(rows.values())
    return {row: weight / total for row, weight in rows.items()}


def _weights(blame: pl.DataFrame, step: int) -> dict[str, float]:
    """Nanoseconds that ranks waited for others in one step, by cause."""
    of_others = blame.filter((pl.col("step") == step) & pl.col("culprit").ne_missing(pl.col("waiter")))
    totals = of_others.group_by(pl.col("cause").cast(pl.String)).agg(pl.col("duration_ns").sum()).sort("cause")
    return {cause: float(ns) for cause, ns in totals.iter_rows()}


def _mean_ms(table: pl.DataFrame, num_ranks: int, keys: list[str]) -> dict[tuple[str, ...], float]:
    totals = table.group_by([pl.col(key).cast(pl.String) for key in keys]).agg(pl.col("duration_ns").sum())
    return {tuple(map(str, row[:-1])): row[-1] / 1e6 / num_ranks for row in totals.sort(keys).iter_rows()}
