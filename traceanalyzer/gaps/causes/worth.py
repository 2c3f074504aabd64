"""What a remedy would save: the step replayed with and without one cause.

A replay knows durations, each rank's order and the dependency edges, never measured starts: durations of actions, what
messages took, and proven host delays. Every remedy is replayed alone; savings do not add up and may be negative. Where
the replay with everything in place misses the measured steps by more than 2%, worth is withheld. Pipelines are replayed one
by one: where their ranks wait for each other inside actions, what other computation times would save is not replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from traceanalyzer.gaps.causes.blame import DURATION_PARTS, Blamed
from traceanalyzer.gaps.causes.graph import DependencyGraph, Vector, replay
from traceanalyzer.review.vocabulary import PipelineCause

MAX_REPLAY_ERROR = 0.02
MIN_CAUSE_SHARE = 0.002
"""Causes below this share of the step are not replayed one by one."""
COMPUTATION = ("stage", "straggler", "overlap_dp", "jitter")
"""Causes that are computation inside actions."""
EVENED = "even the stages to their mean"


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing that could be put right."""

    title: str
    cause: PipelineCause
    rank: int | None = None
    stage: int | None = None


@dataclass(frozen=True, slots=True)
class Worth:
    """Savings per step, means over steps, in nanoseconds; a step is as long as its longest pipeline."""

    replay_error: float
    """|replay - measured| ÷ measured, of the mean step."""
    savings: tuple[tuple[Remedy, float], ...]
    """Largest first; empty if the replay is too far off."""


def worth(
    steps: Sequence[tuple[DependencyGraph, Blamed]], attribution: pl.DataFrame, *, coupled: bool = False
) -> Worth:
    """Replay every remedy that `attribution` (`ATTRIBUTION` of the same steps) gives a reason for.

    `coupled` says that ranks of different pipelines wait for each other inside actions: remedies of computation are left
    out.
    """
    remedies = [each for each in _remedies(steps, attribution) if not (coupled and each.cause in COMPUTATION)]
    lengths: dict[int, list[npt.NDArray[np.int64]]] = {}
    measured: dict[int, int] = {}
    for graph, blamed in steps:
        step = int(graph.actions["step"][0])
        lengths.setdefault(step, []).append(_lengths(graph, blamed, remedies))
        measured[step] = max(measured.get(step, 0), blamed.measured_ns)
    mean = np.mean([np.max(each, axis=0) for each in lengths.values()], axis=0)
    whole = float(np.mean(list(measured.values())))
    error = abs(float(mean[0]) - whole) / whole
    if error > MAX_REPLAY_ERROR:
        return Worth(error, ())
    savings = [(remedy, float(mean[0] - length)) for remedy, length in zip(remedies, mean[1:], strict=True)]
    return Worth(error, tuple(sorted(savings, key=lambda saving: -saving[1])))


def _remedies(steps: Sequence[tuple[DependencyGraph, Blamed]], attribution: pl.DataFrame) -> Iterator[Remedy]:
    """What is worth replaying: stages that are slow, ranks and causes that cost something."""
    actions = pl.concat([graph.actions.select("rank", "stage", "stage_ns", "duration_ns") for graph, _ in steps])
    by_stage = actions.group_by("stage").agg(pl.col("stage_ns").sum(), pl.col("duration_ns").sum()).sort("stage")
    slow = by_stage.filter(pl.col("stage_ns") > MIN_CAUSE_SHARE * pl.col("duration_ns"))
    if not slow.is_empty():
        yield Remedy(EVENED, "stage")
    for stage in slow["stage"]:
        yield Remedy(
            f"repair stage {stage}: its actions take the median of the other stages", "stage", stage=int(stage)
        )
    held = (
        actions.filter(pl.col("stage").is_in(slow["stage"].to_list())).group_by("rank").agg(pl.col("stage").n_unique())
    )
    for rank in held.filter(pl.col("stage") > 1)["rank"].sort():
        yield Remedy(f"repair rank {rank}: all its stages take the median of the other stages", "stage", rank=int(rank))
    least = MIN_CAUSE_SHARE * sum(blamed.measured_ns for _, blamed in steps)
    by_rank = attribution.group_by("cause", "culprit").agg(pl.col("duration_ns").sum()).sort("cause", "culprit")
    for cause, title in _BY_RANK.items():
        costly = by_rank.filter((pl.col("cause") == cause) & (pl.col("duration_ns") > least))
        for rank in costly["culprit"].drop_nulls():
            yield Remedy(title.format(rank=rank), cause, rank=int(rank))
    for cause, title in _OVERALL.items():
        cost = by_rank.filter(pl.col("cause") == cause)["duration_ns"].sum()
        if cost > least:
            yield Remedy(title, cause)


_BY_RANK: dict[PipelineCause, str] = {
    "straggler": "repair rank {rank}: it runs as fast as its stage's other ranks",
    "host": "let rank {rank} start and send when it can",
    "transfer": "free transfer of what rank {rank} sends",
    "chunk_comm": "communication inside the actions of rank {rank} at its median",
}
_OVERALL: dict[PipelineCause, str] = {
    "host": "let every rank start and send when it can",
    "transfer": "free transfer",
    "chunk_comm": "communication inside chunks at its median",
    "overlap_dp": "exchanges between replicas that do not slow the computation beside them",
    "jitter": "no jitter: every action takes its rank's median",
}


def _lengths(graph: DependencyGraph, blamed: Blamed, remedies: Sequence[Remedy]) -> npt.NDArray[np.int64]:
    """Length of one pipeline step as it is, then with each remedy alone."""
    table = _Costs.of(graph, blamed)
    scenarios = [table.without(None), *(table.without(remedy) for remedy in remedies)]
    durations, messages, delays, exchanges = (np.stack(each, axis=1) for each in zip(*scenarios, strict=True))
    return replay(graph, durations, messages, delays, exchanges).max(axis=0)


@dataclass(frozen=True, slots=True)
class _Costs:
    """Columns of one pipeline step, one number per action; `message_*` per message node."""

    rank: Vector
    stage: Vector
    phase: Vector
    duration: Vector
    stage_ns: Vector
    evened_ns: Vector
    parts: dict[str, Vector]
    late: Vector
    transfer: Vector
    host: Vector
    receiving: Vector
    source: Vector
    """Rank that sends what the node waits for; -1 without one."""
    message_source: Vector
    message_late: Vector
    """Rank of the end that came last."""
    message_host: Vector
    message_transfer: Vector

    @classmethod
    def of(cls, graph: DependencyGraph, blamed: Blamed) -> _Costs:
        actions = graph.actions
        names = [f"{part}_ns" for part in DURATION_PARTS]
        columns = {name: actions[name].to_numpy().astype(np.int64) for name in names}
        rank = actions["rank"].to_numpy().astype(np.int64)
        releaser = np.array(graph.releaser, dtype=np.int64)
        return cls(
            rank=rank,
            stage=actions["stage"].to_numpy().astype(np.int64),
            phase=actions["phase"].to_physical().to_numpy().astype(np.int64),
            duration=actions["duration_ns"].to_numpy().astype(np.int64),
            stage_ns=columns["stage_ns"],
            evened_ns=actions["evened_ns"].to_numpy().astype(np.int64),
            parts={name.removesuffix("_ns"): column for name, column in columns.items()},
            late=np.array(graph.late_ns, dtype=np.int64),
            transfer=np.array(graph.transfer_ns, dtype=np.int64),
            host=blamed.host_ns,
            receiving=blamed.receiving_ns,
            source=np.where(releaser >= 0, rank[releaser], -1),
            message_source=np.array(graph.messages.source, dtype=np.int64),
            message_late=np.array(graph.messages.late_rank, dtype=np.int64),
            message_host=blamed.message_host_ns,
            message_transfer=blamed.message_transfer_ns,
        )

    def without(self, remedy: Remedy | None) -> tuple[Vector, Vector, Vector, Vector]:
        """Durations, messages, delays and exchanges (see `replay`) with one remedy in place."""
        duration, late, transfer, host, receiving = self.duration, self.late, self.transfer, self.host, self.receiving
        if remedy is None:
            return duration, late + transfer, host + receiving, self.message_host + self.message_transfer
        exchanged = self._exchanges(remedy)
        cause, everyone = remedy.cause, remedy.rank is None
        own = (self.rank == remedy.rank) | everyone
        sent = (self.source == remedy.rank) | everyone
        if remedy.title == EVENED:
            duration = duration - self.stage_ns + self.evened_ns
        elif cause == "stage":
            duration = duration - self._beyond_others(own if remedy.stage is None else self.stage == remedy.stage)
        elif cause in DURATION_PARTS:
            duration = duration - self.parts[cause] * own
        elif cause == "host":
            host, late = host * ~own, late * ~sent
        elif cause == "transfer":
            transfer, receiving = transfer * ~sent, receiving * ~sent
        return duration, late + transfer, host + receiving, exchanged

    def _beyond_others(self, mine: npt.NDArray[np.bool_]) -> Vector:
        """By how much the stages of `mine` are longer than the median of the others, by phase; 0 elsewhere.

        The median of all is no measure for one of two stages: it lies between them, wherever most actions happen to be.
        """
        beyond = np.where(mine, self.stage_ns, 0)
        for phase in np.unique(self.phase):
            of_phase = self.phase == phase
            others = of_phase & ~np.isin(self.stage, self.stage[mine])
            levels = [
                float(np.mean(self.stage_ns[others & (self.stage == each)])) for each in np.unique(self.stage[others])
            ]
            if levels:
                beyond[of_phase & mine] -= round(float(np.median(levels)))
        return beyond

    def _exchanges(self, remedy: Remedy) -> Vector:
        """What message nodes take with the remedy in place."""
        everyone = remedy.rank is None
        host, transfer = self.message_host, self.message_transfer
        if remedy.cause == "host":
            host = host * ~((self.message_late == remedy.rank) | everyone)
        elif remedy.cause == "transfer":
            transfer = transfer * ~((self.message_source == remedy.rank) | everyone)
        return host + transfer


def with_evened(actions: pl.DataFrame) -> pl.DataFrame:
    """Add `duration_ns` and `evened_ns`, the mean over stages of `stage_ns` of the same phase."""
    means = actions.group_by("phase", "stage").agg(pl.col("stage_ns").mean()).group_by("phase").agg(
        pl.col("stage_ns").mean().round().cast(pl.Int64).alias("evened_ns")
    )  # fmt: skip
    duration = (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns")
    return actions.with_columns(duration).join(means, on="phase", how="left", maintain_order="left")
