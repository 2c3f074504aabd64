"""The first screen: a verdict in a few sentences, the headline numbers that are known, and what is not and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from traceanalyzer.analysis.first_screen.story import first_fault, story_sentences
from traceanalyzer.analysis.first_screen.tiles import Known, profiled, tiles
from traceanalyzer.analysis.first_screen.withheld_causes import withheld_causes
from traceanalyzer.gaps.pipeline.bubble import BUBBLE_TOLERANCE
from traceanalyzer.gaps.pipeline.verdict import UNEVEN_SEQUENCE, lengthened_ms, most_of_it, schedule_explains
from traceanalyzer.review import (
    AllToAll,
    AllToAllTheory,
    Bubble,
    Figure,
    Finding,
    Headline,
    Mfu,
    Withheld,
)
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.waited_for import waited_for
from traceanalyzer.review.words import counted_by, flops_rate, milliseconds, percent, points, times
from traceanalyzer.tables.experts.routing import UNPAIRED

MIN_OVERHEAD_SHARE = 0.005
MIN_WAIT_SHARE = 0.01
MAX_RANKS = 8
"""Ranks of a pipeline that a sentence names."""


@dataclass(frozen=True, slots=True)
class Words:
    """Sentences about the captured ranks."""

    lead: Sequence[str] = ()
    """Before everything: which rank did not make a call, by flight-recorder dumps."""
    first: Sequence[str] = ()
    """Instead of a story, where there can be none."""
    spent: Sequence[str] = ()
    """Where the time went: said where no pipeline or exchange of experts can be measured, and of a lone rank."""
    scope: Sequence[str] = ()
    """What the figures stand for, of a sample."""
    next: Sequence[str] = ()


def headline(
    known: Known,
    words: Words,
    figures: Mapping[str, Figure],
    findings: Sequence[Finding],
    withheld: Sequence[Withheld],
) -> Headline:
    """The story first, then what is measured, then what to do next.

    Args:
        known: parts of the review.
        words: sentences about the captured ranks.
        figures: bounds and ranks of every figure.
        findings: all of the review.
        withheld: all of the review.
    """
    step = known.step
    opening = story_sentences(findings, step.duration_ms.median, step.least_reported_ms, known.bubble, known.study)
    opening = opening or list(words.first)
    measured = [
        *_bubble_sentences(
            known.bubble, first_fault(findings, known.step.least_reported_ms or 0.0), _of_sequence_ms(findings)
        ),
        *_all_to_all_sentences(known.all_to_all, " ".join(opening)),
        *_mfu_sentences(known.mfu),
    ]
    if not measured or known.alone is not None:
        measured = [*words.spent, *measured]
    return Headline(
        sentences=[*words.lead, *opening, *measured, *words.scope, *words.next],
        next_sentences=list(words.next),
        tiles=tiles(known, figures),
        withheld_causes=withheld_causes(withheld),
    )


def _of_sequence_ms(findings: Sequence[Finding]) -> float:
    """What an even cut of the sequence would save per step; 0 if that is not reported."""
    return max(
        (each.worth_ms or 0.0 for each in findings if each.id == "sequence.balanced" and not each.passed), default=0.0
    )


def _bubble_sentences(bubble: Bubble | None, fault: Finding | None, sequence_ms: float) -> list[str]:
    if bubble is None or bubble.measured_share is None:
        return []
    theory = theory_share(bubble)
    measured = f"The bubble takes {percent(bubble.measured_share)} of the pipeline phase{_of_pipelines(bubble)}"
    if theory is None:
        return [f"{measured}; there is no theory for this order of actions."]
    share, name = theory
    gap = bubble.measured_share - share
    if abs(gap) <= BUBBLE_TOLERANCE * share:
        explained = schedule_explains(bubble.largest_fault, bubble.fault_limit_ms or 0.0)
        verdict = "the schedule itself explains it" if explained else "as much as the schedule alone would give"
    elif gap > 0:
        why = f", {UNEVEN_SEQUENCE}" if 2 * sequence_ms > lengthened_ms(bubble) else _mostly(bubble, fault)
        verdict = f"{points(gap).lstrip('+')} of it are not the schedule's{why}"
    else:
        verdict = "less than equal stages would give: stages are unequal, or actions overlap"
    return [f"{measured}; {name} gives {percent(share)}: {verdict}.", *_pipelines(bubble), *_worst_stage(bubble)]


def _mostly(bubble: Bubble, fault: Finding | None) -> str:
    """What is most of what lengthens the phase, if anything is: the rank that the first sentence names, or else a cause."""
    size = (fault.worth_ms or fault.at_most_ms or 0.0) if fault is not None else 0.0
    most = most_of_it(bubble, fault.rank, size) if fault is not None else most_of_it(bubble)
    return "" if most is None else f", mostly because {most.clause}"


def _pipelines(bubble: Bubble) -> list[str]:
    """The slowest of several pipelines, and the rank of another that falls behind its replicas, where either counts."""
    sentences: list[str] = []
    limit = bubble.fault_limit_ms or 0.0
    slowest = next((each for each in bubble.pipelines if each.is_slowest), None)
    others = [each.phase_ms for each in bubble.pipelines if not each.is_slowest]
    if slowest is not None and others and slowest.phase_ms - median_low(others) > limit:
        ranks = ", ".join(map(str, slowest.ranks[:MAX_RANKS])) + (", ..." if len(slowest.ranks) > MAX_RANKS else "")
        sentences.append(
            f"The slowest of {len(bubble.pipelines)} pipelines is that of ranks {ranks}: its phase takes "
            f"{milliseconds(slowest.phase_ms)}, that of a usual one {milliseconds(median_low(others))}; its bubble takes "
            f"{percent(slowest.measured_share)}."
        )
    fault = bubble.largest_fault
    if fault is not None and fault.pipeline is None and not schedule_explains(fault, limit):
        sentences.append(
            f"Rank {fault.rank} computes {milliseconds(fault.ms)} per step longer than the median of its stage's ranks."
        )
    return sentences


def _of_pipelines(bubble: Bubble) -> str:
    """How many of the job's pipelines the share is of; nothing where it is the only one."""
    found, expected = bubble.num_pipelines, bubble.num_pipelines_expected
    if found is None or (found == 1 and expected in (None, 1)):
        return ""
    known = f"{found} of {expected}" if expected is not None else f"{found}"
    return f" ({known} pipelines)"


def _worst_stage(bubble: Bubble) -> list[str]:
    if not bubble.stages or bubble.overhead_share is None or bubble.phase_ms is None:
        return []
    if bubble.overhead_share < MIN_OVERHEAD_SHARE:
        return []
    worst = max(bubble.stages, key=lambda stage: stage.overhead_ms)
    what = "Late starts and messages on their way cost" if bubble.transfer_share is None else "Late starts cost"
    where = f"most on rank {worst.ranks[0]} ({milliseconds(worst.overhead_ms)} per step)"
    return [f"{what} another {percent(bubble.overhead_share)}, {where}."]


def _all_to_all_sentences(all_to_all: AllToAll | None, said: str) -> list[str]:
    """How full the fullest rank is, unless that was `said`, and how long ranks wait."""
    if all_to_all is None or all_to_all.rank_load_max_over_mean is None:
        return []
    ratio, theory = all_to_all.rank_load_max_over_mean, all_to_all.theory
    rows = "rows (split sizes of all-to-alls without a partner)" if all_to_all.loads_source == UNPAIRED else "tokens"
    full = f"receives {times(ratio)} the mean"
    sentences = [] if full in said else [f"The fullest rank {full} number of {rows}{_against_chance(ratio, theory)}."]
    wait = all_to_all.wait_share
    if wait is not None and wait >= MIN_WAIT_SHARE:
        who = waited_for(all_to_all)
        sentences.append(
            f"Ranks spend {percent(wait)} of their time waiting at all-to-alls{f', {who}' if who else ''}."
        )
    return sentences


def _against_chance(ratio: float, theory: AllToAllTheory | None) -> str:
    """The load ratio beside what a router without preference gives."""
    if (
        theory is None
        or theory.chance_rank is None
        or theory.chance_rank_high is None
        or theory.chance_rank_low is None
    ):
        return ""
    interval = f"{times(theory.chance_rank_low)} to {times(theory.chance_rank_high)}"
    if ratio < theory.chance_rank_low:
        return f", evener than chance would give ({interval})"
    return f", {'as' if ratio <= theory.chance_rank_high else 'beyond what'} chance gives ({interval})"


def _mfu_sentences(mfu: Mfu) -> list[str]:
    if mfu.mfu is None or mfu.peak_flops_per_device is None:
        return []
    peak = f"{flops_rate(mfu.peak_flops_per_device)} per device ({mfu.peak_basis})"
    shown = mfu.mfu if mfu.mfu_unprofiled is None else mfu.mfu_unprofiled
    traced = "" if mfu.mfu_unprofiled is None else f"; {profiled(mfu.mfu, mfu.mfu_unprofiled)}"
    return [f"The run reaches {percent(shown)} MFU (FLOPs: {counted_by(mfu.convention)}) of a peak of {peak}{traced}."]
