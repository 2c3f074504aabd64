"""What a step takes and a rank holds, for many configurations of one place at once.

A *place* is (TP, CP, PP, EP, ETP); the rest gives the axes of every array here: S pipelines (schedule and chunks), B
microbatch sizes, Z ZeRO stages, R ways of recomputing. Step = M · period + bubble + hops + exposed data parallelism +
optimizer, where the period is the slowest rank's time for one microbatch (or its messages', if they take longer) and the
bubble is filled with the mean of the other ranks. `price` takes one configuration through the same arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from traceanalyzer.model import ModelShape
from traceanalyzer.schedule import ScheduleName
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.planning.job import Configuration, PlanJob
from traceanalyzer.theory.planning.prices.pipelines import PAIRED, Floats, Pipeline, bubble_ns, hops_of, rank_kinds
from traceanalyzer.theory.planning.prices.place_costs import (
    PlaceCosts,
    data_parallel_ns,
    message_ns,
    optimizer_ns,
    place_costs,
)
from traceanalyzer.theory.planning.prices.place_memory import PlaceMemory, place_memory
from traceanalyzer.theory.planning.prices.places import Axes, Place, Recompute

PARTS = ("compute", "recompute", "bubble", "tp", "ep", "cp", "pp", "dp", "optimizer", "host", "unexplained")
"""What a step is made of: it is their sum. `compute` is M times the slowest rank's computation. The last two are of calibrated
jobs: the device waits for its host in proportion to what it computes, and steps are longer than all other parts in the same
proportion as the measured one (less than 0 if that was shorter)."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Arrays of shape S, B, Z, R."""

    step_ns: Floats
    memory_bytes: Floats
    """Of the fullest rank."""
    recomputed_layers: Floats
    parts_ns: dict[str, Floats]


def prices(job: PlanJob, place: Place, axes: Axes, memory: PlaceMemory | None = None) -> Prices:
    """Price everything at a place; the pipelines' layers must suffice, the batch must divide.

    `memory` may be given where it is known already, for these very axes.
    """
    dp = place.replicas(job.num_devices)
    counts = np.array([job.batch_size // (dp * size) for size in axes.sizes], dtype=float)
    costs = place_costs(job, place, axes.sizes, axes.recomputes)
    layers = _layers_of(job.shape, axes.pipelines)
    memory = memory or place_memory(job, place, axes, counts)
    recomputed = memory.recomputed_layers
    work = _Work.of(costs, layers, recomputed)
    microbatches = np.broadcast_to(counts, (len(axes.pipelines), len(counts)))[:, :, None, None]
    return _step(job, place, axes, microbatches, work, memory.bytes, recomputed)


class Price(NamedTuple):
    """What theory says of one configuration."""

    step_ns: float
    memory_bytes: float
    """Of the fullest rank."""
    parts_ns: dict[str, float]
    """Parts of the step by name."""


def price(job: PlanJob, chosen: Configuration) -> Price:
    """Step time in ns, bytes of the fullest rank, and the parts of the step of one configuration."""
    place = Place(chosen.tp, chosen.cp, chosen.pp, chosen.ep, chosen.etp)
    axes = Axes(
        (Pipeline(chosen.schedule, chosen.pp, chosen.num_chunks),),
        (chosen.microbatch_size,),
        (chosen.zero,),
        (Recompute(chosen.policy, chosen.num_recomputed_layers),),
    )
    found = prices(job, place, axes)
    parts = {name: float(values.reshape(-1)[0]) for name, values in found.parts_ns.items()}
    return Price(float(found.step_ns.reshape(-1)[0]), float(found.memory_bytes.reshape(-1)[0]), parts)


@dataclass(frozen=True, slots=True)
class _Layers:
    """Arrays of shape S, K: kinds of rank, padded with ranks that hold nothing and are none."""

    dense: Floats
    moe: Floats
    head: Floats
    counts: Floats
    share: Floats
    """Of the microbatches that pass through a rank's layers: half with DualPipe, whose ranks hold two copies."""


@cache
def _layers_of(shape: ModelShape, at: tuple[Pipeline, ...]) -> _Layers:
    kinds = [rank_kinds(shape, pipeline) for pipeline in at]
    width = max(len(kind.first) for kind in kinds)
    arrays = np.zeros((4, len(at), width))
    for index, kind in enumerate(kinds):
        for column, (holding, count) in enumerate(zip(kind.holdings, kind.counts, strict=True)):
            arrays[:, index, column] = (holding.num_dense, holding.num_moe, holding.head, count)
    share = [0.5 if pipeline.schedule == ScheduleName("DualPipe") else 1.0 for pipeline in at]
    return _Layers(*arrays, share=np.array(share)[:, None])


@dataclass(frozen=True, slots=True)
class _Work:
    """Nanoseconds of one microbatch by kind of rank, shape S, B, Z, R, K, and by part."""

    forward: Floats
    inputs: Floats
    weights: Floats
    recompute: Floats
    tp: Floats
    ep: Floats
    cp: Floats
    counts: Floats

    @classmethod
    def of(cls, costs: PlaceCosts, layers: _Layers, recomputed: Floats) -> _Work:
        dense, moe, head = (each[:, None, None, None, :] for each in (layers.dense, layers.moe, layers.head))
        share = layers.share[:, None, None, None, :]
        whole_moe = np.minimum(recomputed[..., None], moe)
        whole_dense = np.minimum(recomputed[..., None] - whole_moe, dense)

        def both(name: str) -> Floats:
            on_dense, on_moe = (costs.by_size(kind, name) for kind in ("dense", "moe"))
            return share * (dense * on_dense + moe * on_moe + head * costs.by_size("head", name))

        def again(name: str) -> Floats:
            """Run again: whole layers, and what the policy recomputes in the others."""
            full = whole_dense * costs.by_size("dense", name) + whole_moe * costs.by_size("moe", name)
            rest = (dense - whole_dense) * costs.again("dense", name) + (moe - whole_moe) * costs.again("moe", name)
            return share * (full + rest)

        return cls(
            forward=both("forward"),
            inputs=both("input_gradient"),
            weights=both("weight_gradient"),
            recompute=again("forward"),
            tp=2 * both("tp") + again("tp"),
            ep=2 * both("ep") + again("ep"),
            cp=both("cp_forward") + both("cp_backward") + again("cp_forward"),
            counts=layers.counts[:, None, None, None, :],
        )

    @property
    def whole(self) -> Floats:
        """Everything that a microbatch takes on a rank."""
        return self.forward + self.inputs + self.weights + self.recompute + self.tp + self.ep + self.cp


def _step(
    job: PlanJob, place: Place, axes: Axes, counts: Floats, work: _Work, memory: Floats, recomputed: Floats
) -> Prices:
    whole = np.where(work.counts > 0, _with_hidden_experts(work, axes), -1.0)
    slowest = np.argmax(whole, axis=-1)[..., None]

    def on_slowest(values: Floats) -> Floats:
        wide = np.broadcast_to(values, whole.shape)
        return np.take_along_axis(wide, slowest, axis=-1)[..., 0]

    busiest = on_slowest(whole)
    period, message = message_ns(job, place, axes, busiest)
    fill = [_others(values, work.counts, slowest) for values in _phases(work, whole)]
    numbers = hops_of(axes.pipelines, tuple(round(float(each)) for each in counts[0, :, 0, 0]))
    exposed = data_parallel_ns(job, place, axes, counts, on_slowest(work.forward), on_slowest(whole - work.forward))
    ep = busiest - on_slowest(whole - _exposed_experts(work, axes))
    parts = {
        "compute": counts * on_slowest(work.forward + work.inputs + work.weights),
        "recompute": counts * on_slowest(np.broadcast_to(work.recompute, whole.shape)),
        "bubble": bubble_ns(axes.pipelines, counts, *fill),
        "tp": counts * on_slowest(work.tp),
        "ep": counts * ep,
        "cp": counts * on_slowest(work.cp),
        "pp": numbers[:, :, None, None] * message + counts * (period - busiest),
        "dp": exposed,
        "optimizer": optimizer_ns(job, place, axes),
    }
    parts["host"] = job.host_share * (parts["compute"] + parts["recompute"])
    parts["unexplained"] = (job.step_factor - 1) * sum(parts.values(), start=np.zeros(()))
    shape = np.broadcast_shapes(*(each.shape for each in parts.values()), memory.shape)
    parts = {name: np.broadcast_to(each, shape) for name, each in parts.items()}
    step = sum(parts.values(), start=np.zeros(shape))
    return Prices(step, np.broadcast_to(memory, shape), np.broadcast_to(recomputed, shape), parts)


def _phases(work: _Work, whole: Floats) -> tuple[Floats, Floats, Floats]:
    """Forward, input-gradient with what is run again, weight-gradient, exchanges shared out as half forward."""
    exchanges = whole - (work.forward + work.inputs + work.weights + work.recompute)
    return (
        work.forward + exchanges / 2,
        work.inputs + work.recompute + exchanges / 2,
        np.broadcast_to(work.weights, whole.shape),
    )


def _others(values: Floats, counts: Floats, slowest: np.ndarray) -> Floats:
    """Mean over all ranks but one of the slowest kind: what a message meets on its way through the pipeline."""
    wide = np.broadcast_to(values, np.broadcast_shapes(values.shape, counts.shape))
    total = (np.where(counts > 0, wide, 0.0) * counts).sum(axis=-1)
    num_ranks = counts.sum(axis=-1)
    one = np.take_along_axis(wide, slowest, axis=-1)[..., 0]
    return np.where(num_ranks > 1, (total - one) / np.maximum(num_ranks - 1, 1), one)


def _exposed_experts(work: _Work, axes: Axes) -> Floats:
    """DualPipe(V) hides the exchanges of one microbatch behind the computation of another; other schedules do not."""
    hides = np.array([p.schedule in PAIRED for p in axes.pipelines])[:, None, None, None, None]
    computing = work.forward + work.inputs + work.weights + work.recompute
    return np.where(hides, np.maximum(0.0, work.ep - computing), work.ep)


def _with_hidden_experts(work: _Work, axes: Axes) -> Floats:
    return work.whole - work.ep + _exposed_experts(work, axes)


def recompute_choices(job: PlanJob) -> tuple[Recompute, ...]:
    """Policies of the framework, and as few whole layers as make it fit."""
    found = [Recompute(policy, 0) for policy in job.framework.policies]
    if job.framework.some_layers:
        found += [
            Recompute(policy, None) for policy in (Policy.NONE, Policy.SELECTIVE) if policy in job.framework.policies
        ]
    return tuple(found)
