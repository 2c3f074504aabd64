"""The first screen: a verdict in a few sentences, and each headline number beside its theory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from msgspec.structs import replace

from traceanalyzer.analysis.story import story_sentences
from traceanalyzer.gaps.pipeline.bubble import BUBBLE_TOLERANCE
from traceanalyzer.gaps.pipeline.verdict import schedule_explains
from traceanalyzer.gaps.sample.coverage import ledger_sentences, next_sentences, one_rank_sentences, sample_sentences
from traceanalyzer.review import (
    Accounting,
    AllToAll,
    AllToAllTheory,
    Bubble,
    Figure,
    Finding,
    Headline,
    Mfu,
    Quality,
    RankFigures,
    Sample,
    StepFigures,
    Tile,
    Withheld,
)
from traceanalyzer.review.sections.step import spread
from traceanalyzer.review.theory import theory_share
from traceanalyzer.review.vocabulary import TileId
from traceanalyzer.review.words import counted, flops_rate, milliseconds, n_of_n, percent, points, times
from traceanalyzer.tables.experts.routing import UNPAIRED

MIN_OVERHEAD_SHARE = 0.005
MIN_WAIT_SHARE = 0.01
MAX_RANKS = 8
"""Ranks of a pipeline that a sentence names."""
_DEFINITIONS: dict[TileId, str] = {
    "bubble": "time a rank had nothing it could compute ÷ pipeline phase, summed over the ranks of all whole captured pipelines, median over steps",
    "all_to_all": "tokens received by the fullest rank ÷ mean over ranks, averaged over layers and steps",
    "mfu": "model FLOPs per step ÷ (step time × peak × devices)",
    "between_chunks": "time of a rank outside its chunks ÷ its first chunk's start to its last chunk's end",
    "step_time": "the longest rank's step window, median over the typical steps",
}

_FIGURES: dict[TileId, tuple[str, ...]] = {
    "bubble": ("bubble.measured_share",),
    "all_to_all": ("all_to_all.rank_load_max_over_mean",),
    "mfu": ("mfu.mfu_unprofiled", "mfu.mfu"),
    "step_time": ("step.duration_ms.median",),
}
"""Where the bounds of a tile's value stand; the first that is there."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What to say of the captured ranks."""

    lead: Sequence[str] = ()
    """Of a sample with whole groups: what the figures stand for."""
    ledger: Sequence[str] = ()
    """Where the time went: said where nothing else can be measured, and of a lone rank."""
    rank: Sequence[str] = ()
    """What a lone rank says."""
    next: Sequence[str] = ()
    alone: RankFigures | None = None
    """The lone rank."""


def coverage_words(
    step: StepFigures, accounting: Accounting, result: Quality, captured: Sample, ranks: Sequence[int]
) -> Coverage:
    """What to say of these captured `ranks`."""
    return Coverage(
        lead=sample_sentences(captured, result),
        ledger=ledger_sentences(step, accounting.owners, result, ranks, captured),
        rank=one_rank_sentences(captured),
        next=next_sentences(captured),
        alone=captured.ranks[0] if captured.coverage == "one_rank" else None,
    )


def headline(
    bubble: Bubble | None,
    all_to_all: AllToAll | None,
    mfu: Mfu,
    step: StepFigures,
    withheld: Sequence[Withheld],
    words: Coverage,
    figures: Mapping[str, Figure],
    findings: Sequence[Finding],
) -> Headline:
    """Sentences and tiles. Bubble, all-to-all and MFU always have a tile: a number, or why there is none."""
    reasons = {item.metric: item.reason for item in withheld}
    tiles = [
        _bubble_tile(bubble, reasons),
        _all_to_all_tile(all_to_all, reasons),
        _mfu_tile(mfu, reasons),
        _step_tile(step),
        *_rank_tiles(words.alone),
    ]
    tiles = [_with_ranks(tile, figures) for tile in tiles]
    sentences = [
        *_bubble_sentences(bubble),
        *_all_to_all_sentences(all_to_all),
        *_mfu_sentences(mfu),
    ]
    if not sentences or words.alone is not None:
        sentences = [*words.ledger, *words.rank, *sentences]
    median = step.duration_ms.median
    noise = step.noise_ms / median if step.noise_ms is not None and median else 0.0
    told = story_sentences(findings, median, noise)
    return Headline(sentences=[*words.lead, *told, *sentences, *words.next], tiles=tiles)


def _with_ranks(tile: Tile, figures: Mapping[str, Figure]) -> Tile:
    """The tile with the number of ranks its value comes from, where these are not all."""
    known = (figures[path] for path in _FIGURES.get(tile.id, ()) if path in figures)
    figure = next(known, None)
    if tile.value_text is None or figure is None or figure.num_ranks == figure.num_ranks_expected:
        return tile
    ranks = n_of_n(figure.num_ranks, figure.num_ranks_expected)
    return replace(tile, gap_text=f"{tile.gap_text}; {ranks}" if tile.gap_text else ranks)


def _rank_tiles(alone: RankFigures | None) -> list[Tile]:
    """Of a lone pipeline rank: what passed between its chunks."""
    if alone is None or alone.between_chunks_share is None:
        return []
    theory = alone.equal_stages_share
    gap = points(alone.between_chunks_share - theory) if theory is not None else None
    return [
        Tile(
            id="between_chunks",
            title=f"Between chunks of rank {alone.rank}",
            value_text=percent(alone.between_chunks_share),
            theory_text=f"{percent(theory)} with equal stages, {alone.schedule}" if theory is not None else None,
            gap_text=f"{gap}; one rank" if gap else "one rank",
            status="neutral",
            note="of this rank's own window; it is not the bubble of the job",
            definition=_DEFINITIONS["between_chunks"],
        )
    ]


def _bubble_sentences(bubble: Bubble | None) -> list[str]:
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
        verdict = f"{points(gap).lstrip('+')} of it are not the schedule's"
    else:
        verdict = "less than equal stages would give: stages are unequal, or actions overlap"
    return [f"{measured}; {name} gives {percent(share)}: {verdict}.", *_pipelines(bubble), *_worst_stage(bubble)]


def _pipelines(bubble: Bubble) -> list[str]:
    """The slowest of several pipelines, and the rank of another that falls behind its replicas, where either counts."""
    sentences: list[str] = []
    limit = bubble.fault_limit_ms or 0.0
    slowest = next((each for each in bubble.pipelines if each.is_slowest), None)
    others = [each.phase_ms for each in bubble.pipelines if not each.is_slowest]
    if slowest is not None and others and slowest.phase_ms - median(others) > limit:
        ranks = ", ".join(map(str, slowest.ranks[:MAX_RANKS])) + (", ..." if len(slowest.ranks) > MAX_RANKS else "")
        sentences.append(
            f"The slowest of {len(bubble.pipelines)} pipelines is that of ranks {ranks}: its phase takes "
            f"{milliseconds(slowest.phase_ms)}, the median of the others {milliseconds(median(others))}; its bubble takes "
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


def _all_to_all_sentences(all_to_all: AllToAll | None) -> list[str]:
    if all_to_all is None or all_to_all.rank_load_max_over_mean is None:
        return []
    ratio, theory = all_to_all.rank_load_max_over_mean, all_to_all.theory
    rows = "rows (split sizes of all-to-alls without a partner)" if all_to_all.loads_source == UNPAIRED else "tokens"
    sentences = [f"The fullest rank receives {times(ratio)} the mean number of {rows}{_against_chance(ratio, theory)}."]
    wait = all_to_all.wait_share
    if wait is not None and wait >= MIN_WAIT_SHARE:
        who = f", mostly for rank {all_to_all.slowest_rank}" if all_to_all.slowest_rank is not None else ""
        sentences.append(f"Ranks spend {percent(wait)} of their time waiting at all-to-alls{who}.")
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
    profiled = "" if mfu.mfu_unprofiled is None else f"; {_profiled(mfu.mfu, mfu.mfu_unprofiled)}"
    return [f"The run reaches {percent(shown)} MFU ({counted_as(mfu.convention)}) of a peak of {peak}{profiled}."]


_GIVEN = {"declared": "FLOPs as declared", "recorded_shapes": "FLOPs of the recorded shapes, every key counted"}


def counted_as(convention: str | None) -> str:
    """How FLOPs were counted, or where they come from."""
    return _GIVEN.get(convention or "", f"FLOPs counted as {convention}")


def _profiled(mfu: float, unprofiled: float) -> str:
    """MFU under the profiler, and how much longer it makes the step: MFU is work over time."""
    if unprofiled <= mfu:
        return f"{percent(mfu)} under the profiler"
    return f"{percent(mfu)} under the profiler, which makes the step {times(unprofiled / mfu)} as long"


def _withheld_tile(tile: TileId, title: str, reason: str) -> Tile:
    return Tile(
        id=tile,
        title=title,
        value_text=None,
        theory_text=None,
        gap_text=None,
        status="withheld",
        note=reason,
        definition=_DEFINITIONS[tile],
    )


def _bubble_tile(bubble: Bubble | None, reasons: Mapping[str, str]) -> Tile:
    if bubble is None or bubble.measured_share is None:
        reason = reasons.get("bubble") or reasons.get("bubble.measured_share", "not measured")
        return _withheld_tile("bubble", "Pipeline bubble", reason)
    theory = theory_share(bubble)
    gap = bubble.measured_share - theory[0] if theory else None
    good = gap is not None and theory is not None and gap <= BUBBLE_TOLERANCE * theory[0]
    return Tile(
        id="bubble",
        title="Pipeline bubble",
        value_text=percent(bubble.measured_share),
        theory_text=f"{percent(theory[0])} {theory[1]}" if theory else None,
        gap_text=points(gap) if gap is not None else None,
        status="neutral" if gap is None else "good" if good else "bad",
        note=None if theory else reasons.get("bubble.theory.closed_form_share"),
        definition=_DEFINITIONS["bubble"],
    )


def _all_to_all_tile(all_to_all: AllToAll | None, reasons: Mapping[str, str]) -> Tile:
    title = "All-to-all imbalance"
    if all_to_all is None or all_to_all.rank_load_max_over_mean is None:
        reason = reasons.get("all_to_all") or reasons.get("all_to_all.rank_load_max_over_mean", "not measured")
        return _withheld_tile("all_to_all", title, reason)
    ratio, theory = all_to_all.rank_load_max_over_mean, all_to_all.theory
    high = theory.chance_rank_high if theory else None
    chance = theory.chance_rank if theory else None
    cost = all_to_all.imbalance_cost_ms
    return Tile(
        id="all_to_all",
        title=title,
        value_text=times(ratio),
        theory_text=f"1.00× balanced, {times(chance)} by chance" if chance is not None else "1.00× balanced",
        gap_text=f"costs {milliseconds(cost)} per step" if cost is not None else None,
        status="neutral" if high is None else "good" if ratio <= high else "bad",
        note=None if chance is not None else reasons.get("all_to_all.chance_max_over_mean"),
        definition=_DEFINITIONS["all_to_all"],
    )


def _mfu_tile(mfu: Mfu, reasons: Mapping[str, str]) -> Tile:
    if mfu.mfu is None or mfu.peak_flops_per_device is None:
        return _withheld_tile("mfu", "MFU", reasons.get("mfu.mfu", "not measured"))
    unprofiled = mfu.mfu_unprofiled
    return Tile(
        id="mfu",
        title="MFU",
        value_text=percent(mfu.mfu if unprofiled is None else unprofiled),
        theory_text=f"100% is {flops_rate(mfu.peak_flops_per_device)}, {mfu.peak_basis}",
        gap_text=_profiled(mfu.mfu, unprofiled) if unprofiled is not None else None,
        status="neutral",
        note=(
            f"{counted_as(mfu.convention)}; {'without' if unprofiled is not None else 'by the traced step, with'} profiler"
            + (f"; {percent(mfu.predicted_mfu)} predicted for the traced step" if mfu.predicted_mfu is not None else "")
        ),
        definition=_DEFINITIONS["mfu"],
    )


def _step_tile(step: StepFigures) -> Tile:
    if step.duration_ms.median is None:
        return _withheld_tile("step_time", "Step time", "no step window in these traces")
    unprofiled = f"{milliseconds(step.unprofiled_ms)} without profiler" if step.unprofiled_ms is not None else None
    return Tile(
        id="step_time",
        title="Step time",
        value_text=milliseconds(step.duration_ms.median),
        theory_text=unprofiled,
        gap_text=_num_steps(step),
        status="neutral",
        note="the window's end is not bounded by a following step" if step.open_end else None,
        definition=_DEFINITIONS["step_time"],
    )


def _num_steps(step: StepFigures) -> str:
    """How many steps the figure is of, for example `2 of 3 steps captured`, and how much they differ."""
    num_typical, num_captured = step.duration_ms.num_steps, step.num_captured
    differing = f", of {text}" if (text := spread(step.duration_ms)) else ""
    if num_captured is None or num_captured == num_typical:
        return f"{counted(num_typical, 'step')} captured{differing}"
    return f"{num_typical} of {counted(num_captured, 'step')} captured{differing}"
