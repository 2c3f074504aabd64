"""Memory at one place, over the same axes as prices; `tests/theory/planning/test_prices.py` holds it to `memory.rank.rank_memory`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, reduce

import numpy as np

from traceanalyzer.theory.memory.activations import Policy, head_bytes, layer_bytes, layer_parts
from traceanalyzer.theory.memory.rank import exchange_bytes
from traceanalyzer.theory.memory.sharding import Sharding
from traceanalyzer.theory.memory.stages import Holding
from traceanalyzer.theory.memory.states import gathered_bytes, local_parameters, state_bytes
from traceanalyzer.theory.planning.job import PlanJob
from traceanalyzer.theory.planning.prices.pipelines import Floats, Pipeline, held_by_kind, rank_kinds
from traceanalyzer.theory.planning.prices.places import Axes, Place, Recompute


@dataclass(frozen=True, slots=True)
class PlaceMemory:
    """Arrays of shape S, B, Z, R."""

    bytes: Floats
    """Of the fullest rank."""
    recomputed_layers: Floats


def place_memory(job: PlanJob, place: Place, axes: Axes, counts: Floats) -> PlaceMemory:
    """Memory of the fullest rank, and how many layers of a rank are recomputed whole."""
    dp = place.replicas(job.num_devices)
    merged = Sharding(tp=place.tp, dp=dp * place.cp, ep=place.ep, etp=place.etp)
    kinds = _kinds(job, merged, axes.pipelines, axes.zeros)
    held = held_by_kind(job.shape, axes.pipelines, tuple(round(float(count)) for count in counts))
    activations = _Activations.of(job, place, axes)
    spare = 1 + job.allowance.fragmentation
    base = kinds.states + job.allowance.fixed_bytes
    working = kinds.gathered[:, None, :, None, :] + (
        kinds.head[:, None, None, None, :] * activations.logits + activations.working(kinds.dense, kinds.moe)
    )
    fixed = base[:, None, :, None, :] + spare * working
    dense, moe = (each[:, None, None, None, :] for each in (kinds.dense, kinds.moe))
    per_microbatch = dense * activations.dense + moe * activations.moe
    kept = spare * held[:, :, None, None, :] * per_microbatch
    present = kinds.present[:, None, None, None, :]
    freed = [spare * held[:, :, None, None, :] * each for each in activations.saved]
    saved = (freed[0], freed[1])
    recomputed = _layers(axes.recomputes, fixed + kept, job.capacity_bytes, (dense, moe), saved, present)
    whole_moe = np.minimum(recomputed[..., None], moe)
    whole_dense = np.minimum(recomputed[..., None] - whole_moe, dense)
    total = fixed + kept - whole_moe * saved[1] - whole_dense * saved[0]
    return PlaceMemory(_most(np.where(present, total, 0.0)), recomputed)


def _most(values: Floats) -> Floats:
    """Over kinds of rank. One comparison after another: a reduction over a short last axis takes several times as long."""
    return reduce(np.maximum, np.moveaxis(values, -1, 0))


def _layers(
    recomputes: tuple[Recompute, ...],
    plain: Floats,
    capacity: float,
    layers: tuple[Floats, Floats],
    saved: tuple[Floats, Floats],
    present: Floats,
) -> Floats:
    """Layers recomputed whole: as given, or the fewest (at least one, at most all) that bring every rank under capacity."""
    given = np.array([each.num_layers or 0 for each in recomputes], dtype=float)
    found = np.broadcast_to(given, plain.shape[:-1]).copy()
    free = [index for index, each in enumerate(recomputes) if each.num_layers is None]
    if free:
        dense, moe = (each[..., free, :] for each in saved)
        over = np.where(present, plain[..., free, :] - capacity, 0.0)
        found[..., free] = _fewest(over, layers, (dense, moe), present)
    return found


def _fewest(over: Floats, layers: tuple[Floats, Floats], saved: tuple[Floats, Floats], present: Floats) -> Floats:
    """As many layers as make up for what is over capacity, those with experts first."""
    dense, moe = layers
    of_moe = over / np.where(saved[1] > 0, saved[1], np.inf)
    left = over - moe * saved[1]
    of_dense = moe + left / np.where(saved[0] > 0, saved[0], np.inf)
    needed = np.where(left > 0, np.where(saved[0] > 0, of_dense, np.inf), of_moe)
    fewest = np.ceil(np.maximum(_most(needed), 1.0) - 1e-9)
    return np.minimum(fewest, _most(np.where(present, dense + moe, 0)))


@dataclass(frozen=True, slots=True)
class _Kinds:
    """Arrays of shape S, K or S, Z, K."""

    dense: Floats
    moe: Floats
    head: Floats
    present: Floats
    states: Floats
    gathered: Floats


@cache
def _kinds(job: PlanJob, merged: Sharding, at: tuple[Pipeline, ...], zeros: tuple[int, ...]) -> _Kinds:
    """What every kind of rank holds; CP counts as DP in `merged`, which states do not separate."""
    width = max(len(rank_kinds(job.shape, pipeline).first) for pipeline in at)
    plain = np.zeros((4, len(at), width))
    states = np.zeros((2, len(at), len(zeros), width))
    divided = [replace(merged, zero=zero) for zero in zeros]
    known: dict[Holding, tuple[list[float], list[float]]] = {}
    for index, pipeline in enumerate(at):
        for column, holding in enumerate(rank_kinds(job.shape, pipeline).holdings):
            if holding not in known:
                parameters = local_parameters(job.shape, merged.tp, merged.ep, merged.etp, holding)
                known[holding] = (
                    [state_bytes(parameters, job.recipe, each).total for each in divided],
                    [gathered_bytes(parameters, job.recipe, each) for each in divided],
                )
            plain[:, index, column] = (holding.num_dense, holding.num_moe, holding.head, 1)
            states[0, index, :, column], states[1, index, :, column] = known[holding]
    return _Kinds(plain[0], plain[1], plain[2], plain[3] > 0, states[0], states[1])


@dataclass(frozen=True, slots=True)
class _Activations:
    """Bytes of one microbatch, arrays over S, B, Z, R, K."""

    dense: Floats
    moe: Floats
    saved: tuple[Floats, Floats]
    """What recomputing a dense layer whole frees, and one with experts."""
    logits: Floats
    recomputed: tuple[Floats, Floats]
    """What one layer holds while it is run again, by kind."""
    exchanges: tuple[Floats, Floats]
    """Buffers, on ranks without and with experts."""

    @classmethod
    def of(cls, job: PlanJob, place: Place, axes: Axes) -> _Activations:
        cells = [_activation_cell(job, place, size, axes.recomputes) for size in axes.sizes]
        arrays = np.array([cell[0] for cell in cells])  # B, figure, R
        logits, plain, with_experts = (np.array([cell[1][i] for cell in cells]) for i in range(3))

        def spread(figure: int) -> Floats:
            return arrays[:, figure, :][None, :, None, :, None]

        by_size = (slice(None), slice(None), None, None, None)
        return cls(
            spread(0),
            spread(1),
            (spread(2), spread(3)),
            logits[None][by_size],
            (spread(4), spread(5)),
            (plain[None][by_size], with_experts[None][by_size]),
        )

    def working(self, dense: Floats, moe: Floats) -> Floats:
        """Space of recomputation and exchanges on every kind of rank."""
        has_dense, has_moe = (each[:, None, None, None, :] > 0 for each in (dense, moe))
        again = np.maximum(np.where(has_dense, self.recomputed[0], 0), np.where(has_moe, self.recomputed[1], 0))
        return again + np.where(has_moe, self.exchanges[1], self.exchanges[0])


_Cell = tuple[tuple[tuple[float, ...], ...], tuple[float, float, float]]


def _activation_cell(job: PlanJob, place: Place, size: int, recomputes: tuple[Recompute, ...]) -> _Cell:
    """By way of recomputing: kept in a dense and a MoE layer, freed by recomputing one whole, space while it is run again.

    Then logits, and buffers of ranks without and with experts.
    """
    tokens = size * job.sequence_length / place.cp
    one = Sharding(tp=place.tp, pp=min(place.pp, 2), dp=place.ep * place.etp, ep=place.ep, etp=place.etp)
    rows, others = _per_token(job, one, recomputes)
    return tuple(tuple(value * tokens for value in row) for row in rows), (
        others[0] * tokens,
        others[1] * tokens,
        others[2] * tokens,
    )


@cache
def _per_token(job: PlanJob, one: Sharding, recomputes: tuple[Recompute, ...]) -> _Cell:
    """The same for one token without context parallelism: everything grows with tokens."""
    parts = [layer_parts(job.shape, job.recipe, job.kernels, moe=moe) for moe in (False, True)]

    def kept(policy: Policy) -> list[float]:
        return [layer_bytes(each, policy, 1.0, job.sequence_length, one) for each in parts]

    everything, full = kept(Policy.NONE), kept(Policy.FULL)
    rows: list[tuple[float, ...]] = []
    for each in recomputes:
        plain = kept(each.policy)
        left = full if each.num_layers is None or each.num_layers > 0 else plain
        freed = [plain[kind] - full[kind] for kind in (0, 1)]
        rows.append((*plain, *freed, *(everything[kind] - left[kind] for kind in (0, 1))))
    exchanges = [
        exchange_bytes(job.shape, job.recipe, 1.0, one, with_experts=with_experts) for with_experts in (False, True)
    ]
    logits = sum(head_bytes(job.shape, job.recipe, 1.0, one))
    return tuple(zip(*rows, strict=True)), (logits, exchanges[0], exchanges[1])
