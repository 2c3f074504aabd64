"""The fault of one rank in words and figures, from its price: what it did instead, and what its repair saves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from msgspec.structs import replace

from traceanalyzer.gaps.culprits.evidence import host_evidence, kernel_evidence, pauses
from traceanalyzer.gaps.culprits.late_members import waited_for_ns
from traceanalyzer.gaps.culprits.price import MAX_REPLAY_ERROR, MIN_SHARE, Price, Saving, excess
from traceanalyzer.gaps.culprits.program_graph import ProgramGraph
from traceanalyzer.gaps.culprits.together import hidden_ranks, joint_saving
from traceanalyzer.review import RankFault
from traceanalyzer.review.vocabulary import FaultBasis, RankCause
from traceanalyzer.review.words import milliseconds, ranks_text, times

HELD_BACK = 0.02
"""Of a saving: what launches may take back of it without being said."""
_CAUSES: dict[str, RankCause] = {"compute_ns": "computation", "host_ns": "host", "other_ns": "late_starts"}


@dataclass(frozen=True, slots=True)
class Compared:
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
        """Faults below this are not reported."""
        return MIN_SHARE * self.step_ns

    def members(self, rank: int) -> list[int]:
        """The rank's peers."""
        own = self.segments.filter(pl.col("rank") == rank)["peers"].drop_nulls()
        if own.is_empty():
            return []
        return sorted(set(self.segments.filter(pl.col("peers") == own[0])["rank"]) - {rank})


def priced_fault(whole: Compared, price: Price, *, known: bool) -> RankFault | None:
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
    held = min(price.held_back_ns, saving.ns) > max(whole.least_ns, HELD_BACK * saving.ns)
    if held:
        saving = Saving(saving.ns, 0.0, saving.high, saving.recurs)
    remarks = {
        "once repaired, launches of hosts may hold up the step instead, so its repair may save less": held,
        "priced as if a captured pipeline had these times, for its own was not captured whole": basis == "replica",
        "seen in one step, so whether it recurs is not known": price.num_steps == 1,
    }
    return _described(whole, price, saving, basis, "".join(f"; {text}" for text, holds in remarks.items() if holds))


def hiding_each_other(
    whole: Compared, slow: list[int], reported: list[RankFault]
) -> list[tuple[Price | None, RankFault]]:
    """Slow ranks that are not reported, for the repair of each alone saves too little, where that of all of them saves more."""
    named = {fault.rank for fault in reported}
    hidden = [rank for rank in hidden_ranks(whole.segments, slow, whole.least_ns) if rank not in named]
    priced = [fault for fault in reported if fault.ms is not None and fault.cause == "computation"]
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
        found.append((price, replace(_described(whole, price, saved, "together", remark), beside=others)))
    return found


def unpriced_fault(whole: Compared, rank: int) -> RankFault | None:
    """A rank that needs clearly longer than its peers, of which replay cannot say what others wait for it."""
    price = excess(whole.segments, rank)
    saving = price.parts[price.part]
    clear = saving.recurs and saving.ns > MAX_REPLAY_ERROR * whole.step_ns
    if not clear or not whole.members(rank) or _CAUSES[price.part] == "late_starts":
        return None
    most = f"its repair saves at most {milliseconds(saving.high / 1e6)} per step"
    return _described(whole, price, saving, "excess", f"; what others wait for it is not known: {most}")


def _described(whole: Compared, price: Price, saving: Saving, basis: FaultBasis, remark: str) -> RankFault:
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


def _bound(whole: Compared, rank: int) -> Saving | None:
    """What others wait for a rank at most; None if nobody is known to."""
    waited = waited_for_ns(whole.splits, rank)
    return Saving(waited, 0.0, waited, recurs=True) if waited > whole.least_ns else None


def _longer(rows: pl.DataFrame, rank: int) -> float | None:
    """Own computation ÷ that of the peers, where there are any."""
    own = rows.filter((pl.col("rank") == rank) & pl.col("base_compute_ns").is_not_null())
    base = int(own["base_compute_ns"].sum())
    return int(own["compute_ns"].sum()) / base if base else None


def _evidence(whole: Compared, price: Price, others: list[int]) -> tuple[str, str | None, str | None]:
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


def _moment(whole: Compared, price: Price) -> tuple[int, int] | None:
    """Where the rank is furthest beyond its base."""
    own = whole.segments.filter((pl.col("rank") == price.rank) & ~pl.col("is_first"))
    beyond = (pl.col(price.part) - pl.col(f"base_{price.part}").fill_null(0)).alias("_beyond")
    worst = (
        own.select("rank", "step", "operation", beyond).sort("_beyond", "operation", descending=[True, False]).head(1)
    )
    nodes = whole.graph.nodes.join(worst, on=["rank", "step", "operation"]).filter(pl.col(price.part) > 0)
    rows = nodes.sort(price.part, descending=True).select("from_ns", "to_ns")
    return None if rows.is_empty() else (int(rows["from_ns"][0]), int(rows["to_ns"][0]))
