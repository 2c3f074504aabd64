"""Losses of one step by name: its time per rank, split until every row has one cause.

The rows and their order are those of the waterfall (`gaps.efficiency.waterfall` says what each one means); here are numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from traceanalyzer.review import WaterfallStep

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
