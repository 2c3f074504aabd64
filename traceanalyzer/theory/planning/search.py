"""Every valid configuration of a job, priced, ranked, and what was rejected by how much.

Nothing is pruned by a rule of thumb: all places (TP, CP, PP, EP, ETP) that divide the devices, heads, layers, experts and
sequence are visited, and at each all schedules, chunks, microbatch sizes, ZeRO stages and ways of recomputing. Memory is
known of all of them; a price is left out only where a lower bound of it (`prices.bounds`) shows that the configuration is
neither among the fastest, nor the fastest with any property that is kept, nor on the front. So the best is the best of the
space; `tests/theory/planning/test_search.py` compares it with a plain loop over small spaces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from traceanalyzer.theory.planning.found import NUM_RANKED, Found, Ranked, front
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.bounds import least_ns
from traceanalyzer.theory.planning.prices.pipelines import Floats, missing_microbatches, refusals
from traceanalyzer.theory.planning.prices.place_memory import PlaceMemory, place_memory
from traceanalyzer.theory.planning.prices.pricing import Axes, Place, Prices, prices
from traceanalyzer.theory.planning.space import space

Bools = NDArray[np.bool_]


def search(job: PlanJob) -> Found:
    """Price all configurations of the job. Nothing may fit: then `ranked` is empty and `rejections` say why."""
    found = Found()
    places = [(place, axes, least_ns(job, place, axes)) for place, axes in space(job, found)]
    for place, axes, least in sorted(places, key=lambda each: float(each[2].min())):
        _add(job, found, place, axes, least)
    found.pareto = front([*found.pareto, *found.ranked])
    return found


def _add(job: PlanJob, found: Found, place: Place, axes: Axes, least: Floats) -> None:
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
    at = _At(job, place, axes, memory)
    _reject_large(at, found, runs & ~fits)
    wanted = fits & _may_count(at, found, least) if fits.any() else fits
    if not wanted.any():
        return
    axes, memory, wanted = _narrowed(axes, memory, wanted)
    priced = prices(job, place, axes, memory)
    step = np.where(wanted, priced.step_ns, np.inf)
    keep = _Keep(found, _At(job, place, axes, memory), priced)
    _keep_best(keep, step)
    _keep_fastest(keep, step.reshape(-1))
    _keep_front(keep, step.reshape(-1))


def _may_count(at: _At, found: Found, least: Floats) -> Bools:
    """What may be ranked, the fastest with a property, or on the front, if it takes no longer than its lower bound."""
    known = found.best_by

    def slowest(keys: list[tuple[str, object]]) -> float:
        return max((known[key].step_ns if key in known else np.inf for key in keys), default=0.0)

    bar = np.array(max(found.slowest_ns, slowest(_whole(at))))
    for axis, properties in enumerate(_properties(at)):
        by_value = np.array([slowest(keys) for keys in properties])
        bar = np.maximum(bar, by_value.reshape([-1 if each == axis else 1 for each in range(4)]))
    times = np.array([each.step_ns for each in found.pareto])
    sizes = np.array([np.inf, *(each.memory_bytes for each in found.pareto)])
    return (least < bar) | (at.memory.bytes < sizes[np.searchsorted(times, least, side="right")])


def _narrowed(axes: Axes, memory: PlaceMemory, wanted: Bools) -> tuple[Axes, PlaceMemory, Bools]:
    """Without pipelines, sizes, ZeRO stages and ways of recomputing of which nothing is wanted."""
    kept = [np.flatnonzero(wanted.any(axis=tuple({0, 1, 2, 3} - {axis}))) for axis in range(4)]
    at = np.ix_(*kept)
    narrow = Axes(
        tuple(axes.pipelines[i] for i in kept[0]),
        tuple(axes.sizes[i] for i in kept[1]),
        tuple(axes.zeros[i] for i in kept[2]),
        tuple(axes.recomputes[i] for i in kept[3]),
    )
    return narrow, PlaceMemory(memory.bytes[at], memory.recomputed_layers[at]), wanted[at]


def _keep_fastest(keep: _Keep, flat: Floats) -> None:
    """Keep the `NUM_RANKED` fastest of all."""
    ranked = keep.found.ranked
    chosen = np.flatnonzero(flat < keep.found.slowest_ns)
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
        pipeline = axes.pipelines[row]
        reason = f"{pipeline.schedule} cannot run, or has no price at, this number of microbatches"
        found.reject(reason, shape[2] * shape[3], why, missing_microbatches(pipeline, counts[column]), "microbatches")
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


def _whole(at: _At) -> list[tuple[str, object]]:
    """Properties of everything at a place."""
    place = at.place
    degrees: list[tuple[str, object]] = [(name, getattr(place, name)) for name in ("tp", "cp", "pp", "ep", "etp")]
    undivided: list[tuple[str, object]] = [("undivided", True)] if place.tp == place.pp == place.ep == 1 else []
    return [*degrees, ("inside", place.tp <= at.job.cluster.domain), *undivided]


def _properties(at: _At) -> list[list[list[tuple[str, object]]]]:
    """Properties that go with a pipeline, a microbatch size, a ZeRO stage, a way of recomputing: by axis and value."""
    axes, place = at.axes, at.place
    sizes: list[list[tuple[str, object]]] = [[("size", size)] for size in axes.sizes]
    for size, properties in zip(axes.sizes, sizes, strict=True):
        if place.pp > 1:
            count = at.job.batch_size // (place.replicas(at.job.num_devices) * size)
            properties.append(("deep", count >= 4 * place.pp))
    return [
        [[("schedule", pipeline.schedule)] for pipeline in axes.pipelines],
        sizes,
        [[("zero", zero)] for zero in axes.zeros],
        [[("recompute", each.policy if each.num_layers == 0 else "some layers")] for each in axes.recomputes],
    ]


def _keep_best(keep: _Keep, step: Floats) -> None:
    for key in _whole(keep.at):
        _improve(keep, key, step)
    for axis, values in enumerate(_properties(keep.at)):
        for index, keys in enumerate(values):
            for key in keys:
                _improve(keep, key, step, axis, np.array([index]))


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
    known = keep.found.pareto
    memory = keep.priced.memory_bytes.reshape(-1)
    order = np.lexsort((flat, memory))
    order = order[~np.isinf(flat[order])]
    best = np.minimum.accumulate(flat[order])
    lower = np.concatenate(([True], best[1:] < best[:-1]))
    candidates = order[lower]
    if known:
        times, sizes = np.array([each.step_ns for each in known]), np.array([each.memory_bytes for each in known])
        beaten = (times[None, :] <= flat[candidates][:, None]) & (sizes[None, :] <= memory[candidates][:, None])
        candidates = candidates[~beaten.any(axis=1)]
    if len(candidates):
        keep.found.pareto = front([*known, *(keep.ranked(int(index)) for index in candidates)])
