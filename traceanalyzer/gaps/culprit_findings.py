"""Suspects in the review's words: a finding and an entry among the slow ranks for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from traceanalyzer.gaps.pipeline_review import StragglerFigures
from traceanalyzer.gaps.review import Finding
from traceanalyzer.gaps.suspects import Suspect, Suspects
from traceanalyzer.gaps.wording import counted, milliseconds, percent, ranks_text
from traceanalyzer.measurements.host_calls import stall_calls
from traceanalyzer.measurements.kernel_differences import KernelDifference, kernel_difference
from traceanalyzer.measurements.rank_pieces import RankPieces
from traceanalyzer.tables import Tables
from traceanalyzer.tables.clocks import on_one_clock

MIN_SLOWDOWN = 1.0005
"""A smaller slowdown reads as 1.0: nobody is slow."""
LAUNCH_BOUND_NS = 200_000
"""Stalls that are shorter than this one by one are late launches rather than a pause."""
_CAUSES = {"computing": "computation", "host": "host", "idle": "idle device"}
_GROUPS = {"tp": "tensor group", "ep": "expert group", "cp": "context group", "dp": "group of replicas"}
_TITLES = {
    "computing": "Rank {rank} computes longer than the others of its {group}",
    "host": "The host of rank {rank} keeps its {group} waiting",
    "idle": "Kernels of rank {rank} start late on an idle device",
}
_HOST_ACTIONS = {
    "synchronisation": "remove the call that waits for the device, or move it out of the loop",
    "allocator": "look at the allocator's settings and at the memory left: it goes to the driver within the step",
    "garbage collection": "collect garbage at fixed steps, the same on all ranks",
    "data loading": "look at the input of this rank: workers, prefetching, file system",
    "compilation": "keep shapes fixed, or compile before the first step",
}
_NO_CALL = "look at what the host of rank {rank} does there: nothing is recorded on the launching thread"
_LATE_LAUNCHES = "look at the host of rank {rank}: CPU clocks, binding to cores, other processes; CUDA graphs hide it"
_LOOK = {"device": "look at the device of rank {rank}: clocks, temperature, other processes",
         "more": "look at how the work is divided: rank {rank} runs more of it than the others",
         "kernel": "look at this kernel's input on rank {rank} (shapes, layout), then at the device's clocks"}  # fmt: skip
_IDLE_ACTION = "look for other processes on the device of rank {rank}, and at its clocks"


@dataclass(frozen=True, slots=True)
class Culprits:
    """What the review says of them."""

    findings: tuple[Finding, ...] = ()
    stragglers: tuple[StragglerFigures, ...] = ()


def culprits(suspected: Suspects, tables: Tables, events: pl.DataFrame) -> Culprits:
    """Findings and slow ranks. `events` is `EVENTS`, on the ranks' own clocks."""
    if not suspected.works:
        return Culprits()
    if not suspected.found:
        return Culprits(findings=(_nobody(suspected),))
    stages: Mapping[int, list[int]] = dict(tables.actions.group_by("rank").agg(pl.col("stage").unique().sort()).iter_rows())
    by_rank = {each.rank: each for each in suspected.ranks}
    found = [_finding(each, suspected, by_rank[each.rank], tables, events, stages) for each in suspected.found]
    slow = [_straggler(each, stages.get(each.rank, [])) for each in suspected.found]
    return Culprits(tuple(found), tuple(each for each in slow if each.slowdown >= MIN_SLOWDOWN))


def _nobody(suspected: Suspects) -> Finding:
    ranks = sorted({rank for work in suspected.works for rank in work.ranks})
    return Finding(
        id="culprit",
        title="No rank keeps its group waiting",
        passed=True,
        worth_ms=None,
        worth_mfu_points=None,
        evidence=(
            f"what {ranks_text(ranks)} do between their groups' collectives, set against the other members: no rank's "
            "excess is beyond chance and worth half a percent of the step"
        ),
        action=None,
    )


def _finding(
    each: Suspect,
    suspected: Suspects,
    own: RankPieces,
    tables: Tables,
    events: pl.DataFrame,
    stages: Mapping[int, list[int]],
) -> Finding:
    group = next((_GROUPS[role] for role in ("tp", "cp", "ep", "dp") if role in each.roles), "group")
    if each.kind == "host":
        what, action, moment = _host(each, suspected, own, tables, events)
    elif each.kind == "computing":
        what, action = _computation(kernel_difference(tables.kernels, each.rank, each.others, suspected.typical))
        moment = (each.start_ns, each.end_ns)
    else:
        what, action = (
            "launched kernels wait while nothing runs; consistent with another process on the device, throttling or a wait "
            "that is not recorded",
            _IDLE_ACTION,
        )
        moment = (each.start_ns, each.end_ns)
    held = ", ".join(map(str, stages.get(each.rank, [])))
    stage = f" (stage {held})" if held else ""
    evidence = f"rank {each.rank}{stage}: {_amount(each)}; {what}; {_price(each, suspected)}"
    return Finding(
        id=f"culprit.{_CAUSES[each.kind].split()[0]}.{each.rank}",
        title=_TITLES[each.kind].format(rank=each.rank, group=group),
        passed=False,
        worth_ms=each.worth_ms,
        worth_mfu_points=None,
        evidence=evidence,
        action=action.format(rank=each.rank),
        rank=each.rank,
        start_ns=moment[0],
        end_ns=moment[1],
    )


def _amount(each: Suspect) -> str:
    doing = {"computing": "computing", "host": "waiting for its host", "idle": "idle with launched work"}[each.kind]
    when = "" if len(each.steps) == each.num_steps else f" (in {len(each.steps)} of {each.num_steps} steps)"
    others = "" if not each.caused_wait_ms else f"; the others wait {milliseconds(each.caused_wait_ms)} for it, summed"
    return (
        f"{milliseconds(each.usual_ms + each.excess_ms)} per step {doing} where {_median(each.others)} "
        f"{milliseconds(each.usual_ms)}{when}{others}"
    )


def _median(others: Sequence[int]) -> str:
    if len(others) == 1:
        return f"rank {others[0]} takes"
    return f"the median of {len(others)} others is"


def _price(each: Suspect, suspected: Suspects) -> str:
    unseen = suspected.graph.num_unseen if suspected.graph is not None else 0
    if each.worth_ms is None:
        return f"between 0 and {milliseconds(each.high_ms)} of a step of {milliseconds(each.step_ms)}: {suspected.reason}"
    beside = " (ranks that were not captured taken to follow as they did)" if unseen else ""
    return (
        f"replayed at the others' time, a step of {milliseconds(each.step_ms)} is {milliseconds(each.worth_ms)} "
        f"({percent(each.worth_ms / each.step_ms)}) shorter{beside}"
    )


def _computation(found: KernelDifference | None) -> tuple[str, str]:
    if found is None:
        return "no single kernel tells why", _LOOK["device"]
    name = found.name if len(found.name) <= 80 else f"{found.name[:77]}..."  # noqa: PLR2004 - of a line
    if found.is_device:
        return f"its kernels take {found.factor:.2f} times as long, all alike", _LOOK["device"]
    if found.has_more:
        return f"it runs {found.num:g} of {name} per step where the others run {found.usual_num:g}", _LOOK["more"]
    return (
        f"{milliseconds(found.excess_ms)} of it in {name}: {found.mean_us:.4g} µs on average where the others take "
        f"{found.usual_mean_us:.4g} µs",
        _LOOK["kernel"],
    )


def _host(
    each: Suspect, suspected: Suspects, own: RankPieces, tables: Tables, events: pl.DataFrame
) -> tuple[str, str, tuple[int, int]]:
    windows = tables.steps.filter((pl.col("rank") == each.rank) & pl.col("step").is_in(list(suspected.typical)))
    inside = own.stalls.filter(
        (pl.col("end_ns") > windows["start_ns"].min()) & (pl.col("start_ns") < windows["end_ns"].max())
    ).sort(pl.col("end_ns") - pl.col("start_ns"), descending=True)
    length = pl.col("end_ns") - pl.col("start_ns")
    # the longest stalls that together make the excess
    making = inside.filter(length.cum_sum().shift(1).fill_null(0) < each.excess_ms * 1e6 * each.num_steps)
    if making.is_empty():
        return "late launches", _LATE_LAUNCHES, (each.start_ns, each.end_ns)
    first = making.row(0, named=True)
    moment = (int(first["start_ns"]), int(first["end_ns"]))
    median = float(making.select(length.median()).item())
    here = on_one_clock(events.filter(pl.col("rank") == each.rank), tables.clocks)
    told = stall_calls(making, here).group_by("call", "kind").agg(length.sum().alias("ns"), pl.len()).sort(
        "ns", "call", descending=[True, False], nulls_last=True
    )  # fmt: skip
    top = told.filter(pl.col("kind").is_not_null()).head(1)
    if not top.is_empty() and top["ns"][0] >= 0.5 * told["ns"].sum():
        kind, call = str(top["kind"][0]), str(top["call"][0])
        return f"{kind}: the host is in {call}", _HOST_ACTIONS[kind], moment
    if median < LAUNCH_BOUND_NS:
        return f"{making.height} launches come late, by {median / 1e3:.3g} µs each", _LATE_LAUNCHES, moment
    named = told.filter(pl.col("call").is_not_null() & (pl.col("ns") >= 0.5 * told["ns"].sum()))
    if not named.is_empty():
        return f"the host is in {named['call'][0]} ({counted(making.height, 'pause')})", _LATE_LAUNCHES, moment
    pauses = f"{counted(making.height, 'pause')} of {milliseconds(median / 1e6)}"
    return f"{pauses} in which the launching thread records nothing", _NO_CALL, moment


def _straggler(each: Suspect, stages: list[int]) -> StragglerFigures:
    cost = each.high_ms if each.worth_ms is None else each.worth_ms
    return StragglerFigures(
        rank=each.rank,
        stage=stages,
        cause=_CAUSES[each.kind],
        slowdown=each.step_ms / max(each.step_ms - cost, 1e-9),
        cost_ms=cost,
    )


def with_culprits(checked: Sequence[Finding], of_groups: Sequence[Finding]) -> list[Finding]:
    """All findings; what the pipeline says of a rank that its group names for the same is left out."""
    named = {(each.id.rsplit(".", 1)[0], each.rank) for each in of_groups if not each.passed}
    same = {"pipeline.stage": "culprit.computation", "pipeline.straggler": "culprit.computation", "pipeline.host": "culprit.host"}
    kept = [each for each in checked if each.passed or (same.get(each.id), each.rank) not in named]
    return [*kept, *of_groups]


def slow_ranks(of_pipeline: Sequence[StragglerFigures], of_groups: Sequence[StragglerFigures]) -> list[StragglerFigures]:
    """Slow ranks, costliest first: a rank that computes slowly is listed once, by its group where that tells it."""
    told = {(each.rank, each.cause == "host") for each in of_groups}
    rest = [each for each in of_pipeline if (each.rank, each.cause == "host") not in told]
    return sorted([*of_groups, *rest], key=lambda each: -each.cost_ms)
