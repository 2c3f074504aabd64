"""Times at one place: layers by microbatch size and recompute, data parallelism, messages, the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter

import numpy as np

from traceanalyzer.theory.interconnect.alpha_beta import Op
from traceanalyzer.theory.interconnect.collectives import exchange_ns
from traceanalyzer.theory.interconnect.topology import group
from traceanalyzer.theory.memory.activations import Policy
from traceanalyzer.theory.memory.states import local_parameters
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.layer_times import Cell, LayerCost, head_cost, layer_cost
from traceanalyzer.theory.planning.prices.pipelines import Floats, Pipeline, rank_kinds
from traceanalyzer.theory.planning.prices.places import Axes, Place, Recompute

_NS = 1e9
_WORD = 2
_NOTHING = LayerCost(forward=0, input_gradient=0, weight_gradient=0, selective=0, core_attention=0)


@dataclass(frozen=True, slots=True)
class PlaceCosts:
    """Costs of layers for every microbatch size, as arrays over S, B, Z, R, K."""

    dense: Floats
    """Rows of sizes, columns of figures, in the order of `LayerCost`."""
    moe: Floats
    head: Floats
    recomputes: tuple[Recompute, ...]
    fused_attention: bool

    def by_size(self, kind: str, name: str) -> Floats:
        """One figure of a kind of layer, by microbatch size."""
        return self._table(kind)[:, _FIGURES.index(name)][None, :, None, None, None]

    def again(self, kind: str, name: str) -> Floats:
        """What the policies run again in a layer, by microbatch size and way of recomputing."""
        table = self._table(kind)
        full = np.array([each.policy is Policy.FULL for each in self.recomputes])
        run_again = table[:, _FIGURES.index(name)][:, None] * full
        if name == "forward":
            selective = np.array([each.policy is Policy.SELECTIVE for each in self.recomputes])
            run_again = run_again + table[:, _FIGURES.index("selective")][:, None] * selective
            if not self.fused_attention:
                run_again = run_again + table[:, _FIGURES.index("core_attention")][:, None] * _with_attention(
                    self.recomputes
                )
        return run_again[None, :, None, :, None]

    def _table(self, kind: str) -> Floats:
        table: Floats = getattr(self, kind)
        return table


_FIGURES = tuple(each.name for each in fields(LayerCost))
_figures_of = attrgetter(*_FIGURES)


def _figures(costs: Iterable[LayerCost]) -> Floats:
    """Rows of sizes, columns of figures."""
    return np.array([_figures_of(cost) for cost in costs])


def _with_attention(recomputes: tuple[Recompute, ...]) -> Floats:
    """Policies that run core attention again but not the whole layer."""
    return np.array([float(each.policy in (Policy.ATTENTION, Policy.SELECTIVE)) for each in recomputes])


def place_costs(job: PlanJob, place: Place, sizes: Sequence[int], recomputes: tuple[Recompute, ...]) -> PlaceCosts:
    """Costs of layers at a place."""
    cells = [
        Cell(max(1, size * job.sequence_length // place.cp), place.tp, place.cp, place.ep, place.etp) for size in sizes
    ]
    plain = [Cell(cell.tokens, cell.tp, cell.cp, 1, 1) for cell in cells]
    has_dense = job.shape.num_moe_layers < job.shape.num_layers
    return PlaceCosts(
        dense=_figures(_cached_layer(job, cell, moe=False) if has_dense else _NOTHING for cell in plain),
        moe=_figures(_cached_layer(job, cell, moe=True) if job.shape.num_experts else _NOTHING for cell in cells),
        head=_figures(_cached_head(job, cell) for cell in plain),
        recomputes=recomputes,
        fused_attention=job.kernels.fused_attention,
    )


@cache
def _cached_layer(job: PlanJob, cell: Cell, *, moe: bool) -> LayerCost:
    return layer_cost(job, cell, moe=moe)


@cache
def _cached_head(job: PlanJob, cell: Cell) -> LayerCost:
    cost = head_cost(job, cell)
    if not job.shape.num_mtp_layers:
        return cost
    layer = _cached_layer(job, cell, moe=False) if not job.shape.num_experts else _cached_layer(job, cell, moe=True)
    names = ("forward", "input_gradient", "weight_gradient", "selective", "core_attention")
    extra = {name: getattr(cost, name) + job.shape.num_mtp_layers * getattr(layer, name) for name in names}
    return LayerCost(**extra)


@dataclass(frozen=True, slots=True)
class LocalSizes:
    """Parameters of the fullest rank of every pipeline."""

    shared: tuple[float, ...]
    experts: tuple[float, ...]


@cache
def local_sizes(job: PlanJob, at: tuple[Pipeline, ...], tp: int, ep: int, etp: int) -> LocalSizes:
    """Parameters that replicas exchange, outside experts and in them."""
    shared: list[float] = []
    experts: list[float] = []
    for pipeline in at:
        found = [local_parameters(job.shape, tp, ep, etp, each) for each in rank_kinds(job.shape, pipeline).holdings]
        fullest = max(found, key=lambda each: each.total)
        shared.append(fullest.matrices + fullest.others)
        experts.append(fullest.experts)
    return LocalSizes(tuple(shared), tuple(experts))


def data_parallel_ns(
    job: PlanJob, place: Place, axes: Axes, counts: Floats, forward: Floats, backward: Floats
) -> Floats:
    """Exposed exchanges of gradients and weights in a step.

    Gradients (or, with ZeRO-2 and 3, each microbatch's) hide behind one microbatch's backward, gathered weights behind a
    forward; without hiding they cost what they take.
    """
    sizes = local_sizes(job, axes.pipelines, place.tp, place.ep, place.etp)
    hidden = 1.0 if job.hidden_data_parallel else 0.0
    columns: list[Floats] = []
    for zero in axes.zeros:
        scattered, gathered = _data_parallel_once(job, place, sizes, zero)
        back = np.maximum(0.0, scattered[:, None, None, None] - hidden * backward)
        ahead = np.maximum(0.0, gathered[:, None, None, None] - hidden * forward)
        if zero <= 1:
            columns.append(back + ahead)
        elif zero == 2:
            columns.append(counts * back + ahead)
        else:
            both = (scattered + gathered)[:, None, None, None]
            columns.append(counts * (ahead + np.maximum(0.0, both - hidden * backward)))
    shape = np.broadcast_shapes(*(column.shape for column in columns))
    return np.concatenate([np.broadcast_to(c, shape)[:, :, :1] for c in columns], axis=2)


def _data_parallel_once(job: PlanJob, place: Place, sizes: LocalSizes, zero: int) -> tuple[Floats, Floats]:
    """Reducing gradients and gathering weights once, by pipeline. ZeRO-0 all-reduces and gathers nothing."""
    dp = place.replicas(job.num_devices)
    replicas = (dp * place.cp, place.tp)
    stage = dp * place.cp * place.tp
    expert = (stage // (place.ep * place.etp), place.ep * place.etp)
    recipe = job.recipe
    reduce = Op.REDUCE_SCATTER if zero else Op.ALL_REDUCE

    def total(op: Op, word: float) -> Floats:
        values = [
            _cached_exchange(job, op, shared * word, *replicas) + _cached_exchange(job, op, experts * word, *expert)
            for shared, experts in zip(sizes.shared, sizes.experts, strict=True)
        ]
        return np.array(values)

    gathered = total(Op.ALL_GATHER, recipe.gathered) if zero else np.zeros(len(sizes.shared))
    return total(reduce, recipe.gradient), gathered


@cache
def _cached_exchange(job: PlanJob, op: Op, size_bytes: float, size: int, stride: int) -> float:
    return exchange_ns(op, size_bytes, group(job.cluster, size, stride), job.cluster)


def message_ns(job: PlanJob, place: Place, axes: Axes, busiest: Floats) -> tuple[Floats, Floats]:
    """The period of a microbatch (no shorter than its messages in one direction), and the time of one message."""
    if place.pp == 1:
        return busiest, np.zeros((1, 1, 1, 1))
    stride = place.replicas(job.num_devices) * place.cp * place.tp
    tokens = [size * job.sequence_length / place.cp / place.tp for size in axes.sizes]
    sizes = [each * job.shape.hidden_size * _WORD for each in tokens]
    one = np.array([_cached_exchange(job, Op.SEND, size, 2, stride) for size in sizes])[None, :, None, None]
    members = group(job.cluster, 2, stride)  # neighbours: a pipeline may span more than their messages do
    rate = job.cluster.near_rate if members.num_domains == 1 else job.cluster.far_rate(members.span)
    chunks = np.array([p.num_chunks for p in axes.pipelines])[:, None, None, None]
    occupied = chunks * np.array(sizes)[None, :, None, None] / rate * _NS
    return np.maximum(busiest, occupied), one


def optimizer_ns(job: PlanJob, place: Place, axes: Axes) -> Floats:
    """Gradients read, optimizer state read and written, weights written, at the rate of memory; by pipeline and ZeRO."""
    sizes = local_sizes(job, axes.pipelines, place.tp, place.ep, place.etp)
    dp = place.replicas(job.num_devices)
    stage = dp * place.cp * place.tp
    recipe = job.recipe
    moved = recipe.gradient + 2 * recipe.matrix_optimizer + recipe.weight
    rate = job.cluster.spec.memory_bytes_per_second * job.cluster.memory
    shared, experts = np.array(sizes.shared), np.array(sizes.experts)
    columns = [
        (shared / (dp * place.cp if zero else 1) + experts / (stage // (place.ep * place.etp) if zero else 1))
        for zero in axes.zeros
    ]
    return np.stack(columns, axis=1)[:, None, :, None] * moved / rate * _NS
