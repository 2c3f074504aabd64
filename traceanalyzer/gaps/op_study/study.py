"""The what-if study of stragglers: slowdowns of op tables under its published definitions.

Lin et al., Understanding Stragglers in Large Model Training Using What-if Analysis (OSDI 2025, arXiv 2505.05713):

* T: the step replayed from durations alone; a communication ends its own transfer after the last member has started.
* T_ideal: the same with every computation at the mean of its kind and every communication at the median of its kind,
  over replicas, stages and steps.
* S = T ÷ T_ideal (Eq. 1). S_t: T_ideal with the operations of kind t as measured, ÷ T_ideal (Eq. 2); likewise of a stage
  or a replica. S_w of a worker: the smaller of its replica's and its stage's (Eq. 4, approximated as in the artifact).
* M_W = (T − T with the slowest 3% of workers ideal) ÷ (T − T_ideal) (Eq. 5); M_S the same for the last stage.

All are ratios of means over steps. They do not add up. T leaves out what passes between an operation's needs being there
and its start: launch delays. What they add is distinguished: replayed with them, the step must be the measured one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.errors import InputError
from traceanalyzer.gaps.op_study.graph import CLIP, EMBEDDING, P2P, REPLICATED, Node, OpGraph, op_graph
from traceanalyzer.gaps.replay import replay

SLOWEST_SHARE = 0.03
MAX_CLOCK_ERROR_NS = 10_000_000
"""A communication that ends this much before its last member started is taken as instantaneous (as in the artifact)."""
MIN_LAUNCH_SLOWDOWN = 1e-4
"""Kinds whose launch delays lengthen the step by less are not listed."""

Values = npt.NDArray[np.float64]
"""Nanoseconds, steps × replicas."""

_BY_MEDIAN = (*P2P, *REPLICATED, "layernorm-grads-all-reduce", EMBEDDING, CLIP)
_MERGED = {kind: f"{kind.split('-')[0]}-pp-comm" for kind in P2P}


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Slowdowns of one op table; ratios of means over steps."""

    measured_ns: dict[int, float]
    """Step to length: first start to last end."""
    replayed_ns: dict[int, float]
    """T."""
    ideal_ns: float
    """T_ideal."""
    slowdown: float
    """S."""
    by_kind: dict[str, float]
    by_stage: dict[int, float]
    by_replica: dict[int, float]
    by_rank: dict[int, float]
    slowest_workers_share: float | None
    """M_W; None if nothing is slow."""
    last_stage_share: float | None
    """M_S."""
    launched_ns: dict[int, float]
    """The step replayed with durations and measured launch delays."""
    launches_by_kind: dict[str, float]
    """T with the launch delays of one kind ÷ T; kinds whose delays lengthen the step."""

    @property
    def launch_slowdown(self) -> float:
        """Measured steps ÷ T (the artifact's figure of the same name)."""
        return sum(self.measured_ns.values()) / sum(self.replayed_ns.values())

    @property
    def launched_errors(self) -> dict[int, float]:
        """|replayed with launch delays - measured| ÷ measured of every step: what no rule of the model explains."""
        return {step: abs(self.launched_ns[step] - ns) / ns for step, ns in self.measured_ns.items()}

    @property
    def replay_errors(self) -> dict[int, float]:
        """|replayed - measured| ÷ measured of every step."""
        return {step: abs(self.replayed_ns[step] - ns) / ns for step, ns in self.measured_ns.items()}

    @property
    def replay_error(self) -> float:
        """The same of the mean step."""
        measured = sum(self.measured_ns.values())
        return abs(sum(self.replayed_ns.values()) - measured) / measured


def what_if(ops: pl.DataFrame) -> WhatIf:
    """Replay `OPS` as measured, as ideal, and with parts of it ideal. Raises `InputError` if its rules do not fit."""
    return _Study(ops).result()


class _Study:
    """Durations of every operation of the model, by step and replica."""

    def __init__(self, ops: pl.DataFrame) -> None:
        self.graph: OpGraph = op_graph(ops)
        self.steps: list[int] = ops["step"].unique().sort().to_list()
        self.replicas: list[int] = ops["replica"].unique().sort().to_list()
        self.ranks = {
            (stage, replica): rank
            for stage, replica, rank in ops.select("stage", "replica", "rank").unique().iter_rows()
        }
        starts, lasting = self._columns(ops)
        self.duration = _transfers(self.graph, starts, lasting)
        self.delay = _launch_delays(self.graph, starts, lasting)
        self.measured = _measured(ops)
        self.ideal = self._ideal()
        self.ideal_ns = float(self._length(self.ideal).mean())

    def _columns(self, ops: pl.DataFrame) -> tuple[dict[Node, Values], dict[Node, Values]]:
        starts: dict[Node, Values] = {}
        lasting: dict[Node, Values] = {}
        shape = (len(self.steps), len(self.replicas))
        sorted_ops = ops.sort("step", "replica").partition_by("kind", "sequence", "stage", as_dict=True)
        for key, rows in sorted_ops.items():
            node: Node = (str(key[0]), int(str(key[1])), int(str(key[2])))
            if rows.height != shape[0] * shape[1] or node not in self.graph.needs:
                raise InputError(
                    f"operation {node[0]} {node[1]} of stage {node[2]} is there {rows.height} times in "
                    f"{shape[0]} steps of {shape[1]} replicas",
                    "give steps that have the same operations on every replica",
                )
            starts[node] = rows["start_ns"].to_numpy().astype(np.float64).reshape(shape)
            lasting[node] = rows["duration_ns"].to_numpy().astype(np.float64).reshape(shape)
        return starts, lasting

    def _ideal(self) -> dict[Node, Values]:
        by_kind: dict[str, list[Values]] = {}
        for node, values in self.duration.items():
            by_kind.setdefault(node[0], []).append(values)
        typical = {
            kind: (np.median if kind in _BY_MEDIAN else np.mean)(np.stack(each)) for kind, each in by_kind.items()
        }
        return {node: np.full_like(values, typical[node[0]]) for node, values in self.duration.items()}

    def _length(self, durations: Mapping[Node, Values], delays: Mapping[Node, Values] | None = None) -> Values:
        """Length of every step; `delays`: between what an operation needs and its start, nothing where it lacks one."""
        shape, count = (len(self.steps), len(self.replicas)), len(self.graph.needs)
        weights = np.zeros((len(self.graph.replayed.needs), *shape))
        for place, node in enumerate(self.graph.needs):
            weights[count + place] = durations[node]
            if delays is not None and node in delays:
                weights[place] = delays[node]
        ends = replay(self.graph.replayed, weights, self.graph.meetings)[count : 2 * count]
        return ends.max(axis=(0, 2))

    def _mixed(
        self, base: Mapping[Node, Values], other: Mapping[Node, Values], chosen: Mapping[Node, npt.NDArray[np.bool_]]
    ) -> float:
        """Mean step of `base` with the chosen replicas of some operations taken from `other`."""
        mixed = {
            node: np.where(chosen[node], other[node], values) if node in chosen else values
            for node, values in base.items()
        }
        return float(self._length(mixed).mean())

    def _of_workers(self, workers: set[tuple[int, int]]) -> dict[Node, npt.NDArray[np.bool_]]:
        """Operations of (stage, replica) workers."""
        return {
            node: np.array([(node[2], replica) in workers for replica in self.replicas])
            for node in self.duration
            if any((node[2], replica) in workers for replica in self.replicas)
        }

    def result(self) -> WhatIf:
        lengths = self._length(self.duration)
        whole = float(lengths.mean())
        everyone = np.full(len(self.replicas), fill_value=True)
        kinds = sorted({_MERGED.get(node[0], node[0]) for node in self.duration})
        stages = sorted({node[2] for node in self.duration})

        def alone(chosen: Mapping[Node, npt.NDArray[np.bool_]]) -> float:
            return self._mixed(self.ideal, self.duration, chosen) / self.ideal_ns

        by_stage = {stage: alone({node: everyone for node in self.duration if node[2] == stage}) for stage in stages}
        by_replica = {
            replica: alone(self._of_workers({(stage, replica) for stage in stages})) for replica in self.replicas
        }
        by_rank = {
            rank: min(by_stage[stage], by_replica[replica]) for (stage, replica), rank in sorted(self.ranks.items())
        }
        return WhatIf(
            measured_ns=dict(zip(self.steps, self.measured, strict=True)),
            replayed_ns={step: float(length) for step, length in zip(self.steps, lengths, strict=True)},
            ideal_ns=self.ideal_ns,
            slowdown=whole / self.ideal_ns,
            by_kind={
                kind: alone({node: everyone for node in self.duration if _MERGED.get(node[0], node[0]) == kind})
                for kind in kinds
            },
            by_stage=by_stage,
            by_replica=by_replica,
            by_rank=dict(sorted(by_rank.items())),
            slowest_workers_share=self._explained(whole, self._of_workers(self._slowest(by_rank))),
            last_stage_share=self._explained(
                whole, {node: everyone for node in self.duration if node[2] == stages[-1]}
            ),
            launched_ns=dict(zip(self.steps, self._length(self.duration, self.delay).tolist(), strict=True)),
            launches_by_kind=self._launches_by_kind(whole),
        )

    def _launches_by_kind(self, whole: float) -> dict[str, float]:
        found: dict[str, float] = {}
        for kind in sorted({node[0] for node in self.delay}):
            of_kind = {node: values for node, values in self.delay.items() if node[0] == kind}
            slowdown = float(self._length(self.duration, of_kind).mean()) / whole
            if slowdown > 1 + MIN_LAUNCH_SLOWDOWN:
                found[kind] = slowdown
        return found

    def _slowest(self, by_rank: Mapping[int, float]) -> set[tuple[int, int]]:
        """The slowest 3% of workers, at least one; the lowest rank first among equals."""
        count = -(-len(by_rank) * round(100 * SLOWEST_SHARE) // 100)
        chosen = sorted(by_rank, key=lambda rank: (-by_rank[rank], rank))[:count]
        return {worker for worker, rank in self.ranks.items() if rank in chosen}

    def _explained(self, whole: float, chosen: Mapping[Node, npt.NDArray[np.bool_]]) -> float | None:
        lost = whole - self.ideal_ns
        return (whole - self._mixed(self.duration, self.ideal, chosen)) / lost if lost > 0 else None


def _transfers(graph: OpGraph, starts: Mapping[Node, Values], lasting: Mapping[Node, Values]) -> dict[Node, Values]:
    """What a replay needs of every operation: its duration, of a communication its part after the last member's start."""
    result = dict(lasting)
    for group in graph.groups:
        last = np.maximum.reduce([starts[node] for node in group])
        if group[0] in graph.synchronised:
            last = np.broadcast_to(last.max(axis=1, keepdims=True), last.shape)
        for node in group:
            transfer = starts[node] + lasting[node] - last
            result[node] = np.where(transfer <= -MAX_CLOCK_ERROR_NS, 0.0, transfer)
    return result


def _launch_delays(graph: OpGraph, starts: Mapping[Node, Values], lasting: Mapping[Node, Values]) -> dict[Node, Values]:
    """From the last end of what an operation needs (else the step's first start) to its start; 0 if it starts before."""
    begin = np.minimum.reduce(list(starts.values())).min(axis=1, keepdims=True)
    delays: dict[Node, Values] = {}
    for node in graph.needs:
        needed = np.broadcast_to(begin, starts[node].shape)
        for before in graph.needs[node]:
            needed = np.maximum(needed, starts[before] + lasting[before])
        delays[node] = np.maximum(0.0, starts[node] - needed)
    return delays


def _measured(ops: pl.DataFrame) -> list[float]:
    end = (pl.col("start_ns") + pl.col("duration_ns")).max()
    lengths = ops.group_by("step").agg((end - pl.col("start_ns").min()).alias("ns")).sort("step")
    return [float(length) for length in lengths["ns"]]
