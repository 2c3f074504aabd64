"""Another placement of experts, from measured loads: what it would do, and a file a training job can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from traceanalyzer.errors import DomainError
from traceanalyzer.measurements.experts.all_to_all import complete_layers, expert_loads
from traceanalyzer.review import PlacementAdvice
from traceanalyzer.theory.experts.placement import Placement, balanced_placement

FORMAT = "traceanalyzer.expert_placement"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementOptions:
    """What the placement may use. `num_ranks = 0`: as many as measured."""

    num_ranks: int = 0
    num_redundant: int = 0
    num_groups: int = 1
    num_nodes: int = 1


@dataclass(frozen=True, slots=True)
class LayerPlacement:
    """One layer of one expert group."""

    layer: int
    group: tuple[int, ...]
    loads: tuple[tuple[int, ...], ...]
    """Tokens of every expert in every captured step."""
    proposed: Placement
    current: Placement
    before: float
    """Largest over mean load of ranks, mean over steps, with the current placement."""
    after: float
    """With the proposal; each step judged by a placement made from the other steps where there are several."""

    @property
    def num_moved(self) -> int:
        """Experts no replica of which stays on its rank; ranks of equal number are compared."""
        if len(self.current.experts_of_rank) != len(self.proposed.experts_of_rank):
            return 0
        pairs = zip(self.current.experts_of_rank, self.proposed.experts_of_rank, strict=True)
        return sum(len(set(old) - set(new)) for old, new in pairs)


def propose(routing: pl.DataFrame, options: PlacementOptions | None = None) -> list[LayerPlacement]:
    """A placement for every layer and expert group of `ROUTING` whose loads by expert are known. Raises `DomainError`."""
    chosen = options or PlacementOptions()
    complete = complete_layers(routing)
    homes = complete.select("layer", "group", "expert", "expert_rank").unique()
    loads = expert_loads(complete).join(homes, on=["layer", "group", "expert"])
    return [
        _layer(layer, group, part.sort("step", "expert"), chosen)
        for (layer, group), part in loads.filter(pl.col("layer").is_not_null())
        .sort("layer", "group")
        .partition_by("layer", "group", as_dict=True, maintain_order=True)
        .items()
    ]


def advice(layers: Sequence[LayerPlacement], num_redundant: int, balanced_ms: float | None) -> PlacementAdvice | None:
    """The proposals in one figure; None without any. `balanced_ms`: worth of perfectly balanced experts.

    The saving is that worth times the part of the loads' excess over the mean that the proposal removes: expert time
    follows tokens, and a layer costs what its fullest rank has beyond the mean.
    """
    if not layers:
        return None
    before = sum(layer.before for layer in layers) / len(layers)
    after = sum(layer.after for layer in layers) / len(layers)
    removed = (before - after) / (before - 1) if before > 1 else 0.0
    return PlacementAdvice(
        rank_load_before=before,
        rank_load_after=after,
        held_out=all(len(layer.loads) > 1 for layer in layers),
        num_redundant=num_redundant,
        saved_ms=None if balanced_ms is None else balanced_ms * removed,
        num_moved=sum(layer.num_moved for layer in layers),
    )


def placement_file(layers: Sequence[LayerPlacement], num_redundant: int) -> dict[str, Any]:
    """The proposals as plain data for a training job.

    Per layer and expert group: `rank_experts` (experts of every rank of `group`, slot by slot), `physical_to_logical` (the
    same in one list), `logical_to_physical` (slots of every expert) and `num_replicas`.
    """
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "num_redundant": num_redundant,
        "layers": [_plain(layer) for layer in layers],
    }


def _layer(layer: object, group: object, part: pl.DataFrame, options: PlacementOptions) -> LayerPlacement:
    members = tuple(int(rank) for rank in str(group).split(","))
    steps = tuple(tuple(step["tokens"]) for step in part.partition_by("step", maintain_order=True))
    num_experts = part["expert"].n_unique()
    if any(len(step) != num_experts for step in steps):
        raise DomainError(
            f"the {num_experts} experts of layer {layer} are not the same, or not in the same place, in every step",
            "capture routing records of whole steps, with one placement",
        )
    num_ranks = options.num_ranks or len(members)

    def place(loads: Sequence[float]) -> Placement:
        return balanced_placement(
            loads,
            num_ranks,
            num_redundant=options.num_redundant,
            num_groups=options.num_groups,
            num_nodes=options.num_nodes,
        )

    homes = part.select("expert", "expert_rank").unique().sort("expert")
    current = Placement(tuple(tuple(homes.filter(pl.col("expert_rank") == rank)["expert"]) for rank in members))
    summed = [float(sum(loads)) for loads in zip(*steps, strict=True)]
    judged = [place(_others(steps, i) or summed).max_over_mean(step) for i, step in enumerate(steps)]
    before, after = (sum(values) / len(steps) for values in ([current.max_over_mean(step) for step in steps], judged))
    kept = after >= before and num_ranks == len(members) and not options.num_redundant
    return LayerPlacement(
        layer=int(str(layer)),
        group=members,
        loads=steps,
        proposed=current if kept else place(summed),
        current=current,
        before=before,
        after=before if kept else after,
    )


def _others(steps: Sequence[Sequence[int]], left_out: int) -> list[float]:
    """Loads summed over all steps but one; empty if it is the only one."""
    kept = [loads for i, loads in enumerate(steps) if i != left_out]
    return [float(sum(loads)) for loads in zip(*kept, strict=True)]


def _plain(layer: LayerPlacement) -> dict[str, Any]:
    ranks = layer.proposed.experts_of_rank
    slots = [expert for experts in ranks for expert in experts]
    counts = layer.proposed.num_replicas
    return {
        "layer": layer.layer,
        "group": list(layer.group),
        "rank_experts": [list(experts) for experts in ranks],
        "physical_to_logical": slots,
        "logical_to_physical": [[i for i, e in enumerate(slots) if e == expert] for expert in counts],
        "num_replicas": list(counts.values()),
        "rank_load_max_over_mean": {"before": layer.before, "after": layer.after},
        "held_out": len(layer.loads) > 1,
        "num_steps": len(layer.loads),
    }
