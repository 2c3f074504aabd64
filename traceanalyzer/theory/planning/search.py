"""Every valid configuration of a job, priced, ranked, and what was rejected by how much.

Nothing is pruned by a rule of thumb: all places (TP, CP, PP, EP, ETP) that divide the devices, heads, layers, experts and
sequence are visited, and at each all schedules, chunks, microbatch sizes, ZeRO stages and ways of recomputing. So the best is
the best of the space; `tests/test_plan_job.py` compares it with a plain loop over small spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from traceanalyzer.errors import DomainError
from traceanalyzer.theory.memory.sharding import Sharding, check
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pipelines import Floats, pipelines, refusals
from traceanalyzer.theory.planning.prices.place_memory import PlaceMemory, place_memory
from traceanalyzer.theory.planning.prices.pricing import Axes, Place, Prices, prices, recompute_choices

NUM_RANKED = 100
MOST_SEQUENCES = 64
"""Largest microbatch that is tried."""
FEWEST_TOKENS = 1024
"""Of a sequence on one rank that context parallelism leaves at least."""
_MIB = 2**20
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A configuration that fits, with its price."""

    configuration: Configuration
    step_ns: float
    memory_bytes: float
    parts_ns: dict[str, float]


@dataclass(slots=True)
class Rejection:
    """Configurations that fell for one reason, and the one that came nearest."""

    reason: str
    count: int = 0
    nearest: str = ""
    by: float = float("inf")
    """How far the nearest was off, in `unit`."""
    unit: str = ""


@dataclass(slots=True)
class Found:
    """What a search has seen."""

    ranked: list[Ranked] = field(default_factory=list[Ranked])
    """Fastest first, at most `NUM_RANKED`."""
    pareto: list[Ranked] = field(default_factory=list[Ranked])
    """None is both slower and larger than another; fastest first."""
    rejections: dict[str, Rejection] = field(default_factory=dict[str, Rejection])
    best_by: dict[tuple[str, object], Ranked] = field(default_factory=dict[tuple[str, object], Ranked])
    """The fastest with this property: `("tp", 8)`, `("zero", 3)`, `("deep", True)` for M >= 4P, and so on."""
    num_priced: int = 0
    num_feasible: int = 0

    def reject(self, reason: str, count: int, nearest: str = "", by: float = float("inf"), unit: str = "") -> None:
        """Count rejected configurations, and keep the nearest."""
        each = self.rejections.setdefault(reason, Rejection(reason, unit=unit))
        each.count += count
        if by < each.by:
            each.by, each.nearest = by, nearest


def search(job: PlanJob) -> Found:
    """Price all configurations of the job. Nothing may fit: then `ranked` is empty and `rejections` say why."""
    found = Found()
    choices = recompute_choices(job)
    for place in _places(job, found):
        dp = place.replicas(job.num_devices)
        sizes = tuple(size for size in divisors(job.batch_size // dp) if size <= MOST_SEQUENCES)
        axes = Axes(pipelines(job.shape, place.pp, job.framework), sizes, _zeros(job, place), choices)
        if not axes.pipelines:
            found.reject(
                "layers do not divide into equal stages", 1, f"PP{place.pp}", job.shape.num_layers % place.pp, "layers"
            )
            continue
        if axes.zeros:
            _add(job, found, place, axes)
    found.ranked.sort(key=lambda each: each.step_ns)
    del found.ranked[NUM_RANKED:]
    found.pareto = _front([*found.pareto, *found.ranked])
    return found


def divisors(number: int) -> list[int]:
    """In order."""
    return [each for each in range(1, number + 1) if number % each == 0]


def _zeros(job: PlanJob, place: Place) -> tuple[int, ...]:
    """Stages of ZeRO: without replicas they are all alike."""
    stages = job.framework.zero if place.pp == 1 else job.framework.zero_in_pipelines
    alone = place.replicas(job.num_devices) * place.cp * place.tp == max(place.tp, place.ep * place.etp)
    return stages[:1] if alone and place.replicas(job.num_devices) * place.cp == 1 else stages


def _places(job: PlanJob, found: Found) -> Iterator[Place]:
    for tp in divisors(job.num_devices):
        fault = _tensor_fault(job, tp)
        if fault is not None:
            found.reject(*fault)
            continue
        for cp in divisors(job.num_devices // tp):
            if cp > 1 and not _context_fits(job, tp, cp):
                continue
            for pp in divisors(job.num_devices // (tp * cp)):
                yield from _expert_places(job, found, tp, cp, pp)


def _tensor_fault(job: PlanJob, tp: int) -> tuple[str, int, str, float, str] | None:
    try:
        check(job.shape, Sharding(tp=tp))
    except DomainError:
        return "heads do not divide over TP", 1, f"TP{tp}", job.shape.num_heads % tp or tp, "heads"
    if job.sequence_length % tp:
        return "the sequence does not divide over TP", 1, f"TP{tp}", job.sequence_length % tp, "tokens"
    return None


def _context_fits(job: PlanJob, tp: int, cp: int) -> bool:
    """Paired blocks need 2·CP equal ones, and blocks below `FEWEST_TOKENS` are not tried."""
    if not job.framework.context or job.sequence_length % (2 * cp * tp):
        return False
    return job.sequence_length // cp >= FEWEST_TOKENS


def _expert_places(job: PlanJob, found: Found, tp: int, cp: int, pp: int) -> Iterator[Place]:
    dp = job.num_devices // (tp * cp * pp)
    if pp > job.shape.num_layers:
        found.reject("more stages than layers", 1, f"PP{pp}", pp - job.shape.num_layers, "stages")
        return
    if job.batch_size % dp:
        found.reject(
            "the batch does not divide over DP",
            1,
            f"DP{dp}",
            min(job.batch_size % dp, dp - job.batch_size % dp),
            "sequences",
        )
        return
    if not job.shape.num_experts:
        yield Place(tp, cp, pp)
        return
    slices = (1, tp) if tp > 1 and job.framework.expert_slices else (1,)
    for etp in slices:
        if job.shape.expert_ffn_size % etp:
            continue
        for ep in divisors(job.shape.num_experts) if job.framework.experts else [1]:
            if (dp * cp * tp) % (ep * etp) == 0:
                yield Place(tp, cp, pp, ep, etp)


def _add(job: PlanJob, found: Found, place: Place, axes: Axes) -> None:
    """Price what fits at a place and keep what counts."""
    dp = place.replicas(job.num_devices)
    counts = [job.batch_size // (dp * size) for size in axes.sizes]
    memory = place_memory(job, place, axes, np.array(counts, dtype=float))
    shape = (len(axes.pipelines), len(axes.sizes), len(axes.zeros), len(axes.recomputes))
    memory = PlaceMemory(*(np.broadcast_to(each, shape) for each in (memory.bytes, memory.recomputed_layers)))
    runs = _runnable(found, axes, counts, shape)
    fits = runs & (memory.bytes <= job.capacity_bytes)
    found.num_priced += int(runs.sum())
    found.num_feasible += int(fits.sum())
    _reject_large(_At(job, place, axes, memory), found, runs & ~fits)
    if not fits.any():
        return
    axes, memory, fits = _narrowed(axes, memory, fits)
    priced = prices(job, place, axes, memory)
    step = np.where(fits, priced.step_ns, np.inf)
    keep = _Keep(found, _At(job, place, axes, memory), priced)
    _keep_best(keep, step)
    _keep_fastest(keep, step.reshape(-1))
    _keep_front(keep, step.reshape(-1))


def _narrowed(axes: Axes, memory: PlaceMemory, fits: Bools) -> tuple[Axes, PlaceMemory, Bools]:
    """Without pipelines, sizes and ZeRO stages of which nothing fits."""
    rows, columns, zeros = (np.flatnonzero(fits.any(axis=others)) for others in ((1, 2, 3), (0, 2, 3), (0, 1, 3)))
    at = np.ix_(rows, columns, zeros, np.arange(len(axes.recomputes)))
    narrow = Axes(
        tuple(axes.pipelines[i] for i in rows),
        tuple(axes.sizes[i] for i in columns),
        tuple(axes.zeros[i] for i in zeros),
        axes.recomputes,
    )
    return narrow, PlaceMemory(memory.bytes[at], memory.recomputed_layers[at]), fits[at]


def _keep_fastest(keep: _Keep, flat: Floats) -> None:
    """Keep the `NUM_RANKED` fastest of all."""
    ranked = keep.found.ranked
    slowest = ranked[-1].step_ns if len(ranked) == NUM_RANKED else np.inf
    chosen = np.flatnonzero(flat < slowest)
    if not len(chosen):
        return
    if len(chosen) > NUM_RANKED:
        chosen = chosen[np.argpartition(flat[chosen], NUM_RANKED)[:NUM_RANKED]]
    ranked += [keep.ranked(int(index)) for index in chosen]
    ranked.sort(key=lambda each: each.step_ns)
    del ranked[NUM_RANKED:]


def _runnable(found: Found, axes: Axes, counts: list[int], shape: tuple[int, ...]) -> Bools:
    runs = np.ones(shape[:2], dtype=bool)
    for row, column, why in refusals(axes.pipelines, tuple(counts)):
        runs[row, column] = False
        schedule = axes.pipelines[row].schedule
        found.reject(f"{schedule} cannot run so many microbatches", shape[2] * shape[3], why, 1.0)
    return np.broadcast_to(runs[:, :, None, None], shape)


@dataclass(frozen=True, slots=True)
class _At:
    """A place with its axes and memory: what a configuration is made from."""

    job: PlanJob
    place: Place
    axes: Axes
    memory: PlaceMemory

    def configuration(self, index: int) -> Configuration:
        """The configuration at a flat index."""
        at = [int(each) for each in np.unravel_index(index, self.memory.bytes.shape)]
        pipeline, size = self.axes.pipelines[at[0]], self.axes.sizes[at[1]]
        place, dp = self.place, self.place.replicas(self.job.num_devices)
        return Configuration(
            tp=place.tp,
            cp=place.cp,
            pp=place.pp,
            dp=dp,
            ep=place.ep,
            etp=place.etp,
            zero=self.axes.zeros[at[2]],
            schedule=pipeline.schedule,
            num_chunks=pipeline.num_chunks,
            microbatch_size=size,
            num_microbatches=self.job.batch_size // (dp * size),
            policy=self.axes.recomputes[at[3]].policy,
            num_recomputed_layers=round(float(self.memory.recomputed_layers[tuple(at)])),
        )


@dataclass(frozen=True, slots=True)
class _Keep:
    found: Found
    at: _At
    priced: Prices

    def ranked(self, index: int) -> Ranked:
        """The configuration at a flat index, with its price."""
        at = np.unravel_index(index, self.priced.step_ns.shape)
        return Ranked(
            configuration=self.at.configuration(index),
            step_ns=float(self.priced.step_ns[at]),
            memory_bytes=float(self.priced.memory_bytes[at]),
            parts_ns={name: float(values[at]) for name, values in self.priced.parts_ns.items()},
        )


def _reject_large(at: _At, found: Found, large: Bools) -> None:
    if not large.any():
        return
    over = np.where(large, at.memory.bytes - at.job.capacity_bytes, np.inf)
    least = int(over.argmin())
    by = float(over.reshape(-1)[least]) / 2**30
    known = found.rejections.get("memory")
    nearest = at.configuration(least).text() if known is None or by < known.by else ""
    found.reject("memory", int(large.sum()), nearest, by, "GiB over capacity")


def _keep_best(keep: _Keep, step: Floats) -> None:
    place, axes, job = keep.at.place, keep.at.axes, keep.at.job
    domain = job.cluster.domain
    counts = [job.batch_size // (place.replicas(job.num_devices) * size) for size in axes.sizes]
    whole: list[tuple[str, object]] = [
        ("tp", place.tp),
        ("cp", place.cp),
        ("pp", place.pp),
        ("ep", place.ep),
        ("etp", place.etp),
        ("inside", place.tp <= domain),
    ]
    for name, value in whole:
        _improve(keep, (name, value), step)
    for axis, (name, values) in enumerate(
        (("schedule", [p.schedule for p in axes.pipelines]), ("size", axes.sizes), ("zero", axes.zeros),
         ("recompute", [each.policy if each.num_layers == 0 else "some layers" for each in axes.recomputes]))
    ):  # fmt: skip
        for index, value in enumerate(values):
            _improve(keep, (name, value), step, axis, np.array([index]))
    if place.pp > 1:
        deep = np.array([count >= 4 * place.pp for count in counts])
        for value in (True, False):
            _improve(keep, ("deep", value), step, 1, np.flatnonzero(deep == value))


def _improve(
    keep: _Keep, key: tuple[str, object], step: Floats, axis: int = 0, taken: np.ndarray | None = None
) -> None:
    """Keep the fastest of a slice if it beats what is known under `key`."""
    part = step if taken is None else np.take(step, taken, axis=axis)
    if part.size == 0:
        return
    least = float(part.min())
    known = keep.found.best_by.get(key)
    if np.isinf(least) or (known is not None and known.step_ns <= least):
        return
    at = [int(each) for each in np.unravel_index(int(part.argmin()), part.shape)]
    if taken is not None:
        at[axis] = int(taken[at[axis]])
    keep.found.best_by[key] = keep.ranked(int(np.ravel_multi_index(tuple(at), step.shape)))


def _keep_front(keep: _Keep, flat: Floats) -> None:
    """Add what no known configuration beats in both time and memory."""
    front = keep.found.pareto
    memory = keep.priced.memory_bytes.reshape(-1)
    order = np.lexsort((flat, memory))
    order = order[~np.isinf(flat[order])]
    best = np.minimum.accumulate(flat[order])
    lower = np.concatenate(([True], best[1:] < best[:-1]))
    candidates = order[lower]
    if front:
        times, sizes = np.array([each.step_ns for each in front]), np.array([each.memory_bytes for each in front])
        beaten = (times[None, :] <= flat[candidates][:, None]) & (sizes[None, :] <= memory[candidates][:, None])
        candidates = candidates[~beaten.any(axis=1)]
    if len(candidates):
        keep.found.pareto = _front([*front, *(keep.ranked(int(index)) for index in candidates)])


def _front(ranked: list[Ranked]) -> list[Ranked]:
    """Those that no other beats, fastest first; sizes within a MiB are alike."""
    found: list[Ranked] = []
    for each in sorted(ranked, key=lambda one: (one.step_ns, one.memory_bytes)):
        if not found or each.memory_bytes < found[-1].memory_bytes - _MIB:
            found.append(each)
    return found
