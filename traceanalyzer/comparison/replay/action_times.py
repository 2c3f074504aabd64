"""Programs of pipelines without device kernels (CPU runs, op tables, marks): actions, messages on their way, late starts.

The same form as of device programs: an action is a segment; its message is the transfer of its segment. A step is its
longest pipeline phase and what passes beside it, which no piece explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from traceanalyzer.comparison.replay.program_times import PARTS, SEGMENT, ProgramTimes, medians
from traceanalyzer.comparison.side import Side
from traceanalyzer.errors import InputError
from traceanalyzer.gaps.causes.graph import NONE, DependencyGraph, dependency_graph, with_arrivals
from traceanalyzer.gaps.culprits.program_graph import NO_LAUNCH, NODES, ProgramGraph
from traceanalyzer.gaps.replay import replay_graph
from traceanalyzer.measurements.efficiency.mfu import step_durations
from traceanalyzer.schema import RECEIVES, conform

MAX_ACTIONS = 100_000
_NOBODY = -1
"""In place of the rank of what belongs to the whole step."""
_NAMES = {"F": "forward", "B": "backward", "I": "input gradient", "W": "weight gradient"}
_OPERATIONS = {
    "rank": pl.Int64, "step": pl.Int64, "place": pl.Int64, "kind": pl.String, "role": pl.String, "direction": pl.String, "members": pl.String,
}  # fmt: skip


@dataclass(slots=True)
class _Building:
    hosts: frozenset[int]
    """Ranks whose host was recorded: their late starts are the host's, others' have no recorded reason."""
    needs: list[list[int]] = field(default_factory=list[list[int]])
    rows: list[tuple[int, ...]] = field(default_factory=list[tuple[int, ...]])
    operations: list[tuple[int, int, int, str, str, str, str | None]] = field(
        default_factory=list[tuple[int, int, int, str, str, str, str | None]]
    )

    def add(self, needs: list[int], place: tuple[int, int, int], parts: tuple[int, int, int, int]) -> int:
        """A node of a rank, step and place that computes, starts late by its host, starts late, and transfers."""
        self.needs.append(needs)
        self.rows.append((*place, *parts, 0, 0))
        return len(self.needs) - 1


def action_times(side: Side) -> ProgramTimes | None:
    """The program of a side from its actions; None without a pipeline, or where its actions cannot be put in order."""
    lengths = {int(step): int(ns) for step, ns in step_durations(side.windows).iter_rows()}
    actions = _actions(side, list(lengths))
    if actions.is_empty() or actions.height > MAX_ACTIONS or actions.select("rank", "step").unique().height < 2:
        return None
    hosts = side.table("accounting").filter((pl.col("owner").cast(pl.String) == "host") & (pl.col("duration_ns") > 0))
    building, ends = _Building(frozenset(hosts["rank"].unique())), dict[tuple[int, int], int]()
    before: list[int] = []
    for (step,), rows in sorted(actions.partition_by("step", as_dict=True).items()):
        number = int(str(step))
        try:
            last, phase = _add_step(building, rows, before)
        except InputError:
            return None
        rest = building.add(last, (_NOBODY, number, 0), (0, 0, lengths[number] - phase, 0))
        ends[number, _NOBODY] = rest
        before = [rest]
    graph = replay_graph(building.needs)
    if graph is None:
        return None
    schema = {name: dtype for name, dtype in NODES.items() if name != "node"}
    nodes = pl.DataFrame(building.rows, schema=schema, orient="row").with_row_index("node").cast({"node": pl.Int64})
    steps = sorted(lengths)
    unlaunched = np.full(nodes.height, NO_LAUNCH, dtype=np.int64)  # no device waits for a launch here
    return _times(ProgramGraph(nodes, graph, ends, unlaunched), building, actions, steps, tuple(side.step_lengths_ns))


def _times(
    graph: ProgramGraph, building: _Building, actions: pl.DataFrame, steps: list[int], measured: tuple[int, ...]
) -> ProgramTimes:
    nodes = graph.nodes.with_columns(pl.col("operation").alias("place"))
    own = nodes.filter(pl.col("rank") != _NOBODY).group_by("rank", "step", "place").agg(pl.col(PARTS).sum())
    operations = pl.DataFrame(building.operations, schema=_OPERATIONS, orient="row")
    by_step = (
        operations.sort("rank", "step", "place")
        .group_by("rank", "step")
        .agg((pl.col("kind") + pl.col("direction")).str.join(";").alias("kind"))
    )
    return ProgramTimes(
        graph=graph,
        nodes=nodes,
        operations=operations.group_by("rank", "place")
        .agg(pl.col("kind", "role", "direction", "members").first(), pl.len().cast(pl.Int64).alias("number"))
        .with_columns(
            pl.lit(value=False).alias("is_experts"),
            pl.lit(None, pl.Float64).alias("bytes"), pl.lit(None, pl.Float64).alias("received_bytes"),
        )
        .sort(SEGMENT),
        segments=medians(own, SEGMENT, PARTS, steps),
        cells=_cells(actions, steps),
        measured_ns=measured,
        is_steady=bool((by_step.group_by("rank").agg(pl.col("kind").n_unique())["kind"] == 1).all()),
    )  # fmt: skip


def _actions(side: Side, steps: list[int]) -> pl.DataFrame:
    """Actions of typical steps with `pipeline`, `place` in the rank's step, and when their messages came."""
    pipelines = side.table("bubble").select("rank", "step", "pipeline").unique()
    actions = side.table("actions").filter(pl.col("step").is_in(steps) & pl.col("stage").is_not_null())
    received = side.table("p2p").filter(
        (pl.col("direction").cast(pl.String) == "receive") & pl.col("end_ns").is_not_null()
    )
    placed = actions.join(pipelines, on=["rank", "step"], how="inner")
    arrived = with_arrivals(placed, conform(received, RECEIVES))
    return arrived.sort("rank", "start_ns").with_columns(pl.int_range(pl.len()).over("rank", "step").alias("place"))


def _add_step(building: _Building, rows: pl.DataFrame, before: list[int]) -> tuple[list[int], int]:
    """Nodes of all pipelines of a step; its last nodes and its longest phase."""
    lasts: list[int] = []
    phases: list[int] = []
    for _, pipeline in sorted(rows.partition_by("pipeline", as_dict=True).items()):
        graph = dependency_graph(pipeline)
        nodes = _add_pipeline(building, graph, before)
        starts, ends = (graph.actions[name].to_numpy() for name in ("start_ns", "end_ns"))
        phases.append(int(ends.max() - starts.min()))
        lasts += nodes
    return lasts, max(phases)


def _add_pipeline(building: _Building, graph: DependencyGraph, before: list[int]) -> list[int]:
    columns = ("rank", "step", "place", "start_ns", "end_ns")
    rank, step, place, start, end = (graph.actions[name].to_list() for name in columns)
    phase: list[str] = graph.actions["phase"].cast(pl.String).to_list()
    origin, nodes = min(start), dict[int, int]()
    for at in graph.topological:
        previous, source = graph.previous[at], graph.releaser[at]
        needs = [nodes[previous]] if previous != NONE else list(before)
        free_at = end[previous] if previous != NONE else origin
        key = (rank[at], step[at], place[at])
        if source != NONE:
            late_ns = graph.late_ns[at]
            by_host = (0, late_ns, 0, 0) if rank[source] in building.hosts else (0, 0, late_ns, 0)
            late = building.add([nodes[source]], (rank[source], step[source], place[source]), by_host)
            needs.append(building.add([late], key, (0, 0, 0, graph.transfer_ns[at])))
            free_at = max(free_at, end[source] + graph.late_ns[at] + graph.transfer_ns[at])
        receiving = min(graph.receiving_ns[at], max(0, start[at] - free_at))
        delay = max(0, start[at] - free_at - receiving)
        host, other = (delay, 0) if rank[at] in building.hosts else (0, delay)
        nodes[at] = building.add(needs, key, (end[at] - start[at], host, other, receiving))
        members = None if source == NONE else f"{rank[source]},{rank[at]}"
        kind = _NAMES[phase[at]] if source == NONE else "send_recv"
        building.operations.append((*key, kind, "pp", phase[at], members))
    return list(nodes.values())


def _cells(actions: pl.DataFrame, steps: list[int]) -> pl.DataFrame:
    names: Mapping[str, str] = _NAMES
    rows = actions.select(
        pl.col("rank", "step", "place").cast(pl.Int64),
        pl.col("phase").cast(pl.String).replace_strict(names, return_dtype=pl.String).alias("key"),
        (pl.col("end_ns") - pl.col("start_ns")).alias("ns"),
    ).with_columns(pl.col("key").alias("kernel"), pl.lit(None, pl.String).alias("shape"))
    keys = ["rank", "place", "key", "kernel", "shape"]
    counts = rows.group_by(keys).agg((pl.len() / len(steps)).alias("number"))
    return medians(rows, keys, ["ns"], steps).join(counts, on=keys, how="left", nulls_equal=True, maintain_order="left")
