"""Who made a step longer than its ideal: one forward pass over the dependency graph, exact to the nanosecond.

The *ideal* runs the measured order with every action at the median duration of its kind, free transfer and no host
delay. Every node carries how much later it ended than in the ideal, split by cause and culprit rank:

* it takes over the split of whatever it waited for last (its *binding* predecessor; at a tie its own rank);
* where the ideal had slack at this point, lateness that the slack absorbs is taken off its positive parts pro rata;
* a message adds `transfer` on its source, and `host` on its source for what passed between its end and the sending
  (a receive that is posted only after the sending delays its own rank; what it takes then is `transfer` as well);
* where messages are nodes (device ranks), they wait like actions do: for their producer, for either end's rank, for the
  messages before them on their streams. Then `host` is what passed before the late end's launch, at most; all else of
  them is `transfer` on their source;
* an input from a stage that was not captured starts anew: all lateness at its arrival is `outside_sample`, and as the ideal
  knows no waiting for such stages, the schedule's own waiting for them is in it;
* starting later than possible is `host` where the launch is known to be late (on CPU traces always: the main thread is
  the device, and outside receives it is the host's), else `unexplained`;
* a duration beyond the ideal's is `stage` (median of the stage) + `straggler` (median of the rank beyond its stage's;
  distinguished with three or more replicas only, else all of it is `stage`) + `chunk_comm` + `overlap_dp` + `jitter`.
  Medians are of actions beside which replicas exchange nothing, where a kind has such; what the others take beyond is
  `overlap_dp`.

The split of the last end is the step's: it sums to measured - ideal. What each rank's waiting adds on the way is the blame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from traceanalyzer.gaps.causes.graph import NONE, DependencyGraph, Vector, replay
from traceanalyzer.schema import ATTRIBUTION, BLAME, CAUSE, conform
from traceanalyzer.tables.steps.typical import MAD_TO_SIGMA

MIN_REPLICAS = 3
"""Ranks that hold the same stage before one of them can be called a straggler against the others."""
CHANCE_ERRORS = 3.0
"""Standard errors of its own median within which a rank is not a straggler."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median of normal values, over that of their mean."""

_CAUSES: list[str] = CAUSE.categories.to_list()
_ROW = {cause: row for row, cause in enumerate(_CAUSES)}
DURATION_PARTS = ("stage", "straggler", "chunk_comm", "overlap_dp", "jitter")
_KEYS = ["pipeline", "step"]


@dataclass(frozen=True, slots=True)
class Blamed:
    """One pipeline step: measured length = ideal + attribution."""

    measured_ns: int
    """First action's start to last action's end."""
    ideal_ns: int
    ideal_ends: Vector
    """End of every node in the ideal, from 0."""
    host_ns: Vector
    """Of every node: the host's part between its inputs being there and its start."""
    receiving_ns: Vector
    """Of every node: the part that a receive took there whose message had been sent before it was posted."""
    message_host_ns: Vector
    """Of every message node: the late end's host's part between its needs being there and its start."""
    message_transfer_ns: Vector
    """Of every message node: all else from its needs being there to its end."""
    attribution: pl.DataFrame
    """`ATTRIBUTION`."""
    blame: pl.DataFrame
    """`BLAME`."""


def with_duration_parts(actions: pl.DataFrame) -> pl.DataFrame:
    """Add `base_ns`, a column for each of `DURATION_PARTS`, and `separable`.

    `actions` is `ACTIONS` of all pipelines and steps, optionally with what `action_communication.with_communication` adds.
    `base_ns` is the median duration of the kind (phase) over microbatches, steps and stages; the parts sum to the duration
    less it. `separable` says whether the stage has enough replicas to tell stragglers.
    """
    duration = pl.col("end_ns") - pl.col("start_ns")
    frame = actions if "comm_ns" in actions.columns else actions.with_columns(pl.lit(0, pl.Int64).alias("comm_ns"))
    if "overlaps_dp" not in frame.columns:
        frame = frame.with_columns(pl.lit(value=False).alias("overlaps_dp"))
    parts = frame.with_columns(
        (duration - pl.col("comm_ns")).alias("_compute"),
        (pl.col("rank").n_unique().over("stage") >= MIN_REPLICAS).alias("separable"),
    ).with_columns(
        _median("_compute", "phase").alias("_base"),
        _median("comm_ns", "phase").alias("_base_comm"),
        _median("_compute", "phase", "stage").alias("_of_stage"),
        _median("_compute", "phase", "stage", "rank").alias("_of_rank"),
        (~pl.col("overlaps_dp")).any().over("phase", "stage", "rank").alias("_some_free"),
    )
    of_stage = pl.when("separable").then("_of_stage").otherwise("_of_rank")
    parts = parts.with_columns(pl.when(_by_chance()).then("_of_stage").otherwise("_of_rank").alias("_of_rank"))
    rest, slowed = pl.col("_compute") - pl.col("_of_rank"), pl.col("overlaps_dp") & pl.col("_some_free")
    return parts.with_columns(
        (pl.col("_base") + pl.col("_base_comm")).alias("base_ns"),
        (of_stage - pl.col("_base")).alias("stage_ns"),
        (pl.col("_of_rank") - of_stage).alias("straggler_ns"),
        (pl.col("comm_ns") - pl.col("_base_comm")).alias("chunk_comm_ns"),
        pl.when(slowed).then(rest).otherwise(0).alias("overlap_dp_ns"),
        pl.when(slowed).then(0).otherwise(rest).alias("jitter_ns"),
    ).drop("_compute", "_base", "_base_comm", "_of_stage", "_of_rank", "_some_free")


def _by_chance() -> pl.Expr:
    """Whether replicas separate a rank from its stage by no more than how its own equal actions vary: then it is jitter."""
    own = ("phase", "stage", "rank")
    spread = MAD_TO_SIGMA * (pl.col("_compute") - pl.col("_of_rank")).abs().median().over(own)
    allowed = CHANCE_ERRORS * MEDIAN_ERROR * spread / pl.len().over(own).sqrt()
    return pl.col("separable") & ((pl.col("_of_rank") - pl.col("_of_stage")).abs() <= allowed)


def base_times(actions: pl.DataFrame) -> dict[str, int]:
    """What the ideal gives every action of a phase, in nanoseconds, by phase letter: the medians of the attribution."""
    kinds = with_duration_parts(actions).group_by(pl.col("phase").cast(pl.String)).agg(pl.col("base_ns").first())
    return dict(kinds.iter_rows())


def _median(column: str, *keys: str) -> pl.Expr:
    """Over actions beside which replicas exchange nothing; over all where there are none."""
    free = pl.col(column).filter(~pl.col("overlaps_dp")).median().over(keys)
    return pl.coalesce(free, pl.col(column).median().over(keys)).round().cast(pl.Int64)


def blame(graph: DependencyGraph) -> Blamed:
    """Walk one pipeline step; its actions carry the columns of `with_duration_parts`.

    They may carry `launched_ns`, the end of the call that launched the action: host is then only what passed before
    it, the rest of a late start is unexplained. Without the column the main thread is the device, and all of it is host.
    """
    actions = graph.actions
    base = actions["base_ns"].to_numpy().astype(np.int64)
    ideal_ends = replay(graph, base[:, None])[:, 0]
    walk = _Walk(graph, ideal_ends, base)
    for node in graph.topological:
        if node < graph.num_actions:
            walk.visit(node)
        else:
            walk.exchange(node)
    ends = actions["end_ns"].to_numpy()
    last = min(np.flatnonzero(ends == ends.max()))
    final = walk.carried[last].copy()
    final[_ROW["slack"], walk.rank_of[last]] += int(ideal_ends[last] - ideal_ends.max())
    keys = {name: actions[name][0] for name in _KEYS}
    measured, ideal = int(ends.max() - walk.origin), int(ideal_ends.max())
    attribution = walk.table([(NONE, final)]).drop("waiter").with_columns([pl.lit(v).alias(n) for n, v in keys.items()])
    blamed = walk.table(list(enumerate(walk.waited))).with_columns([pl.lit(v).alias(n) for n, v in keys.items()])
    total = int(final.sum())
    assert total == measured - ideal, f"blame does not close: {total} of {measured - ideal} ns"  # noqa: S101 - our law
    return Blamed(
        measured_ns=measured,
        ideal_ns=ideal,
        ideal_ends=ideal_ends,
        host_ns=np.array(walk.hosts, dtype=np.int64),
        receiving_ns=np.array(walk.receiving, dtype=np.int64),
        message_host_ns=np.array(walk.message_hosts, dtype=np.int64),
        message_transfer_ns=np.array(walk.message_transfers, dtype=np.int64),
        attribution=conform(attribution, ATTRIBUTION),
        blame=conform(blamed, BLAME),
    )


class _Walk:
    """The forward pass: what every node carries, as causes × ranks (the last column: not captured)."""

    def __init__(self, graph: DependencyGraph, ideal_ends: Vector, base: Vector) -> None:
        actions = graph.actions
        self.ranks: list[int] = actions["rank"].unique().sort().to_list()
        position = {rank: at for at, rank in enumerate(self.ranks)}
        self.rank_of = [position[rank] for rank in actions["rank"]]
        self.origin = int(actions["start_ns"].to_numpy().min())
        messages = graph.messages
        self.carried: list[Vector] = [self._nothing()] * (len(base) + len(messages.source))
        self.waited = [self._nothing() for _ in self.ranks]
        self.hosts = [0] * len(base)
        self.receiving = [0] * len(base)
        self.message_hosts = [0] * len(messages.source)
        self.message_transfers = [0] * len(messages.source)
        self._graph = graph
        self._place = position
        self._starts: list[int] = (actions["start_ns"] - self.origin).to_list()
        self._ends: list[int] = (actions["end_ns"] - self.origin).to_list()
        self._ends += [end - self.origin for end in messages.end_ns]
        self._ideal_ends: list[int] = ideal_ends.tolist() + [0] * len(messages.source)
        self._ideal_starts: list[int] = (ideal_ends - base).tolist()
        self._parts = actions.select([f"{part}_ns" for part in DURATION_PARTS]).rows()
        launched = "launched_ns" in actions.columns
        self._launched = (actions["launched_ns"] - self.origin).to_list() if launched else self._starts
        received = "received_ns" in actions.columns
        self._received = (actions["received_ns"] - self.origin).to_list() if received else [None] * len(base)
        self._has_receives = [False] * len(self.ranks)
        for rank, at in zip(self.rank_of, self._received, strict=True):
            self._has_receives[rank] |= at is not None

    def _nothing(self) -> Vector:
        return np.zeros((len(_CAUSES), len(self.ranks) + 1), dtype=np.int64)

    def visit(self, node: int) -> None:
        """Carry lateness from what bound the node, through its start, to its end."""
        rank = self.rank_of[node]
        arrival, split = self._binding(node)
        split = _shrunk(split, arrival - self._ideal_starts[node], rank)
        delay = self._starts[node] - arrival
        receiving = max(0, min(delay, self._graph.receiving_ns[node]))
        launched = self._launched[node]
        host = 0 if launched is None else max(0, min(self._starts[node], launched) - arrival - receiving)
        if receiving:
            split[_ROW["transfer"], self.rank_of[self._graph.releaser[node]]] += receiving
        self.receiving[node] = receiving
        self.hosts[node] = host
        split[_ROW["host"], rank] += host
        split[_ROW["unexplained"], rank] += delay - receiving - host
        before = self._graph.previous[node]
        self.waited[rank] += split - self.carried[before] if before != NONE else split
        end = split.copy()
        for part, value in zip(DURATION_PARTS, self._parts[node], strict=True):
            end[_ROW[part], rank] += value
        self.carried[node] = end

    def exchange(self, node: int) -> None:
        """Carry lateness through a message: it begins when both ends are there, and lasts until it has arrived."""
        messages, at = self._graph.messages, node - self._graph.num_actions
        needs = messages.needs[at]
        source = self._place[messages.source[at]]
        last = max(needs, key=lambda need: self._ends[need])
        arrival, start = self._ends[last], messages.start_ns[at] - self.origin
        ideal = max(self._ideal_ends[need] for need in needs)
        split = _shrunk(self.carried[last], arrival - ideal, source)
        launched = messages.launched_ns[at]
        host = 0 if launched is None else max(0, min(start, launched - self.origin) - arrival)
        rest = self._ends[node] - arrival - host
        split[_ROW["host"], self._place[messages.late_rank[at]]] += host
        split[_ROW["transfer"], source] += rest
        self.message_hosts[at], self.message_transfers[at] = host, rest
        self._ideal_ends[node] = ideal
        self.carried[node] = split

    def _binding(self, node: int) -> tuple[int, Vector]:
        """When the node's inputs were there, and the lateness of the one that came last."""
        graph, before, source = self._graph, self._graph.previous[node], self._graph.releaser[node]
        arrival = self._ends[before] if before != NONE else 0
        split = self.carried[before] if before != NONE else self._nothing()
        if node in graph.messages.awaited:
            last = max(graph.messages.awaited[node], key=lambda need: self._ends[need])
            if self._ends[last] > arrival or before == NONE:
                split = self.carried[last].copy()
                # What the order of messages costs even if they take no time is theirs as well.
                held = max(0, self._ideal_ends[last] - self._ideal_starts[node])
                split[_ROW["transfer"], self.rank_of[source]] += held
                return self._ends[last], split
        elif source != NONE:
            sent = self._ends[source] + graph.late_ns[node]
            there = sent + graph.transfer_ns[node]
            if there > arrival or before == NONE:
                split = self.carried[source].copy()
                split[_ROW["host"], self.rank_of[source]] += graph.late_ns[node]
                split[_ROW["transfer"], self.rank_of[source]] += graph.transfer_ns[node]
                return there, split
        elif graph.unobserved[node]:
            received = self._received[node]
            # A receive that is not in the gap before the action was over before: the input was there already.
            unknown = arrival if self._has_receives[self.rank_of[node]] else self._starts[node]
            there = unknown if received is None else received
            if there > arrival:
                split = self._nothing()
                split[_ROW["outside_sample"], -1] = there - self._ideal_starts[node]
                return there, split
        return arrival, split

    def table(self, splits: list[tuple[int, Vector]]) -> pl.DataFrame:
        """Rows of every part that is not 0: `waiter`, `cause`, `culprit`, `duration_ns`."""
        rows: list[tuple[int | None, str, int | None, int]] = []
        for waiter, split in splits:
            for at in np.flatnonzero(split).tolist():
                cause, culprit = divmod(int(at), split.shape[1])
                who = self.ranks[culprit] if culprit < len(self.ranks) else None
                rows.append((self.ranks[waiter], _CAUSES[cause], who, int(split[cause, culprit])))
        schema = {name: BLAME[name] for name in ("waiter", "cause", "culprit", "duration_ns")}
        return pl.DataFrame(rows, schema=schema, orient="row")


def _shrunk(split: Vector, lateness: int, rank: int) -> Vector:
    """The split with its sum brought to `lateness`: positive parts shrink pro rata, what they cannot give is `slack`."""
    excess = int(split.sum()) - lateness
    result = split.copy()
    if excess > 0:
        positive = np.flatnonzero(result.ravel() > 0)
        values = [int(value) for value in result.ravel()[positive]]
        kept = max(0, sum(values) - excess)
        for at, value in zip(positive, _scaled(values, kept), strict=True):
            result.ravel()[at] = value
    result[_ROW["slack"], rank] += lateness - int(result.sum())
    return result


def _scaled(values: list[int], total: int) -> list[int]:
    """Non-negative integers in the proportions of `values` that sum to `total`; exact, by cumulative rounding down."""
    whole = sum(values)
    scaled: list[int] = []
    done = seen = 0
    for value in values:
        seen += value
        upto = seen * total // whole
        scaled.append(upto - done)
        done = upto
    return scaled
