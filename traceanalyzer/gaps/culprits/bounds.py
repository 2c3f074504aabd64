"""Where what is said of a fault is a bound only: other late hosts, members that were not captured."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from msgspec.structs import replace

from traceanalyzer.gaps.culprits.price import MAX_REPLAY_ERROR, Price
from traceanalyzer.measurements.communication.programs import Programs
from traceanalyzer.review import RankFault
from traceanalyzer.review.words import ranks_text


def beside_late_hosts(fault: RankFault, late_hosts: Sequence[int]) -> RankFault:
    """A priced fault of another cause; its price is the most that its repair saves where another rank's host is late.

    A replay keeps how late launches are. A host does not launch earlier because its device is free earlier, so its launches
    may hold up the step in place of what was repaired.
    """
    others = [rank for rank in late_hosts if rank != fault.rank]
    if fault.cause == "host" or fault.ms is None or not others:
        return fault
    evidence = (
        f"{fault.evidence}; {ranks_text(others)} launch{'es' if len(others) == 1 else ''} late, too, and may hold up the step "
        "instead, so its repair alone may save less"
    )
    return replace(fault, low=0.0, evidence=evidence)


def waits_for_others(splits: pl.DataFrame, step_ns: float) -> bool:
    """Whether members that were not captured may be waited for: then silence does not say that nobody holds up the others.

    Args:
        splits: `COLLECTIVE_SPLITS` of the judged steps.
        step_ns: the median step.
    """
    here = set(splits["rank"])
    groups = splits["group"].drop_nulls().unique().to_list()
    partly = [group for group in groups if not {int(rank) for rank in group.split(",") if rank} <= here]
    lasting = (pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns")
    longest = splits.filter(pl.col("group").is_in(partly)).group_by("rank", "step").agg(lasting)["ns"].max()
    return isinstance(longest, int) and longest > MAX_REPLAY_ERROR * step_ns


def cut_off(found: Programs) -> set[int]:
    """Ranks most of whose messages go to ranks that were not captured."""
    sent = found.operations.filter(pl.col("kind") == "send_recv").group_by("rank")
    unmatched = sent.agg((pl.col("matches").list.len() == 0).mean().alias("share"))
    return {int(rank) for rank in unmatched.filter(pl.col("share") > 0.5)["rank"]}


def is_known(found: Programs, price: Price, step_ns: float) -> bool:
    """Whether what is not known of transfers is too short to matter on any rank.

    A rank cut off from its pipeline is replayed in another's place, so its own do not matter.
    """
    return price.basis == "replica" or is_all_known(found, step_ns)


def is_all_known(found: Programs, step_ns: float) -> bool:
    """The same of all ranks."""
    unknown = found.operations.filter(pl.col("transfer_ns").is_null() | (pl.col("matches").list.len() == 0))
    lasting = (
        unknown.group_by("rank", "step").agg((pl.col("end_ns") - pl.col("start_ns")).sum().alias("ns"))["ns"].max()
    )
    return not isinstance(lasting, int) or lasting <= MAX_REPLAY_ERROR * step_ns
