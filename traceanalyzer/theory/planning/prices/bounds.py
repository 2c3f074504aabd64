"""A step takes at least this long, without memory, exchanges of replicas, messages and the optimizer.

The slowest rank takes no less than the mean of all ranks, which needs no division of layers: the model's work over PP. Where
the schedule fills and drains once (GPipe, 1F1B, interleaved) the bubble is the other ranks' mean work; the sum of M times the
slowest and that grows with the slowest, so it too is least where all ranks are alike.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from traceanalyzer.model import ModelShape
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.pipelines import FILL, PAIRED, Floats
from traceanalyzer.theory.planning.prices.place_costs import PlaceCosts, place_costs
from traceanalyzer.theory.planning.prices.pricing import Axes, Place

_ROUNDING = 1 - 1e-9


def least_ns(job: PlanJob, place: Place, axes: Axes) -> Floats:
    """A lower bound of every step at a place: shape S, B, 1, R. Layers recomputed whole beyond the policy only add to it."""
    costs = place_costs(job, place, axes.sizes, axes.recomputes)
    counts = np.array([job.batch_size // (place.replicas(job.num_devices) * size) for size in axes.sizes], dtype=float)
    layers = _layers(job.shape)
    computing = _total(layers, costs, ("forward", "input_gradient", "weight_gradient"), ("forward",))
    others = _total(layers, costs, ("tp", "tp", "cp_forward", "cp_backward"), ("tp", "cp_forward"))
    experts = _total(layers, costs, ("ep", "ep"), ("ep",))
    hides = np.array([pipeline.schedule in PAIRED for pipeline in axes.pipelines])[:, None, None]
    whole = computing + others + np.where(hides, np.maximum(0.0, experts - computing), experts)
    drained = np.array([(p.num_ranks - 1) / p.num_chunks if p.schedule in FILL else 0.0 for p in axes.pipelines])
    least = (counts[:, None] + drained[:, None, None]) * whole / place.pp
    return least[:, :, None, :] * (_ROUNDING * job.step_factor)


@cache
def _layers(shape: ModelShape) -> tuple[tuple[str, int], ...]:
    """Layers by kind."""
    return ("dense", shape.num_layers - shape.num_moe_layers), ("moe", shape.num_moe_layers)


def _total(
    layers: tuple[tuple[str, int], ...], costs: PlaceCosts, names: tuple[str, ...], again: tuple[str, ...]
) -> Floats:
    """Over all layers and the head, by microbatch size and way of recomputing."""
    found = sum(costs.by_size("head", name)[0, :, 0, :, 0] for name in names)
    for kind, count in layers:
        found = found + count * sum(costs.by_size(kind, name)[0, :, 0, :, 0] for name in names)
        found = found + count * sum(costs.again(kind, name)[0, :, 0, :, 0] for name in again)
    return np.asarray(found)
