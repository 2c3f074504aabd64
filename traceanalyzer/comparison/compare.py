"""Runs against a base: every pair with its changes, waterfalls and sentences."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from traceanalyzer import __version__
from traceanalyzer.comparison.jobs import differing_facts, fact_words, metrics
from traceanalyzer.comparison.noise import Floor, Limit, limit_of, noise_of, run_floor
from traceanalyzer.comparison.places import matched_ranks, stages_by_rank, world_size
from traceanalyzer.comparison.record import (
    Basis,
    Change,
    ComparedRun,
    Comparison,
    FactChange,
    Line,
    Pair,
    Waterfall,
)
from traceanalyzer.comparison.replay.action_times import action_times
from traceanalyzer.comparison.replay.configured import microbatch_scale, program_words
from traceanalyzer.comparison.replay.pieces import Matched, Sized, is_faithful, sized_changes
from traceanalyzer.comparison.replay.program_times import ProgramTimes, program_times, same_programs
from traceanalyzer.comparison.side import Side
from traceanalyzer.comparison.story import mean_words, pair_sentences, trend_sentences, verdict_of
from traceanalyzer.comparison.titles import Description
from traceanalyzer.comparison.views.ledger import ledger_changes
from traceanalyzer.comparison.views.reviewed import reviewed_changes
from traceanalyzer.comparison.views.waterfalls import kernel_waterfalls, owner_waterfall, rank_waterfall
from traceanalyzer.review import Tool, Withheld
from traceanalyzer.review.words import counted, ranks_text, times

MAX_CHANGES = 20
_SAME_SIZE = 0.02
_NEEDS_TABLES = "a review.json alone does not hold tables: give the traces, or the folder that analyze --out keeps"
_NO_DEVICE = "no kernels of a device were recorded on both sides"


@dataclass(frozen=True, slots=True)
class Causes:
    """Changes with their sizes, how they are known, and what is withheld about them."""

    sized: Sized
    basis: Basis
    rest: str
    """What the rest is."""
    withheld: tuple[Withheld, ...] = ()
    unmatched: tuple[int, ...] = ()
    unmatched_base: tuple[int, ...] = ()


def compare(
    base: Side,
    new: Sequence[Side],
    *,
    more_bases: Sequence[Side] = (),
    floor: float | None = None,
    forced: Collection[str] = (),
) -> Comparison:
    """Every new run against the base.

    Args:
        base: the run to compare with.
        new: the others, in their order.
        more_bases: further runs of the base's job, which tell how much runs differ.
        floor: share of the step by which runs of the same job may differ; None: from the base runs, else 1%.
        forced: facts that may differ though they make steps incomparable.

    Raises `UsageError` if jobs cannot be compared, naming the facts.
    """
    least = run_floor([base, *more_bases], floor)
    pairs = [_pair(base, each, at, least, forced) for at, each in enumerate(new, 1)]
    names = [each.path for each in (base, *new)]
    steps = [each.step_ns for each in (base, *new)]
    return Comparison(
        tool=Tool(name="traceanalyzer", version=__version__),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sentences=pairs[0].sentences
        if len(pairs) == 1
        else trend_sentences(names, steps, [pair.verdict for pair in pairs]),
        floor_share=least.share,
        floor_basis=least.basis,
        runs=[_run(side, is_base=at == 0) for at, side in enumerate((base, *new))],
        pairs=pairs,
    )


def _run(side: Side, *, is_base: bool) -> ComparedRun:
    noise, job = noise_of(side), side.review.job
    said = [job.schedule.value if job.schedule else ""]
    for fact, noun in ((job.num_stages, "stage"), (job.num_microbatches, "microbatch")):
        said.append(counted(fact.value, noun) if fact is not None else "")
    return ComparedRun(
        path=side.path,
        subject=" · ".join([*(text for text in said if text), counted(len(side.ranks), "rank")]),
        role="base" if is_base else "new",
        step_ns=side.step_ns,
        steps_ms=[ns / 1e6 for ns in side.step_lengths_ns],
        noise_ns=round(noise.half_width_ns) if noise else None,
        noise_basis=noise.basis if noise else None,
        num_ranks=len(side.ranks),
        has_tables=side.has_tables,
        distorted=list(side.review.validity.reasons) if side.review.validity.verdict == "distorted" else [],
    )


def _pair(base: Side, new: Side, at: int, floor: Floor, forced: Collection[str]) -> Pair:
    facts, limit = differing_facts(base, new, forced), limit_of(base, new, floor)
    owners = owner_waterfall(base, new)
    views = [each for each in (owners, rank_waterfall(base, new), *kernel_waterfalls(base, new)) if each is not None]
    before, after = base.step_ns, new.step_ns
    causes = _causes(base, new, facts, views)
    changes = _changes(causes, before, limit) if before and after and causes else []
    change = after - before if before is not None and after is not None else None
    disturbed = [f"{side.path} ({reason})" for side in (base, new) if (reason := side.disturbance)]
    if changes and before is not None and after is not None:
        views.insert(0, _cause_waterfall(changes, before, after))
    return Pair(
        base=0,
        new=at,
        verdict=verdict_of(change, limit, disturbed),
        sentences=[
            *pair_sentences(
                before,
                after,
                limit,
                changes,
                fact_words(facts),
                mean_words(base.step_lengths_ns, new.step_lengths_ns),
                disturbed,
            ),
            *_unmatched_sentences(causes),
        ],
        change_ns=change,
        change_share=change / before if change is not None and before else None,
        limit_ns=limit.ns if limit else None,
        limit_basis=limit.basis if limit else "one of the runs has no step time",
        changes=changes,
        waterfalls=views,
        facts=facts,
        metrics=metrics(base, new),
        unmatched_ranks=list(causes.unmatched) if causes else [],
        withheld=[*(causes.withheld if causes else ()), *_missing(base, new, views)],
    )


def _missing(base: Side, new: Side, views: Sequence[Waterfall]) -> list[Withheld]:
    reason = _NO_DEVICE if base.has_tables and new.has_tables else _NEEDS_TABLES
    there = {each.by for each in views}
    wanted = {
        "kernel_class": "kernels by class",
        "kernel": "kernels by name and shape",
        "collective": "collectives by size",
    }
    return [Withheld(metric=text, reason=reason) for view, text in wanted.items() if view not in there]


def _causes(base: Side, new: Side, facts: Sequence[FactChange], views: Sequence[Waterfall]) -> Causes | None:
    """By replay where both programs can be replayed, else by the ledger; None without step times."""
    by_view = {view.by: view for view in views}
    if "owner" not in by_view:
        return None
    ranks = matched_ranks(base, new)
    alone = tuple(rank for rank in base.ranks if rank not in ranks.values())
    return replace(_told(base, new, facts, by_view, ranks), unmatched_base=alone)


def _told(
    base: Side, new: Side, facts: Sequence[FactChange], by_view: Mapping[str, Waterfall], ranks: dict[int, int]
) -> Causes:
    """Causes of two runs with step times, of which `ranks` are matched."""
    unmatched = tuple(rank for rank in new.ranks if rank not in ranks)
    programs = _program(base), _program(new)
    reason = _no_replay(base, new, programs, ranks)
    if reason is None and programs[0] is not None and programs[1] is not None:
        return _replayed(base, new, (programs[0], programs[1]), ranks, facts, unmatched)
    withheld = Withheld(metric="changes by replay", reason=reason or "")
    whole = base.has_tables and new.has_tables
    basis: Basis = "ledger" if whole else "review"
    change_ns = by_view["owner"].new_ns - by_view["owner"].base_ns
    described = None if whole else reviewed_changes(base, new, change_ns, fact_words(facts))
    if described is not None:
        return Causes(described, basis, "what the reviews do not explain", (withheld,), unmatched)
    sized = ledger_changes(base, new, by_view["owner"], by_view.get("collective"))
    rest = "what the longest rank's median step has beside the mean rank's time"
    return Causes(sized, basis, rest, (withheld,), unmatched)


def _program(side: Side) -> ProgramTimes | None:
    """The program of device kernels; of the pipeline's actions where there is no device."""
    return action_times(side) if side.table("kernels").is_empty() else program_times(side)


def _no_replay(
    base: Side, new: Side, programs: tuple[ProgramTimes | None, ProgramTimes | None], ranks: dict[int, int]
) -> str | None:
    """Why the step cannot be replayed; None if it can."""
    if not (base.has_tables and new.has_tables):
        return _NEEDS_TABLES
    if not ranks:
        return "none of the ranks of one run has the place of a rank of the other"
    for side, program in zip((base, new), programs, strict=True):
        if program is None:
            return f"{side.path}: no programs of several ranks with kernels and communication: times are those of the mean rank"
        if not program.is_steady:
            return f"{side.path}: its steps run different operations: times are those of the mean rank and step"
        if not is_faithful(program):
            return f"{side.path}: the replay of its ranks' programs misses its steps by more than 2%: times are those of the mean rank"
    return None


def _replayed(
    base: Side,
    new: Side,
    programs: tuple[ProgramTimes, ProgramTimes],
    ranks: dict[int, int],
    facts: Sequence[FactChange],
    unmatched: tuple[int, ...],
) -> Causes:
    same = same_programs(*programs, ranks) and world_size(base) == world_size(new)
    loads = [side.review.all_to_all.rank_load_max_over_mean if side.review.all_to_all else None for side in (base, new)]
    both = Matched(
        base=programs[0], new=programs[1], ranks=ranks, stages=stages_by_rank(new), loads=(loads[0], loads[1]),
        microbatches=_microbatches(base, new), is_same_program=same,
    )  # fmt: skip
    sized = sized_changes(both)
    if same:
        return Causes(sized, "replay", "what no piece explains", (), unmatched)
    words = fact_words(facts) or program_words(*programs) or "the ranks run other operations"
    scale = microbatch_scale(*programs)
    words += f"; messages between stages {times(scale)} as large" if abs(scale - 1) > _SAME_SIZE else ""
    described = Description(kind="configuration", title=f"the job runs another program ({words})")
    pieces = sorted((*sized.pieces, (described, sized.rest_ns)), key=lambda each: -abs(each[1]))
    return Causes(Sized(tuple(pieces), 0), "replay", "", (), unmatched)


def _microbatches(base: Side, new: Side) -> float:
    """Microbatches per step, now ÷ before; 1 where a side does not know its own."""
    before, after = (side.review.job.num_microbatches for side in (base, new))
    return after.value / before.value if before is not None and after is not None and before.value else 1.0


def _changes(causes: Causes, step_ns: int, limit: Limit | None) -> list[Change]:
    """Changes with their shares; small ones beyond `MAX_CHANGES` go to the rest."""
    pieces = causes.sized.pieces[:MAX_CHANGES]
    rest = causes.sized.rest_ns + sum(ns for _, ns in causes.sized.pieces[MAX_CHANGES:])
    described = [_change(described, ns, step_ns, limit, causes.basis) for described, ns in pieces]
    if not rest:
        return described
    left = Description(kind="unexplained", title=causes.rest or "small changes")
    return [*described, _change(left, rest, step_ns, limit, "difference")]


def _change(described: Description, ns: int, step_ns: int, limit: Limit | None, basis: Basis) -> Change:
    return Change(
        kind=described.kind,
        title=described.title,
        change_ns=ns,
        share=ns / step_ns,
        is_noise=limit is None or abs(ns) <= limit.ns,
        basis="difference" if described.kind == "configuration" else basis,
        ranks=list(described.ranks),
        stages=list(described.stages),
        kernel=described.kernel,
        shape=described.shape,
        group=described.group,
        before=described.before,
        after=described.after,
        unit=described.unit,
    )


def _cause_waterfall(changes: Sequence[Change], before: int, after: int) -> Waterfall:
    lines = [Line(name=each.title, base_ns=0, new_ns=each.change_ns, change_ns=each.change_ns) for each in changes]
    assert before + sum(line.change_ns for line in lines) == after, "the changes do not close"  # noqa: S101 - our law
    return Waterfall(
        by="cause",
        title="By cause and culprit",
        meaning="What each change adds to the step. They sum to its change exactly.",
        base_ns=before,
        new_ns=after,
        lines=lines,
    )


def _unmatched_sentences(causes: Causes | None) -> list[str]:
    """Which ranks of either run stand alone."""
    if causes is None:
        return []
    sides = ((causes.unmatched, "new run", "base"), (causes.unmatched_base, "base", "new run"))
    described = [_alone(ranks, where, other) for ranks, where, other in sides if ranks]
    if described and causes.basis == "replay":
        described[-1] += ", so only the others are compared piece by piece"
    return [f"{each}." for each in described]


def _alone(ranks: Sequence[int], where: str, other: str) -> str:
    have = "has" if len(ranks) == 1 else "have"
    return f"{ranks_text(list(ranks)).capitalize()} of the {where} {have} no counterpart in the {other}"
