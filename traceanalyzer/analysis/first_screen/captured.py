"""What a capture covers, what a lone rank tells of its job, and which ranks to profile next."""

from __future__ import annotations

from traceanalyzer.review import OwnRouting, Quality, RankFigures, Sample
from traceanalyzer.review.words import counted, milliseconds, percent, ranks_text, times


def scope_sentences(captured: Sample, quality: Quality) -> list[str]:
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


def lone_rank_sentences(captured: Sample) -> list[str]:
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
    where = {"upstream": "before this one", "downstream": "behind this one"}
    if rank.side == "this":
        return [
            f"Rank {rank.rank} sets the pace itself, or no stage is slower ({times_text}, beyond a message each way)."
        ]
    if rank.side is None:
        why = f": {rank.side_reason}" if rank.side_reason else ""
        return [
            f"Rank {rank.rank} runs at a pace of {times_text}; on which side the slowest stage lies is not known{why}."
        ]
    cost = milliseconds(rank.others_cost_ms)
    return [
        f"A slower stage {where[rank.side]} sets the pace ({times_text}), which costs rank {rank.rank} {cost} per step."
    ]


def _waiting(rank: RankFigures) -> list[str]:
    """Bounds of what it waits; without a lower one, only that all of it may be waiting."""
    duration = sum(each.duration_ms for each in rank.waits)
    if not duration:
        return []
    low, high = (sum(getattr(each, end) for each in rank.waits) for end in ("low_ms", "high_ms"))
    inside = f"{milliseconds(duration)} per step inside communication"
    if low <= 0 and high >= duration:
        return [f"Rank {rank.rank} spends {inside}, hidden or not; how much of that is waiting needs a second rank."]
    between = f"{milliseconds(low)} to {milliseconds(high)}" if low > 0 else f"at most {milliseconds(high)}"
    return [
        f"Rank {rank.rank} spends {inside}, hidden or not: {between} of that is waiting (an estimate from its own durations)."
    ]


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
    present = {rank.rank for rank in captured.ranks}
    recommended = captured.recommended_ranks
    if recommended and recommended != captured.next_ranks and not present.issuperset(recommended):
        sentences.append(f"A sample for everything: {ranks_text(recommended)} ({captured.recommended_reason}).")
    return sentences
