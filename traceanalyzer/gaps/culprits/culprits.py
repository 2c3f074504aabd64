"""Which rank lengthens the step beyond its peers, why, and what its repair is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import polars as pl
from msgspec.structs import replace as replace_struct

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
from traceanalyzer.gaps.culprits.evidence import host_evidence, kernel_evidence, pauses
from traceanalyzer.gaps.culprits.late_members import late_members, waited_for_ns
from traceanalyzer.gaps.culprits.link_faults import link_faults
from traceanalyzer.gaps.culprits.peers import PARTS, segments
from traceanalyzer.gaps.culprits.price import (
    MAX_REPLAY_ERROR,
    MIN_SHARE,
    Price,
    Saving,
    candidates,
    excess,
    prices,
    replay_error,
)
from traceanalyzer.gaps.culprits.program_graph import ProgramGraph, program_graph
from traceanalyzer.gaps.culprits.slow_links import slow_places
from traceanalyzer.gaps.culprits.together import hidden_ranks, joint_saving
from traceanalyzer.gaps.experts.detail import ExpertTables
from traceanalyzer.gaps.part import SubjectPart
from traceanalyzer.measurements.communication.programs import programs
from traceanalyzer.review import RankFault, SequenceBalance, Withheld
from traceanalyzer.review.vocabulary import FaultBasis, RankCause
from traceanalyzer.review.words import counted, milliseconds, percent, ranks_text, times
from traceanalyzer.schema import conform, empty
from traceanalyzer.schema.culprits import CULPRITS, LATE_MEMBERS
from traceanalyzer.tables import Tables
from traceanalyzer.tables.steps.typical import typical_steps

MAX_OPERATIONS = 300_000
"""Longer programs are not replayed."""
_CAUSES: dict[str, RankCause] = {"compute_ns": "computation", "host_ns": "host", "other_ns": "late_starts"}


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


@dataclass(frozen=True, slots=True)
class _Compared:
    """What all ranks' faults are judged from."""

    graph: ProgramGraph
    segments: pl.DataFrame
    kernels: pl.DataFrame
    splits: pl.DataFrame
    step_ns: float
    error: float
    events: Callable[[int], pl.DataFrame]

    @property
    def least_ns(self) -> float:
        return MIN_SHARE * self.step_ns

    def members(self, rank: int) -> list[int]:
        """The rank's peers."""
        own = self.segments.filter(pl.col("rank") == rank)["peers"].drop_nulls()
        if own.is_empty():
            return []
        return sorted(set(self.segments.filter(pl.col("peers") == own[0])["rank"]) - {rank})


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
    whole = _Compared(graph, compared, tables.kernels, judged, step_ns, replay_error(graph, measured), events)
    found_faults: list[tuple[Price | None, RankFault]] = []
    slow = candidates(compared, step_ns)
    for price in prices(graph, compared, slow, cut_off(found)):
        known = is_known(found, price, step_ns)
        fault = _fault(whole, price, known=known) or (None if known else _unpriced(whole, price.rank))
        found_faults += [(price, fault)] if fault is not None else []
    if whole.error <= MAX_REPLAY_ERROR and is_all_known(found, step_ns):
        found_faults += _hiding_each_other(whole, slow, [fault for _, fault in found_faults])
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


def _is_reported(whole: _Compared, tables: Tables) -> bool:
    """Whether silence means that nobody stands out: the replay follows the steps, and there is more than one."""
    return whole.error <= MAX_REPLAY_ERROR and len(typical_steps(tables.steps)) > 1


def _measured_steps(steps: pl.DataFrame) -> dict[int, float]:
    """The longest rank's window of every step, in nanoseconds."""
    lengths = steps.group_by("step").agg((pl.col("end_ns") - pl.col("start_ns")).max().cast(pl.Float64).alias("ns"))
    return {int(step): ns for step, ns in lengths.sort("step").iter_rows()}


def _fault(whole: _Compared, price: Price, *, known: bool) -> RankFault | None:
    """The fault that a price tells; None if it is too small, or does not recur."""
    saving = price.saving(whole.least_ns)
    above_noise = saving.ns > saving.noise or saving.low > whole.least_ns  # every step of a few has it
    if not saving.recurs or saving.ns <= whole.least_ns or not above_noise:
        return None
    # nothing recorded shows why such kernels start late, so what would help is not known
    priced = known and whole.error <= MAX_REPLAY_ERROR and _CAUSES[price.part] != "late_starts"
    if not priced:
        bound = _bound(whole, price.rank)
        if bound is None:
            return None
        most = f"others wait for it up to {milliseconds(bound.high / 1e6)} per step"
        return _described(whole, price, bound, "waits", f"; {most}: a bound, the saving is not known")
    basis: FaultBasis = "replica" if price.basis == "replica" else "replay"
    remarks = {
        "priced as if a captured pipeline had these times, for its own was not captured whole": basis == "replica",
        "seen in one step, so whether it recurs is not known": price.num_steps == 1,
    }
    return _described(whole, price, saving, basis, "".join(f"; {text}" for text, holds in remarks.items() if holds))


def _hiding_each_other(
    whole: _Compared, slow: list[int], told: list[RankFault]
) -> list[tuple[Price | None, RankFault]]:
    """Slow ranks that are not reported, for the repair of each alone saves too little, where that of all of them saves more."""
    named = {fault.rank for fault in told}
    hidden = [rank for rank in hidden_ranks(whole.segments, slow, whole.least_ns) if rank not in named]
    priced = [fault for fault in told if fault.ms is not None and fault.cause == "computation"]
    ranks = sorted({*hidden, *(fault.rank for fault in priced)})
    if not hidden or len(ranks) < 2:
        return []
    joint = joint_saving(whole.graph, whole.segments, ranks)
    alone_ns = max((fault.ms or 0.0 for fault in priced), default=0.0) * 1e6
    if not joint.recurs or joint.ns - alone_ns <= max(whole.least_ns, joint.noise):
        return []
    found: list[tuple[Price | None, RankFault]] = []
    for rank in hidden:
        others = [each for each in ranks if each != rank]
        hold = "hold" if len(others) > 1 else "holds"
        remark = (
            f"; its repair alone saves next to nothing, for {ranks_text(others)} {hold} up the step as well: "
            f"repaired together they save {milliseconds(joint.ns / 1e6)} per step"
        )
        price = excess(whole.segments, rank)
        saved = Saving(joint.ns, 0.0, joint.ns, recurs=True)
        found.append((price, replace_struct(_described(whole, price, saved, "together", remark), beside=others)))
    return found


def _unpriced(whole: _Compared, rank: int) -> RankFault | None:
    """A rank that needs clearly longer than its peers, of which replay cannot say what others wait for it."""
    price = excess(whole.segments, rank)
    saving = price.parts[price.part]
    clear = saving.recurs and saving.ns > MAX_REPLAY_ERROR * whole.step_ns
    if not clear or not whole.members(rank) or _CAUSES[price.part] == "late_starts":
        return None
    most = f"its repair saves at most {milliseconds(saving.high / 1e6)} per step"
    return _described(whole, price, saving, "excess", f"; what others wait for it is not known: {most}")


def _described(whole: _Compared, price: Price, saving: Saving, basis: FaultBasis, remark: str) -> RankFault:
    """The fault of a rank with its evidence; of a bound (`waits`, `excess`) no price is stated."""
    others, cause = whole.members(price.rank), _CAUSES[price.part]
    evidence, kernel, call = _evidence(whole, price, others)
    moment = _moment(whole, price)
    priced = basis in ("replay", "replica")
    return RankFault(
        rank=price.rank,
        cause=cause,
        ms=saving.ns / 1e6 if priced else None,
        share_of_step=saving.ns / whole.step_ns if priced else None,
        low=max(saving.low, 0.0) / 1e6,
        high=saving.high / 1e6,
        evidence=f"{evidence}{remark}",
        kernel=kernel,
        call=call,
        basis=basis,
        peers=others,
        slowdown=_longer(whole.segments, price.rank) if cause == "computation" else None,
        num_steps=price.num_steps,
        start_ns=moment[0] if moment else None,
        end_ns=moment[1] if moment else None,
    )


def _bound(whole: _Compared, rank: int) -> Saving | None:
    """What others wait for a rank at most; None if nobody is known to."""
    waited = waited_for_ns(whole.splits, rank)
    return Saving(waited, 0.0, waited, recurs=True) if waited > whole.least_ns else None


def _longer(rows: pl.DataFrame, rank: int) -> float | None:
    """Own computation ÷ that of the peers, where there are any."""
    own = rows.filter((pl.col("rank") == rank) & pl.col("base_compute_ns").is_not_null())
    base = int(own["base_compute_ns"].sum())
    return int(own["compute_ns"].sum()) / base if base else None


def _evidence(whole: _Compared, price: Price, others: list[int]) -> tuple[str, str | None, str | None]:
    """Evidence, kernel and call."""
    who = f"rank {price.rank}"
    beside = f" than {ranks_text(others)}" if others else ""
    if price.part == "compute_ns":
        longer, kernel = _longer(whole.segments, price.rank), kernel_evidence(whole.kernels, price.rank, others)
        text = f"{who} computes {times(longer or 1)} as long as {ranks_text(others)} at the same work"
        return text + (f": {kernel.text}" if kernel else ""), kernel.name if kernel else None, None
    own = whole.segments.filter((pl.col("rank") == price.rank) & ~pl.col("is_first"))
    beyond = (pl.col(price.part) - pl.col(f"base_{price.part}")).fill_null(0).sum()
    ms = milliseconds(float(own.group_by("step").agg(beyond.alias("ns"))["ns"].median() or 0) / 1e6)  # pyright: ignore[reportArgumentType]
    if price.part == "other_ns":
        hint = "which is consistent with another process on the device, throttling, or a wait that was not recorded"
        return (
            f"kernels of {who} start {ms} per step later{beside} on an idle device although launched in time, {hint}",
            None,
            None,
        )
    host = host_evidence(
        whole.events(price.rank), whole.kernels, price.rank, pauses(whole.graph.nodes, whole.segments, price.rank)
    )
    beside = beside or " than on the other ranks"
    return f"the host of {who} launches {ms} per step later{beside}; {host.text}", None, host.call


def _moment(whole: _Compared, price: Price) -> tuple[int, int] | None:
    """Where the rank is furthest beyond its base."""
    own = whole.segments.filter((pl.col("rank") == price.rank) & ~pl.col("is_first"))
    beyond = (pl.col(price.part) - pl.col(f"base_{price.part}").fill_null(0)).alias("_beyond")
    worst = (
        own.select("rank", "step", "operation", beyond).sort("_beyond", "operation", descending=[True, False]).head(1)
    )
    nodes = whole.graph.nodes.join(worst, on=["rank", "step", "operation"]).filter(pl.col(price.part) > 0)
    rows = nodes.sort(price.part, descending=True).select("from_ns", "to_ns")
    return None if rows.is_empty() else (int(rows["from_ns"][0]), int(rows["to_ns"][0]))


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


def _withheld(whole: _Compared, found_faults: Sequence[tuple[Price | None, RankFault]]) -> tuple[Withheld, ...]:
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
