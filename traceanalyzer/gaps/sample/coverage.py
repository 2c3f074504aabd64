"""What a capture covers, in a sentence, and what its ranks did with their time."""

from __future__ import annotations

from collections.abc import Sequence

from traceanalyzer.review import OwnerShare, OwnRouting, Quality, RankFigures, Sample, StepFigures
from traceanalyzer.review.sections.step import spread
from traceanalyzer.review.words import counted, milliseconds, percent, ranks_text, times

_OWNERS = {
    "compute": "computes",
    "transfer": "transfers exposed data",
    "wait": "waits for other ranks",
    "communication": "is in exposed communication (wait and transfer cannot be told apart without the other ranks)",
    "copy": "copies",
    "queued": "has launched work that has not started, with nothing else on the device (why is not recorded)",
    "launch_gap": "is between launches",
    "host": "waits for its host",
    "unknown": "is unaccounted for",
}
MIN_SHARE = 0.01


def ledger_sentences(
    step: StepFigures, owners: Sequence[OwnerShare], quality: Quality, ranks: Sequence[int], captured: Sample
) -> list[str]:
    """Coverage, step time and where the time went: what can be said of any capture."""
    if step.duration_ms.median is None:
        return ["These traces hold no step that could be measured."]
    shown = [row for row in sorted(owners, key=lambda row: -row.share) if row.share >= MIN_SHARE]
    if not shown:
        return [f"{who(quality, ranks, captured)}: the captured steps have no length."]
    spent = ", ".join(f"{_OWNERS[row.owner]} for {percent(row.share)}" for row in shown)
    differing = f" ({text})" if (text := spread(step.duration_ms)) else ""
    steps = f"{counted(step.duration_ms.num_steps, 'step')} of {milliseconds(step.duration_ms.median)}{differing}"
    return [f"{who(quality, ranks, captured)}, {steps}: {subject(ranks)} {spent} of its time."]


def who(quality: Quality, ranks: Sequence[int], captured: Sample) -> str:
    """Which ranks of how many, for example `Rank 12 only (stage 3 of 8; 1 of 1,024)`."""
    total = f"{quality.num_ranks_expected:,}" if quality.num_ranks_expected else "an unknown number of"
    if len(ranks) == quality.num_ranks_expected:
        return "All ranks" if len(ranks) > 1 else "The only rank"
    if len(ranks) == 1:
        return f"Rank {ranks[0]} only ({_stage(captured.ranks[0])}1 of {total.removesuffix(' of')})"
    return f"{len(ranks)} of {total} ranks"


def subject(ranks: Sequence[int]) -> str:
    """Whose time the ledger is."""
    return "it" if len(ranks) == 1 else "the mean rank"


def _stage(rank: RankFigures) -> str:
    if not rank.stages or rank.num_stages is None:
        return ""
    stages = ", ".join(map(str, rank.stages))
    return f"{'stage' if len(rank.stages) == 1 else 'stages'} {stages} of {rank.num_stages}; "


def sample_sentences(captured: Sample, quality: Quality) -> list[str]:
    """What whole groups among the captured ranks stand for; nothing where all ranks or no whole group are here."""
    total = f"{quality.num_ranks_expected:,}" if quality.num_ranks_expected else "an unknown number of"
    named = {
        "pipelines": (captured.num_whole_pipelines, "whole pipeline", "other pipelines"),
        "expert_groups": (captured.num_whole_expert_groups, "whole expert group", "other groups, nor of a pipeline"),
        "replicas": (1, "stage with all its replicas", "other stages"),
    }
    if captured.coverage not in named:
        return []
    number, noun, others = named[captured.coverage]
    whole = counted(number, noun)
    if captured.coverage == "pipelines" and captured.num_whole_expert_groups:
        whole, others = f"{whole} and {counted(captured.num_whole_expert_groups, 'whole expert group')}", "the others"
    elif captured.coverage == "pipelines" and captured.num_whole_replicas:
        whole = f"{whole} and {counted(captured.num_whole_replicas, 'stage')} with all replicas"
        others = "other pipelines as a whole"
    return [f"{quality.num_ranks_found} of {total} ranks: {whole}. They say nothing of {others}."]


def one_rank_sentences(captured: Sample) -> list[str]:
    """What a lone rank says of the pipeline, its waiting and its experts; nothing where other ranks are here too."""
    if captured.coverage != "one_rank":
        return []
    rank = captured.ranks[0]
    return [*_between_chunks(rank), *_pace(rank), *_waiting(rank), *_routing(rank.routing)]


def _between_chunks(rank: RankFigures) -> list[str]:
    if rank.between_chunks_share is None:
        return []
    measured = f"Between its chunks {percent(rank.between_chunks_share)} of its pipeline window passed"
    if rank.equal_stages_share is None:
        return [f"{measured}."]
    return [f"{measured}; equal stages would give {percent(rank.equal_stages_share)} ({rank.schedule})."]


def _pace(rank: RankFigures) -> list[str]:
    if rank.pace_ms is None or rank.own_ms is None or rank.others_cost_ms is None:
        return []
    times_text = f"{milliseconds(rank.pace_ms)} per microbatch against {milliseconds(rank.own_ms)} of its own"
    where = {"upstream": "before it", "downstream": "behind it"}
    if rank.side == "this":
        return [f"It sets the pace itself, or no stage is slower ({times_text}, beyond a message each way)."]
    if rank.side is None:
        why = f": {rank.side_reason}" if rank.side_reason else ""
        return [f"It runs at a pace of {times_text}; on which side the slowest stage lies cannot be told{why}."]
    cost = milliseconds(rank.others_cost_ms)
    return [f"A slower stage {where[rank.side]} sets the pace ({times_text}), which costs it {cost} per step."]


def _waiting(rank: RankFigures) -> list[str]:
    duration = sum(each.duration_ms for each in rank.waits)
    if not duration:
        return []
    low, high = (sum(getattr(each, end) for each in rank.waits) for end in ("low_ms", "high_ms"))
    waited = f"{milliseconds(low)} to {milliseconds(high)} are estimated to be waiting, by its own durations"
    return [f"Of {milliseconds(duration)} per step inside communication (exposed or not) {waited}."]


def _routing(own: OwnRouting | None) -> list[str]:
    if own is None:
        return []
    received = (
        ""
        if own.received_over_sent is None
        else f"; its own experts get {times(own.received_over_sent)} of what it sends, which is the mean load if all send alike"
    )
    sent = f"{times(own.sent_max_over_mean)} ({times(own.low)} to {times(own.high)}, binomial 95%)"
    return [f"Of its tokens rank {own.hottest} gets {sent} the mean member's part{received}."]


def next_sentences(captured: Sample) -> list[str]:
    """Which ranks to profile next, and what would be a sample for everything."""
    if captured.coverage == "all":
        return []
    sentences: list[str] = []
    if captured.next_reason is not None:
        what = f"profile {ranks_text(captured.next_ranks)}: " if captured.next_ranks else ""
        sentences.append(f"Next: {what}{captured.next_reason}.")
    if captured.recommended_ranks and captured.recommended_ranks != captured.next_ranks:
        sentences.append(
            f"A sample for everything: {ranks_text(captured.recommended_ranks)} ({captured.recommended_reason})."
        )
    return sentences
