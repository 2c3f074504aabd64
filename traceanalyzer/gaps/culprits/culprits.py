"""Which rank lengthens the step beyond its peers, why, and what its repair is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import polars as pl

from traceanalyzer.gaps.culprits.bounds import (
    beside_late_hosts,
    cut_off,
    is_all_known,
    is_known,
    waits_for_others,
)
from traceanalyzer.gaps.culprits.causal_balance import (
    causal_attention,
    context_groups,
    sequence_balance,
    with_causal_base,
)
from traceanalyzer.gaps.culprits.late_members import late_members
from traceanalyzer.gaps.culprits.links.faults import link_faults
from traceanalyzer.gaps.culprits.links.slow import slow_places
from traceanalyzer.gaps.culprits.peers import PARTS, segments
from traceanalyzer.gaps.culprits.price import (
    MAX_REPLAY_ERROR,
    Price,
    candidates,
    prices,
    replay_error,
)
from traceanalyzer.gaps.culprits.program_graph import program_graph
from traceanalyzer.gaps.culprits.rank_faults import Compared, hiding_each_other, priced_fault, unpriced_fault
from traceanalyzer.gaps.experts.detail import ExpertTables
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.communication.programs import Programs, programs
from traceanalyzer.review import RankFault, SequenceBalance, Withheld
from traceanalyzer.review.words import counted, percent
from traceanalyzer.schema import conform, empty
from traceanalyzer.schema.culprits import CULPRITS, LATE_MEMBERS
from traceanalyzer.tables import Tables
from traceanalyzer.tables.steps.typical import typical_steps

MAX_OPERATIONS = 300_000
"""Longer programs are not replayed."""


@dataclass(frozen=True, slots=True)
class CulpritGap(SubjectPart):
    """Faults of ranks, largest first, with the tables behind them."""

    faults: tuple[RankFault, ...] = ()
    sequences: tuple[SequenceBalance, ...] = ()
    num_compared: int = 0
    """Ranks that have peers and were compared."""
    late_table: pl.DataFrame = field(default_factory=lambda: empty(LATE_MEMBERS))
    table: pl.DataFrame = field(default_factory=lambda: empty(CULPRITS))
    withheld: tuple[Withheld, ...] = ()

    @property
    def sections(self) -> Mapping[str, object]:
        """Faults, largest first, and uneven groups of context parallelism."""
        return {"culprits": list(self.faults), "sequence_balance": list(self.sequences)}

    @property
    def tables(self) -> Mapping[str, pl.DataFrame]:
        """Faults, and who came late to collectives."""
        return {"culprits": self.table, "late_members": self.late_table}


def culprit_gap(
    tables: Tables,
    splits: pl.DataFrame,
    messages: pl.DataFrame,
    actions: pl.DataFrame,
    experts: ExpertTables,
    events: Callable[[int], pl.DataFrame],
) -> CulpritGap:
    """Compare ranks that do the same work.

    Args:
        tables: of the run, with all its steps; judged are the typical ones.
        splits: `COLLECTIVE_SPLITS` whose waits can be trusted.
        messages: `P2P_SPLITS`, likewise.
        actions: `ACTIONS` with stages.
        experts: collectives with the directions of expert exchanges, and what their transfers should take.
        events: gives `EVENTS` of a rank on the tables' clock.
    """
    judged = splits.filter(pl.col("step").is_in(typical_steps(tables.steps)))
    late = late_members(judged)
    if tables.steps["rank"].n_unique() < 2 or splits.height + messages.height > MAX_OPERATIONS:
        return CulpritGap(late_table=late)
    found = programs(tables.kernels, splits, messages, actions)
    graph = program_graph(found)
    if graph is None:
        return CulpritGap(late_table=late)
    typical = typical_steps(tables.steps)
    graph = replace(graph, judged=frozenset(typical))  # all are replayed: a step begins where the one before it ended
    causal = causal_attention(tables.kernels, found, context_groups(splits, messages))
    compared = segments(graph.nodes, found, experts.collectives).filter(pl.col("step").is_in(typical))
    compared = with_causal_base(compared, causal)
    measured = _measured_steps(tables.steps.filter(pl.col("step").is_in(typical)))
    step_ns = median(measured.values())
    whole = Compared(graph, compared, tables.kernels, judged, step_ns, replay_error(graph, measured), events)
    found_faults = _of_ranks(whole, found)
    judged_messages = messages.filter(pl.col("step").is_in(typical))
    places = slow_places(experts.expected, judged_messages, judged)
    found_faults += [(None, fault) for fault in link_faults(graph, found.operations, places, step_ns, whole.error)]
    found_faults = [
        (price, beside_late_hosts(fault, [each.rank for _, each in found_faults if each.cause == "host"]))
        for price, fault in found_faults
    ]
    found_faults.sort(key=lambda each: -(each[1].ms if each[1].ms is not None else each[1].high))
    priced = whole.error <= MAX_REPLAY_ERROR
    return CulpritGap(
        sequences=tuple(sequence_balance(graph, compared, causal, step_ns, priced=priced)),
        faults=tuple(fault for _, fault in found_faults),
        num_compared=compared.filter(pl.col("peers").is_not_null())["rank"].n_unique()
        if _is_reported(whole, tables)
        and not waits_for_others(judged, step_ns)
        and (not messages.is_empty() or is_all_known(found, step_ns))
        else 0,
        late_table=late,
        table=_table(found_faults),
        withheld=_withheld(whole, found_faults),
    )


def _of_ranks(whole: Compared, found: Programs) -> list[tuple[Price | None, RankFault]]:
    """Faults of single ranks, and of ranks that hide each other."""
    faults: list[tuple[Price | None, RankFault]] = []
    slow = candidates(whole.segments, whole.step_ns)
    for price in prices(whole.graph, whole.segments, slow, cut_off(found)):
        known = is_known(found, price, whole.step_ns)
        fault = priced_fault(whole, price, known=known) or (None if known else unpriced_fault(whole, price.rank))
        faults += [(price, fault)] if fault is not None else []
    if whole.error <= MAX_REPLAY_ERROR and is_all_known(found, whole.step_ns):
        faults += hiding_each_other(whole, slow, [fault for _, fault in faults])
    return faults


def _is_reported(whole: Compared, tables: Tables) -> bool:
    """Whether silence means that nobody stands out: the replay follows the steps, and there is more than one."""
    return whole.error <= MAX_REPLAY_ERROR and len(typical_steps(tables.steps)) > 1


def _measured_steps(steps: pl.DataFrame) -> dict[int, float]:
    """The longest rank's window of every step, in nanoseconds."""
    lengths = steps.group_by("step").agg((pl.col("end_ns") - pl.col("start_ns")).max().cast(pl.Float64).alias("ns"))
    return {int(step): ns for step, ns in lengths.sort("step").iter_rows()}


def _table(found_faults: Sequence[tuple[Price | None, RankFault]]) -> pl.DataFrame:
    rows = [
        {
            "rank": fault.rank, "cause": fault.cause, "ms": fault.ms, "low_ms": fault.low, "high_ms": fault.high,
            "share_of_step": fault.share_of_step, "basis": fault.basis, "kernel": fault.kernel, "call": fault.call,
            **{f"{part.removesuffix('_ns')}_ms": price.parts[part].ns / 1e6 if price else None for part in PARTS},
        }
        for price, fault in found_faults
    ]  # fmt: skip
    return conform(pl.DataFrame(rows, schema=CULPRITS), CULPRITS) if rows else empty(CULPRITS)


def _withheld(whole: Compared, found_faults: Sequence[tuple[Price | None, RankFault]]) -> tuple[Withheld, ...]:
    bounded = [fault for _, fault in found_faults if fault.ms is None and fault.basis != "together"]
    if not bounded:
        return ()
    reason = f"the replay of all programs misses the measured step by {percent(whole.error)} (limit {percent(MAX_REPLAY_ERROR, 0)})"
    if whole.error <= MAX_REPLAY_ERROR:
        reason = "how long transfers take is not known of some operations"
    if all(fault.cause == "late_starts" for fault in bounded):
        reason = "nothing recorded shows why kernels start late"
    ranks = counted(len(bounded), "rank")
    reason += f": what the repair of {ranks} saves is bounded only"
    return (Withheld(metric="culprits.ms", reason=reason, code="replay"),)


def stage_of(actions: pl.DataFrame) -> Mapping[int, list[int]]:
    """The stages each rank holds."""
    rows = actions.group_by("rank").agg(pl.col("stage").unique().sort()).iter_rows()
    return {int(rank): [int(stage) for stage in stages if stage is not None] for rank, stages in rows}
