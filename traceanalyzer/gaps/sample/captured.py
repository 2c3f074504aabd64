"""What a sample of ranks shows, what each rank shows alone, and which ranks to profile next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

import polars as pl

from traceanalyzer.errors import TraceAnalyzerError
from traceanalyzer.gaps.experts.own_routing import own_routing
from traceanalyzer.gaps.pipeline.actions import expected_ranks
from traceanalyzer.gaps.pipeline.ideal import rank_ops
from traceanalyzer.gaps.sample.groups import Members, RankGroups, rank_groups
from traceanalyzer.job import Job
from traceanalyzer.measurements.pipeline.one_rank import OneRank, fastest_message, one_rank
from traceanalyzer.review import Bubble, RankFigures, Sample, WaitRange
from traceanalyzer.review.vocabulary import Coverage
from traceanalyzer.schedule import Phase
from traceanalyzer.tables import Tables
from traceanalyzer.theory.schedules.recognise import recognise_order
from traceanalyzer.theory.simulator.op_times import OpTimes
from traceanalyzer.theory.simulator.simulation import simulate

_UNKNOWN = "if this job has other ranks, a second one shows who waits for whom; these traces mention none"
MAX_RANKS = 64
"""Captured ranks that are described one by one."""


def sample(
    tables: Tables, exchanges: pl.DataFrame, waits: pl.DataFrame, bubble: Bubble | None, job: Job | None
) -> Sample:
    """Coverage, figures of single ranks and what to profile next.

    `exchanges` is `COLLECTIVE_SPLITS` with directions, `waits` is `WAIT_BOUNDS`.
    """
    groups = rank_groups(tables, job)
    present = frozenset(groups)
    pipelines = _whole((of.pipeline for of in groups.values()), present)
    experts = _whole((of.experts for of in groups.values()), present)
    replicas = _whole((of.replicas for of in groups.values()), present)
    expected = expected_ranks(tables.ranks, job)
    whole: dict[Coverage, set[Members]] = {"pipelines": pipelines, "expert_groups": experts, "replicas": replicas}
    kind = _kind(len(present), expected, whole)
    ranks = [_rank_figures(rank, groups[rank], tables, exchanges, waits, job) for rank in sorted(present)[:MAX_RANKS]]
    following, reason = ((), None) if kind == "all" else _next(ranks, groups, expected)
    recommended, why = ((), None) if kind == "all" else _recommended(ranks, groups, pipelines, bubble)
    return Sample(
        coverage=kind,
        is_one_group=any(present == frozenset(members) for members in whole.get(kind, ())),
        num_whole_pipelines=len(pipelines),
        num_whole_expert_groups=len(experts),
        num_whole_replicas=len(replicas),
        next_ranks=sorted(set(following) - present),
        next_reason=reason,
        recommended_ranks=sorted(recommended),
        recommended_reason=why,
        ranks=ranks,
    )


def _whole(groups: Iterable[Members], present: frozenset[int]) -> set[Members]:
    return {members for members in groups if members and present.issuperset(members)}


def _kind(found: int, expected: int | None, whole: Mapping[Coverage, set[Members]]) -> Coverage:
    if expected is not None and found >= expected:
        return "all"
    if found == 1:
        return "one_rank"
    known: list[Coverage] = [name for name, members in whole.items() if members]
    return known[0] if known else "some"


def _rank_figures(
    rank: int, groups: RankGroups, tables: Tables, exchanges: pl.DataFrame, waits: pl.DataFrame, job: Job | None
) -> RankFigures:
    own = tables.actions.filter(pl.col("rank") == rank)
    num_stages = _num_stages(groups, job)
    has_device = not tables.kernels.filter(pl.col("rank") == rank).is_empty()
    message_ns = fastest_message(tables.p2p, rank) if has_device else None
    found = one_rank(own, rank, message_ns) if _in_pipeline(rank, num_stages, tables) else None
    schedule, share = _equal_stages(own, groups, job, num_stages, found) if found else (None, None)
    named = found is not None and (not tables.actions_inferred or schedule is not None)

    def ms(ns: float | None) -> float | None:
        return None if ns is None else ns / 1e6

    return RankFigures(
        rank=rank,
        stages=sorted(own["stage"].unique()) if named else [],
        num_stages=num_stages,
        num_microbatches=found.num_microbatches if found and named else None,
        window_ms=ms(found.window_ns) if found else None,
        between_chunks_share=found.between_chunks_share if found else None,
        equal_stages_share=share,
        schedule=schedule,
        own_ms=ms(found.own_ns) if found and named else None,
        pace_ms=ms(found.pace_ns) if found else None,
        others_cost_ms=ms(found.others_cost_ns) if found else None,
        side=found.side if found else None,
        side_reason=found.side_reason if found else None,
        waits=_waits(waits.filter(pl.col("rank") == rank)),
        routing=own_routing(exchanges, rank),
    )


def _in_pipeline(rank: int, num_stages: int | None, tables: Tables) -> bool:
    """Whether the rank is one of a pipeline: as described, else by its messages."""
    if num_stages is not None:
        return num_stages > 1
    return not tables.p2p.filter((pl.col("rank") == rank) & (pl.col("role") == "pp")).is_empty()


def _num_stages(groups: RankGroups, job: Job | None) -> int | None:
    if job is not None and job.num_stages is not None:
        return job.num_stages
    return len(groups.pipeline) or None


def _equal_stages(
    own: pl.DataFrame, groups: RankGroups, job: Job | None, num_stages: int | None, found: OneRank
) -> tuple[str | None, float | None]:
    """The schedule of the rank's own order, and its share between chunks if all stages took this rank's times."""
    size, place = len(groups.pipeline), -1
    if found.rank in groups.pipeline:
        place = groups.pipeline.index(found.rank)
    if size < 2 or num_stages is None or num_stages % size or (job is None and own["stage"].n_unique() > 1):
        return None, None
    first = own.filter(pl.col("step") == own["step"].min()).sort("start_ns")
    orders = [rank_ops(first) if at == place else [] for at in range(size)]
    stage_ranks = tuple(range(size)) * (num_stages // size)
    try:
        recognised = recognise_order(orders, stage_ranks)
        if recognised is None:
            return None, None
        result = simulate(recognised.orders, stage_ranks, _times(own))
    except TraceAnalyzerError:
        return None, None
    span = result.span_ns[place]
    return (recognised.name, 1 - result.busy_ns[place] / span) if span else (None, None)


def _times(own: pl.DataFrame) -> OpTimes:
    """This rank's median time of each phase."""
    duration = pl.col("end_ns") - pl.col("start_ns")
    medians = dict(own.group_by(pl.col("phase").cast(pl.String)).agg(duration.median()).iter_rows())
    times = {phase: round(medians[phase.value]) for phase in Phase if phase.value in medians}
    return OpTimes(
        forward_ns=times[Phase.FORWARD],
        input_gradient_ns=times.get(Phase("I"), 0),
        weight_gradient_ns=times.get(Phase("W"), 0),
        backward_ns=times.get(Phase.BACKWARD),
    )


def _waits(rows: pl.DataFrame) -> list[WaitRange]:
    """Means per step by role, longest first."""
    num_steps = max(rows["step"].n_unique(), 1)
    by_role = rows.group_by(pl.col("role").cast(pl.String)).agg(
        (pl.col("num_operations", "num_sampled").sum() / num_steps),
        (pl.col("duration_ns").sum() / num_steps / 1e6).alias("duration_ms"),
        (pl.col("wait_low_ns").sum() / num_steps / 1e6).alias("low_ms"),
        (pl.col("wait_high_ns").sum() / num_steps / 1e6).alias("high_ms"),
    )
    shown = by_role.drop("duration_ns", "wait_low_ns", "wait_high_ns", strict=False)
    return [
        WaitRange(**row) for row in shown.sort("duration_ms", "role", descending=[True, False]).iter_rows(named=True)
    ]


def _next(
    ranks: list[RankFigures], groups: Mapping[int, RankGroups], expected: int | None
) -> tuple[Members, str | None]:
    """The ranks whose traces would say most, and why; nothing where not one rank is known."""
    if not ranks:
        return (), None
    of = groups[ranks[0].rank]
    options = [
        *(_by_side(ranks[0], of) if len(ranks) == 1 else ()),
        (of.pipeline, "one rank of every stage gives the bubble and the slowest stage"),
        (of.experts, "the whole expert group gives its loads, waits and who is late"),
        (of.replicas, "all replicas of a stage show which of them is late"),
    ]
    for members, reason in options:
        if not set(groups).issuperset(members):
            return members, reason
    if expected is None:
        return (), _UNKNOWN if len(groups) == 1 else None
    peer = next((rank for rank in of.sharing if rank not in groups), None)
    if peer is not None:
        shares = f"it shares collectives with rank {ranks[0].rank}"
        return (peer,), f"{shares}; two ranks of a group show which of them waits for the other"
    missing = next(rank for rank in count() if rank not in groups)  # the world may be claimed to hold billions
    if any((of.pipeline, of.experts, of.replicas, of.sharing)):
        return (missing,), "the groups of the captured ranks are whole, and nothing is known of the others"
    return (missing,), "the groups of the ranks are not known; another rank shows who waits for whom"


def _by_side(first: RankFigures, of: RankGroups) -> list[tuple[Members, str]]:
    """Where a lone pipeline rank says the slowest stage is."""
    if first.side is None or first.rank not in of.pipeline:
        return []
    place = of.pipeline.index(first.rank)
    return {
        "upstream": [(of.pipeline[:place], "the slowest stage lies before this one")],
        "downstream": [(of.pipeline[place + 1 :], "the slowest stage lies behind this one")],
        "this": [
            (
                of.replicas,
                "if a stage sets the pace, it is this one: its replicas show whether the stage or a device is slow",
            )
        ],
    }[first.side]


def _recommended(
    ranks: list[RankFigures], groups: Mapping[int, RankGroups], whole: set[Members], bubble: Bubble | None
) -> tuple[set[int], str | None]:
    """One pipeline with the expert group and the replicas of its slowest stage; of this rank's, while that is not known."""
    if not ranks:
        return set(), None
    slowest = (
        max(bubble.stages, key=lambda stage: stage.chunk_ms).ranks[0] if whole and bubble and bubble.stages else None
    )
    rank = ranks[0].rank if slowest is None else slowest
    of = groups[rank]
    chosen = {*of.pipeline, *of.experts, *of.replicas}
    if not chosen:
        return set(), None
    parts = [
        name
        for name, members in (
            ("one pipeline", of.pipeline),
            ("the expert group", of.experts),
            ("the replicas", of.replicas),
        )
        if members
    ]
    whose = "its slowest stage" if slowest is not None else f"rank {rank}, while the slowest stage is not known"
    reason = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    return chosen, f"{reason} of {whose}"
